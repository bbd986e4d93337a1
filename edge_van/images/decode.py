"""An encoded image to a pixel array.

In: the bytes of an image file and an ``InputSpec``. Out: uint8 RGB (H, W, 3) at the network's size.
"""

from __future__ import annotations

import io
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import (  # noqa: F401  Pillow's readers: each registers itself in Image.OPEN
    BmpImagePlugin,
    GifImagePlugin,
    Image,
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
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF", "PPM")
"""Others are never tried: Pillow knows some that start other programs."""

# ImageOps.exif_transpose writes a turned image's EXIF block anew: half the time of a small decode again, and an error
# where a tag beside the orientation is damaged.
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
        super().__init__(f"the image cannot be used: {reason}; expected a whole {', '.join(FORMATS)} file: replace it")
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
    name = next((name for name in FORMATS if _begins(data, name)), None)
    if name is None:
        raise BrokenImageError("content of no known image format")
    # Image.open(formats=...) would warn of images well under MAX_PIXELS, which only a change of global state could
    # stop, and call a JPEG with a damaged header a file of no known format
    try:
        image: Image.Image = Image.OPEN[name.upper()][0](io.BytesIO(data), "")
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
        raise BrokenImageError(f"damaged {name} ({text})") from error


def _begins(data: bytes, name: str) -> bool:
    """Whether ``data`` begins as a file of that format does, by Pillow's own test."""
    accepts = Image.OPEN[name.upper()][1]
    return accepts is not None and accepts(data[:16].ljust(16, b"\0")) is True  # a text: not in this Pillow


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
