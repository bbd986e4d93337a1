"""The images of a training: in memory where they fit, else decoded as they are needed; the validation's left out.

In: an ``ImageSet``. Out: ``TrainingImages``, which gives the images of a step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import DataError
from edge_van.evaluation.evidence import left_out
from edge_van.images.decode import BrokenImageError
from edge_van.images.sets import ImageSet
from edge_van.images.stream import CHUNK, Batch, StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import Work

MEMORY_SHARE = 0.6
"""What decoded images may take; the network, its optimiser's state and other programs have the rest."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_BATCH = 64

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""uint8 (images, H, W, C) and int64 (images,) labels."""


class TrainingImages(Protocol):
    """Images by their place, 0 to ``len``, whose positions in the set are ``indices``."""

    indices: Sequence[int]

    def __len__(self) -> int: ...

    def take(self, places: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Labelled:
        """Those at ``places``; ``then`` are the ones that will be asked for next."""
        ...

    def batches(self) -> Iterator[Labelled]:
        """Each once, in order."""
        ...


class InMemory:
    """All of them decoded."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], indices: Sequence[int] = ()) -> None:
        self.pixels, self.labels, self.indices = pixels, labels, indices

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64], then: NDArray[np.int64] | None = None) -> Labelled:
        return self.pixels[places], self.labels[places]

    def batches(self) -> Iterator[Labelled]:
        for first in range(0, len(self), _BATCH):
            yield self.pixels[first : first + _BATCH], self.labels[first : first + _BATCH]


class OnDisk:
    """Each decoded when it is asked for, by threads; what is asked for next, while a step is computed.

    All of ``indices`` were decoded once before (``whole_images``). A context manager.
    """

    def __init__(self, images: ImageSet, spec: InputSpec, indices: Sequence[int]) -> None:
        self.images, self.spec, self.indices = images, spec, indices
        self._pool = ThreadPoolExecutor(_workers(), thread_name_prefix="edge-van-train")
        self._ahead: tuple[bytes, list[Future[Labelled]]] = (b"", [])

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
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def batches(self) -> Iterator[Labelled]:
        for batch in stream(self.images, self.spec, batch_size=_BATCH, indices=self.indices, strict=True):
            yield batch.images, batch.labels

    def _begin(self, places: NDArray[np.int64]) -> list[Future[Labelled]]:
        chunk = min(CHUNK, math.ceil(len(places) / _workers()))
        return [self._pool.submit(self._decode, places[i : i + chunk]) for i in range(0, len(places), chunk)]

    def _decode(self, places: NDArray[np.int64]) -> Labelled:
        [batch] = stream(
            self.images,
            self.spec,
            batch_size=len(places),
            indices=[self.indices[place] for place in places],
            workers=1,
            strict=True,
        )
        return batch.images, batch.labels


def fits_in_memory(images: int, spec: InputSpec) -> bool:
    """Every process that trains on this machine has the images, and other programs need memory too."""
    return bytes_in_memory(images, spec) <= MEMORY_SHARE * _memory_bytes()


def bytes_in_memory(images: int, spec: InputSpec) -> int:
    """Of all processes that train on this machine."""
    return images * spec.size[0] * spec.size[1] * spec.channels * _processes()


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


def apart_from(images: ImageSet, own: Sequence[str], others: frozenset[str], work: Work) -> list[int]:
    """Positions of the images whose file, by its hash in ``own``, is none of ``others``: top-1 is of images that were
    not trained on. ``DataError`` where a class has none."""
    apart = [index for index, digest in enumerate(own) if not digest or digest not in others]
    labels = {images.items[index].label for index in apart}
    for label, name in enumerate(images.classes or ()):
        if label not in labels:
            raise DataError(f"every image of {name!r} in {images.source} is a validation image too: give others")
    if both := len(own) - len(apart):
        work.warn([f"{both} of {len(own)} training images are validation images too: not trained on"])
    return apart


def read_images(images: ImageSet, spec: InputSpec, use: str, work: Work, indices: Sequence[int]) -> InMemory:
    """Those at ``indices``, decoded; broken ones are left out of the ``use`` and said, or are fatal."""
    pixels = np.empty((len(indices), *spec.source_shape), np.uint8)
    labels = np.empty(len(indices), np.int64)
    kept: list[int] = []
    for batch in _decoded(images, spec, f"Reading {use} images", use, work, indices):
        rows = slice(len(kept), len(kept) + len(batch.labels))
        pixels[rows], labels[rows] = batch.images, batch.labels
        kept += batch.indices.tolist()
    return InMemory(pixels[: len(kept)], labels[: len(kept)], kept)


def whole_images(images: ImageSet, spec: InputSpec, use: str, work: Work, indices: Sequence[int]) -> list[int]:
    """Those of ``indices`` that can be decoded, found out before hours of work depend on it; else as
    ``read_images``."""
    batches = _decoded(images, spec, f"Checking {use} images", use, work, indices)
    return [int(index) for batch in batches for index in batch.indices]


def _decoded(
    images: ImageSet, spec: InputSpec, stage: str, use: str, work: Work, indices: Sequence[int]
) -> Iterator[Batch]:
    stats = StreamStats()
    with work.reporter.stage(stage, len(indices)) as advance:
        for batch in stream(images, spec, batch_size=_BATCH, indices=indices, strict=work.strict, stats=stats):
            yield batch
            advance(len(batch.labels))
    if indices and not stats.images:
        raise DataError(f"{images.source}: none of {len(indices)} images could be read; give others")
    left_out(tuple(stats.broken), use, work)


def _processes() -> int:
    """On this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _workers() -> int:
    return max((os.cpu_count() or 1) // _processes(), 1)


def _memory_bytes() -> int:
    """Of the machine, or what a container may have of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return there
    return min(there, int(limit)) if limit.isdigit() else there
