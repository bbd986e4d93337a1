"""Encoded images to pixel arrays: one at a time, or a whole set in parallel and in order.

In: the bytes of image files and an ``InputSpec``. Out: uint8 RGB arrays at the network's size, batch by batch.
"""

from __future__ import annotations

import io
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

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

from edge_van.errors import DataError, UsageError
from edge_van.input_spec import InputSpec

if TYPE_CHECKING:
    from edge_van.images.sets import ImageSet

MAX_PIXELS = 178_956_970
"""Where Pillow takes an image for a decompression bomb; applied to the image as stored and as resized."""

CHUNK = 16
"""Images one task decodes: enough to hide what a task costs, few enough that closing a stream does not wait."""

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


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """An image a stream left out: its name in the set, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Decoded images, in the order asked for.

    indices  int64 (N,), positions in ``ImageSet.items``
    images   uint8 (N, H, W, 3), RGB
    labels   int64 (N,), -1 where unknown
    """

    indices: npt.NDArray[np.int64]
    images: Pixels
    labels: npt.NDArray[np.int64]


@dataclass
class StreamStats:
    """What a stream has done so far; complete once the stream is exhausted.

    images    images delivered
    broken    images left out, in order
    decode_s  processor seconds spent reading and decoding, summed over the workers (waiting for a disk, or for each
              other, is not counted)
    wait_s    seconds the consumer stood waiting for a batch: what decoding adds to the run
    """

    images: int = 0
    broken: list[BrokenImage] = field(default_factory=list)
    decode_s: float = 0.0
    wait_s: float = 0.0


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
        text = " ".join(str(error).split())[:100] or type(error).__name__
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


def stream(
    images: ImageSet,
    spec: InputSpec,
    *,
    batch_size: int,
    indices: Sequence[int] | None = None,
    workers: int | None = None,
    strict: bool = False,
    on_broken: Callable[[BrokenImage], None] | None = None,
    stats: StreamStats | None = None,
) -> Generator[Batch, None, None]:
    """Decode the images at ``indices`` (None: all) in order, in batches, by ``workers`` threads (None: up to 4).

    A broken image is left out and passed to ``on_broken``, in order and in the caller's thread, so a batch may hold
    fewer than ``batch_size`` images; one that would hold none is not delivered. With ``strict`` a broken image ends
    the stream with a DataError instead, as one of a wrong size always does. Memory does not grow with the number of
    images: two batches, or two tasks per worker where that is more, are under way. Closing the generator ends the
    threads. ``stats`` is filled in while the stream runs. Raises UsageError at the call for arguments out of range.
    """
    workers = min(4, os.cpu_count() or 1) if workers is None else workers
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise UsageError(f"{name} is a number of 1 or more; got {value!r}")
    order: Sequence[int] = range(len(images.items)) if indices is None else [int(i) for i in indices]
    for index in order:
        if not 0 <= index < len(images.items):
            raise UsageError(
                f"indices are positions from 0 to {len(images.items) - 1} in {images.source}; got {index!r}"
            )
    run = _Run(images, spec, strict, on_broken or (lambda broken: None), stats if stats is not None else StreamStats())
    return run.batches(order, batch_size, workers)


@dataclass
class _Run:
    """One pass over a set. Workers only fill rows; all that is reported happens in the consumer's thread."""

    images: ImageSet
    spec: InputSpec
    strict: bool
    on_broken: Callable[[BrokenImage], None]
    stats: StreamStats
    stop: threading.Event = field(default_factory=threading.Event)

    def batches(self, order: Sequence[int], batch_size: int, workers: int) -> Generator[Batch, None, None]:
        chunk = min(CHUNK, math.ceil(batch_size / workers))
        ahead = max(2, math.ceil(2 * workers / math.ceil(batch_size / chunk)))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="edge-van-decode")
        under_way: deque[tuple[Sequence[int], Pixels, list[Future[_Filled]]]] = deque()
        starts = iter(range(0, len(order), batch_size))
        try:
            while True:
                while len(under_way) < ahead and (start := next(starts, None)) is not None:
                    part = order[start : start + batch_size]
                    rows = np.empty((len(part), *(self.spec.source_size or self.spec.size), 3), np.uint8)
                    tasks = [
                        pool.submit(self.fill, rows[i : i + chunk], part[i : i + chunk])
                        for i in range(0, len(part), chunk)
                    ]
                    under_way.append((part, rows, tasks))
                if not under_way:
                    return
                batch = self.collect(*under_way.popleft())
                if len(batch.indices):
                    yield batch
                del batch  # else it would live on beside the next one
        finally:
            self.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def fill(self, rows: Pixels, part: Sequence[int]) -> _Filled:
        """Decode the images of ``part`` into ``rows``. Returns (index in the set, reason) of the broken, seconds."""
        started, broken = time.thread_time(), []
        for row, index in enumerate(part):
            if self.stop.is_set():
                break
            try:
                rows[row] = decode(self.images.read(index), self.spec)
            except BrokenImageError as error:
                broken.append((index, error.reason))
            except DataError as error:
                raise DataError(f"{self.images.items[index].name} in {self.images.source}: {error}") from error
        return broken, time.thread_time() - started

    def collect(self, part: Sequence[int], rows: Pixels, tasks: list[Future[_Filled]]) -> Batch:
        """Wait for the tasks of one batch, report its broken images and close the gaps they left."""
        broken: set[int] = set()
        for task in tasks:
            started = time.perf_counter()
            reasons, seconds = task.result()
            self.stats.wait_s += time.perf_counter() - started
            self.stats.decode_s += seconds
            for index, reason in reasons:
                self.report(BrokenImage(self.images.items[index].name, reason))
                broken.add(index)
        positions = np.array(part, np.int64)
        if broken:
            keep = ~np.isin(positions, list(broken))
            positions, rows = positions[keep], rows[keep]
        self.stats.images += len(positions)
        labels: list[Any] = [self.images.items[i].label for i in positions]
        return Batch(positions, rows, np.array([-1 if v is None else v for v in labels], np.int64))

    def report(self, broken: BrokenImage) -> None:
        if self.strict:
            raise DataError(
                f"{broken.name} in {self.images.source} cannot be used: {broken.reason}; replace or remove it, or "
                "allow broken images to be left out"
            )
        self.stats.broken.append(broken)
        self.on_broken(broken)


_Filled = tuple[list[tuple[int, str]], float]
