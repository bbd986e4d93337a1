"""The images of a training: in memory where they fit, else decoded as they are needed; the validation's left out.

In: an ``ImageSet``. Out: ``TrainingImages``, which gives the images of a step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import DataError
from edge_van.evaluation.evidence import left_out
from edge_van.images.decode import BrokenImageError, decode
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import Work

MEMORY_SHARE = 0.6
_BATCH, _CHUNK = 64, 16

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""uint8 (images, H, W, 3), RGB, and int64 (images,) labels."""


class TrainingImages(Protocol):
    """Images by their place, 0 to ``len``."""

    def __len__(self) -> int: ...

    def take(self, places: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Labelled:
        """Those at ``places``; ``then`` are the ones that will be asked for next."""
        ...

    def batches(self) -> Iterator[Labelled]:
        """Each once, in order."""
        ...


class InMemory:
    """All of them decoded."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Labelled:
        return self.pixels[places], self.labels[places]

    def batches(self) -> Iterator[Labelled]:
        for first in range(0, len(self), _BATCH):
            yield self.pixels[first : first + _BATCH], self.labels[first : first + _BATCH]


class OnDisk:
    """Each decoded when it is asked for, by threads; what is asked for next, while a step is computed.

    In the place of a broken image stands the next whole one, so that batches keep their size. A context manager.
    """

    def __init__(self, images: ImageSet, spec: InputSpec, use: str, work: Work, indices: Sequence[int]) -> None:
        self.images, self.spec, self.use, self.work, self.indices = images, spec, use, work, indices
        self._said: set[str] = set()
        self._pool = ThreadPoolExecutor(_workers(), thread_name_prefix="edge-van-train")
        self._ahead: tuple[bytes, list[Future[_Decoded]]] = (b"", [])

    def __enter__(self) -> OnDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, places: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Labelled:
        known, tasks = self._ahead
        if known != places.tobytes():
            tasks = self._begin(places)
        self._ahead = (b"", []) if then is None else (then.tobytes(), self._begin(then))
        parts = [task.result() for task in tasks]
        self._say(broken for _, _, found in parts for broken in found)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def batches(self) -> Iterator[Labelled]:
        stats = StreamStats()
        strict = self.work.strict
        for batch in stream(
            self.images, self.spec, batch_size=_BATCH, indices=self.indices, strict=strict, stats=stats
        ):
            yield batch.images, batch.labels
        self._say(stats.broken)

    def _begin(self, places: NDArray[np.int64]) -> list[Future[_Decoded]]:
        return [self._pool.submit(self._decode, places[i : i + _CHUNK]) for i in range(0, len(places), _CHUNK)]

    def _decode(self, places: NDArray[np.int64]) -> _Decoded:
        pixels = np.empty((len(places), *self.spec.size, 3), np.uint8)
        labels = np.empty(len(places), np.int64)
        broken: list[BrokenImage] = []
        for row, place in enumerate(places):
            for further in range(len(self.indices)):
                index = self.indices[(int(place) + further) % len(self.indices)]
                try:
                    pixels[row] = decode(self.images.read(index), self.spec)
                except BrokenImageError as error:
                    broken.append(BrokenImage(self.images.items[index].name, error.reason))
                else:
                    labels[row] = cast(int, self.images.items[index].label)  # a training takes no set without
                    break
            else:
                raise DataError(f"{self.images.source}: none of {len(self.indices)} images could be read")
        return pixels, labels, broken

    def _say(self, broken: Iterable[BrokenImage]) -> None:
        new = {image.name: image for image in broken if image.name not in self._said}
        self._said |= set(new)
        if new and self.work.strict:
            image = next(iter(new.values()))
            raise DataError(
                f"{image.name} in {self.images.source} cannot be used: {image.reason}; replace or remove it, or leave "
                f"--strict out"
            )
        left_out(tuple(new.values()), self.use, self.work)


_Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], list[BrokenImage]]


def fits_in_memory(images: int, spec: InputSpec) -> bool:
    """Every process that trains on this machine has the images."""
    needed = images * spec.size[0] * spec.size[1] * 3 * _processes()
    return needed <= MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def content_hashes(images: ImageSet, use: str, work: Work) -> list[str]:
    """SHA-256 of every file, in order; of one that cannot be read, nothing: whoever decodes it will say so."""

    def hashed(index: int) -> str:
        try:
            return images.content_hash(index)
        except BrokenImageError:
            return ""

    with (
        work.reporter.stage(f"Hashing {use} images", len(images)) as advance,
        ThreadPoolExecutor(_workers(), thread_name_prefix="edge-van-hash") as pool,
    ):
        found: list[str] = []
        for first in range(0, len(images), 1024):  # few tasks at a time: an interrupt waits for these alone
            part = range(first, min(first + 1024, len(images)))
            found += pool.map(hashed, part)
            advance(len(part))
        return found


def apart_from(images: ImageSet, own: Sequence[str], others: frozenset[str], work: Work) -> tuple[int, ...]:
    """Positions of the images whose file, by its hash in ``own``, is none of ``others``: top-1 is of images that were
    not trained on. ``DataError`` where there are none."""
    apart = tuple(index for index, digest in enumerate(own) if not digest or digest not in others)
    if not apart:
        raise DataError(f"all {len(own)} images of {images.source} are among the validation images: give others")
    if both := len(own) - len(apart):
        work.warn([f"{both} of {len(own)} training images are validation images too: not trained on"])
    return apart


def read_images(images: ImageSet, spec: InputSpec, use: str, work: Work, indices: Sequence[int]) -> InMemory:
    """Those at ``indices``, decoded; broken ones are left out of the ``use`` and said, or are fatal."""
    stats = StreamStats()
    pixels = np.empty((len(indices), *spec.size, 3), np.uint8)
    labels = np.empty(len(indices), np.int64)
    done = 0
    with work.reporter.stage(f"Reading {use} images", len(indices)) as advance:
        for batch in stream(images, spec, batch_size=_BATCH, indices=indices, strict=work.strict, stats=stats):
            last = done + len(batch.labels)
            pixels[done:last], labels[done:last] = batch.images, batch.labels
            done = last
            advance(len(batch.labels))
    if not done:
        raise DataError(f"{images.source}: none of {len(indices)} images could be read")
    left_out(tuple(stats.broken), use, work)
    return InMemory(pixels[:done], labels[:done])


def _processes() -> int:
    """On this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _workers() -> int:
    return max((os.cpu_count() or 1) // _processes(), 1)
