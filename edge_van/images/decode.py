"""An encoded image to a pixel array.

In: the bytes of an image file and an ``InputSpec``. Out: uint8 RGB (H, W, 3) at the network's size.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import IO, cast

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from edge_van.errors import DataError
from edge_van.input_spec import InputSpec
from edge_van.text import single_line

MAX_PIXELS = 178_956_970
"""Where Pillow takes an image for a decompression bomb; applied to the image as stored and as resized."""

Pixels = npt.NDArray[np.uint8]
_Reader = Callable[[IO[bytes], str], ImageFile.ImageFile]

# Pillow's readers are called directly: ``Image.open`` would try every format it knows (among them some that start
# other programs), and warns about large images through global state before their size can be looked at.
_READERS: dict[str, _Reader] = {
    "JPEG": cast(_Reader, JpegImagePlugin.jpeg_factory),
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_MAGIC = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<BMP>BM)|(?P<GIF>GIF8[79]a)|(?P<WebP>RIFF....WEBP)"
    rb"|(?P<TIFF>II\*\0|MM\0\*|II\+\0|MM\0\+)|(?P<PPM>P[1-6]\s)",
    re.DOTALL,
)
_ORIENTATION = 0x0112
_EXIF_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # Pillow turns a TIFF by itself
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImageError(DataError):
    """A file that is no readable image. ``reason`` says in a few words why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the image cannot be used: {reason}; expected a whole {', '.join(_READERS)} file: replace it")
        self.reason = reason


def decode(data: bytes, spec: InputSpec) -> Pixels:
    """The bytes of an image file as uint8 (H, W, 3) RGB of ``spec.size``: resized, then centre-cropped.

    The EXIF orientation is applied (an unreadable EXIF block counts as none). Transparency is dropped, not blended,
    as torchvision's ``convert("RGB")`` does. 16-bit greys keep their upper 8 bits. Of an animation the first frame
    is taken. With ``spec.source_size`` the image must have that size and comes back unresized, (*source_size, 3).

    Raises BrokenImageError for bytes that are no whole image, that hold floating-point pixels, or that need over
    ``MAX_PIXELS`` pixels; DataError for a size other than ``spec.source_size``.
    """
    image = _read_rgb(data)
    if spec.source_size is not None:
        if (image.height, image.width) != spec.source_size:
            raise DataError(
                f"the image is {image.height} x {image.width} (height x width), the model takes "
                f"{spec.source_size[0]} x {spec.source_size[1]} and resizes itself: send that size, or export the "
                "model without a source size"
            )
        return _pixels(image)
    height, width = spec.resized(image.height, image.width)
    if height * width > MAX_PIXELS:
        raise BrokenImageError(f"{image.width} x {image.height} pixels is too elongated to be resized")
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[spec.interpolation.upper()])
    if (height, width) != spec.size:
        image = image.crop(spec.crop_box(height, width))
    return _pixels(image)


def _pixels(image: Image.Image) -> Pixels:
    # a bytearray, as an array over bytes would be read-only
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width, 3)


def _read_rgb(data: bytes) -> Image.Image:
    """The image upright and in mode RGB."""
    if not data:
        raise BrokenImageError("0 bytes")
    magic = _MAGIC.match(data)
    if magic is None or magic.lastgroup is None:
        raise BrokenImageError("content of no known image format")
    try:
        image: Image.Image = _READERS[magic.lastgroup](io.BytesIO(data), "")
        if image.width * image.height > MAX_PIXELS:
            raise BrokenImageError(f"{image.width} x {image.height} pixels, over the limit of {MAX_PIXELS}")
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        image = _to_rgb(image)
        return image if turn is None else image.transpose(turn)
    except BrokenImageError:
        raise
    except MemoryError as error:
        raise BrokenImageError("it needs more memory than there is") from error
    except Exception as error:  # damaged bytes raise anything from OSError to KeyError in Pillow's readers
        text = single_line(error, 100) or type(error).__name__
        raise BrokenImageError(f"damaged {magic.lastgroup} ({text})") from error


def _orientation(image: Image.Image) -> int:
    if image.info.keys().isdisjoint(_EXIF_KEYS):  # getexif() would build an empty block at a tenth of a small decode
        return 1
    try:
        return cast(int, image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - sound images with a damaged EXIF block are common, ImageNet has some
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise BrokenImageError("floating-point pixels, whose range is unknown; convert it to 8 bits")
    if image.mode.startswith("I"):  # I;16, I;16B, and I, which holds 16-bit values too: convert() would clip them
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BrokenImageError("integer pixels outside 0..65535, whose range is unknown; convert it to 8 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # else Pillow warns that it gets lost
    return image.convert("RGB")
