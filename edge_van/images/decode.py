"""An encoded image to a pixel array.

In: the bytes of an image file and an ``InputSpec``. Out: uint8 (H, W, C) at the network's size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
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

with suppress(ImportError):  # from Pillow 11.3 on
    from PIL import AvifImagePlugin  # noqa: F401

from edge_van.errors import DataError
from edge_van.images.quiet import silence_libtiff
from edge_van.input_spec import InputSpec
from edge_van.text import single_line

silence_libtiff()
MAX_PIXELS = 178_956_970
"""Where Pillow takes an image for a decompression bomb; applied to the image as stored and as resized."""

Pixels = npt.NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WebP", "TIFF", "PPM", "AVIF")
"""Others are never tried: Pillow knows some that start other programs. HEIC is read where pillow-heif is installed."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

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
    """The bytes of an image file as uint8 (H, W, C) of ``spec.size``: resized as the spec says, then centre-cropped.

    The EXIF orientation is applied (an unreadable EXIF block counts as none). Colours come in ``spec.source_order``;
    one channel is the grey of a colour (ITU-R 601, as Pillow and torchvision have it). Transparency is dropped, not
    blended, as torchvision's ``convert("RGB")`` does; for four channels the file must hold a fourth band. 16-bit greys
    keep their upper 8 bits. Of an animation the first frame is taken. With ``spec.source_size`` the image must have
    that size and comes back unresized.

    Raises BrokenImageError for bytes that are no whole image, that hold floating-point pixels, or that need over
    ``MAX_PIXELS`` pixels; DataError for a size other than ``spec.source_size``.
    """
    image = _read(data, spec.channels)
    if spec.source_size is not None:
        if (image.height, image.width) != spec.source_size:
            raise DataError(
                f"the image is {image.height} x {image.width} (height x width), the model takes "
                f"{spec.source_size[0]} x {spec.source_size[1]} and resizes itself: send that size, or export the "
                "model without a source size"
            )
        return to_pixels(image, spec)
    height, width = spec.resized(image.height, image.width)
    if height * width > MAX_PIXELS:
        raise BrokenImageError(f"{image.width} x {image.height} pixels is too elongated to be resized")
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[spec.interpolation.upper()])
    if (height, width) != spec.size:
        image = _padded(image, spec) if spec.resize == "pad" else image.crop(spec.crop_box(height, width))
    return to_pixels(image, spec)


def _padded(image: Image.Image, spec: InputSpec) -> Image.Image:
    color = spec.pad_color or (0,) * spec.channels
    whole = Image.new(image.mode, spec.size[::-1], color if spec.channels > 1 else color[0])
    left, top, _, _ = spec.bars(image.height, image.width)
    whole.paste(image, (left, top))
    return whole


def to_pixels(image: Image.Image, spec: InputSpec) -> Pixels:
    """A Pillow image of mode L, RGB or RGBX as uint8 (H, W, C), in the order that a device sends."""
    # a bytearray, as an array over bytes would be read-only
    pixels = np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width, spec.channels)
    return pixels if spec.source_order == "rgb" else np.ascontiguousarray(pixels[:, :, in_bgr(spec.channels)])


def in_bgr(channels: int) -> list[int]:
    """Which channel of a colour image stands where once red and blue are swapped; a fourth one stays."""
    return [2, 1, 0, 3][:channels]


def as_image(pixels: Pixels, spec: InputSpec) -> Image.Image:
    """The inverse of what ``decode`` does last: (H, W, C) as a Pillow image of mode L, RGB or RGBX."""
    if spec.source_order == "bgr":
        pixels = pixels[:, :, in_bgr(spec.channels)]
    mode = {1: "L", 3: "RGB", 4: "RGBX"}[spec.channels]
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())


def as_rgb(pixels: Pixels, spec: InputSpec) -> Pixels:
    """(H, W, 3) RGB of ``decode``'s (H, W, C), for showing: greys as colours, without a fourth channel."""
    if spec.channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, [2, 1, 0] if spec.source_order == "bgr" else [0, 1, 2]]


def _read(data: bytes, channels: int) -> Image.Image:
    """The image upright and in mode L, RGB or RGBX."""
    if not data:
        raise BrokenImageError("0 bytes")
    name, opened = _reader(data)
    # Image.open(formats=...) would warn of images well under MAX_PIXELS, which only a change of global state could
    # stop, and call a JPEG with a damaged header a file of no known format
    try:
        image: Image.Image = opened(io.BytesIO(data), "")
        if image.width * image.height > MAX_PIXELS:
            raise BrokenImageError(f"{image.width} x {image.height} pixels, over the limit of {MAX_PIXELS}")
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        image = _with_channels(image, channels)
        return image if turn is None else image.transpose(turn)
    except BrokenImageError:
        raise
    except MemoryError as error:
        raise BrokenImageError("it needs more memory than there is") from error
    except Exception as error:  # damaged bytes raise anything from OSError to KeyError in Pillow's readers
        text = single_line(error, 100) or type(error).__name__
        raise BrokenImageError(f"damaged {name} ({text})") from error


def _reader(data: bytes) -> tuple[str, Callable[..., Image.Image]]:
    """(format, what opens it) by how ``data`` begins; ``BrokenImageError`` for a format that is not read here."""
    is_avif = data[4:8] == b"ftyp" and (data[8:12] in (b"avif", b"avis") or b"avif" in data[16:64])
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and not is_avif:
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise BrokenImageError("a HEIC image, which needs pillow-heif: pip install 'edge-van[heif]'") from None
        return "HEIC", HeifImageFile
    name = next((name for name in FORMATS if _begins(data, name)), None)
    if name is None and is_avif:
        raise BrokenImageError("an AVIF image, which needs Pillow 11.3 or newer: pip install --upgrade pillow")
    if name is None:
        raise BrokenImageError("content of no known image format")
    return name, Image.OPEN[name.upper()][0]


def _begins(data: bytes, name: str) -> bool:
    """Whether ``data`` begins as a file of that format does, by Pillow's own test."""
    _, accepts = Image.OPEN.get(name.upper(), (None, None))
    return accepts is not None and accepts(data[:16].ljust(16, b"\0")) is True  # a text: not in this Pillow


def _orientation(image: Image.Image) -> int:
    if image.info.keys().isdisjoint(_EXIF_KEYS):  # getexif() would build an empty block at a tenth of a small decode
        return 1
    try:
        return cast(int, image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - sound images with a damaged EXIF block are common, ImageNet has some
        return 1


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    if channels == 4:
        return _four_bands(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode == "F":
        raise BrokenImageError("floating-point pixels, whose range is unknown; convert it to 8 bits")
    if image.mode.startswith("I"):  # I;16, I;16B, and I, which holds 16-bit values too: convert() would clip them
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BrokenImageError("integer pixels outside 0..65535, whose range is unknown; convert it to 8 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # else Pillow warns that it gets lost
    return image.convert(mode)


def _four_bands(image: Image.Image) -> Image.Image:
    """As RGBX: Pillow multiplies the colours of an RGBA image by its alpha when it resizes it."""
    if image.mode == "CMYK":
        raise BrokenImageError("four inks (CMYK), the network takes colours and a fourth band: save it as RGBA")
    if image.mode not in ("RGBA", "RGBX"):
        raise BrokenImageError(
            f"{len(image.getbands())} channels ({image.mode}), the network takes 4: save it with its fourth band, as "
            f"an RGBA PNG or TIFF"
        )
    return Image.frombytes("RGBX", image.size, image.tobytes())
