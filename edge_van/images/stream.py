"""The images of a set, decoded in parallel and delivered in order, batch by batch.

In: an ``ImageSet`` and an ``InputSpec``. Out: ``Batch`` records; broken images by name and reason.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_van.errors import DataError, UsageError
from edge_van.images.decode import BrokenImageError, Pixels, decode
from edge_van.images.sets import ImageSet
from edge_van.input_spec import InputSpec

SIZED_IMAGES = 8
CHUNK = 16
"""Images one task decodes: enough to hide what a task costs, few enough that closing a stream does not wait."""


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """An image a stream left out: its name in the set, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Decoded images, in the order asked for.

    indices  int64 (N,), positions in ``ImageSet.items``
    images   uint8 (N, H, W, C)
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


def stream(
    images: ImageSet,
    spec: InputSpec,
    *,
    batch_size: int,
    indices: Sequence[int] | None = None,
    workers: int | None = None,
    strict: bool = False,
    stats: StreamStats | None = None,
) -> Generator[Batch, None, None]:
    """Decode the images at ``indices`` (None: all) in order, in batches, by ``workers`` threads (None: up to 4).

    A broken image is left out and added to ``stats``, in order and in the caller's thread, so a batch may hold fewer
    than ``batch_size`` images; one that would hold none is not delivered. With ``strict`` a broken image ends
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
    run = _Run(images, spec, strict, stats if stats is not None else StreamStats())
    return run.batches(order, batch_size, workers)


def require_source_size(images: ImageSet, spec: InputSpec) -> None:
    """``DataError`` where no image does for the camera of ``spec``: said before any work, the first few tell."""
    if spec.source_size is None:
        return
    stats, first = StreamStats(), range(min(SIZED_IMAGES, len(images)))
    if next(stream(images, spec, batch_size=1, indices=list(first), stats=stats), None) is None:
        broken = stats.broken[0]
        raise DataError(f"{images.source}: {broken.name} does not do for --source-size: {broken.reason}")


@dataclass
class _Run:
    """One pass over a set. Workers only fill rows; all that is reported happens in the consumer's thread."""

    images: ImageSet
    spec: InputSpec
    strict: bool
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
                    rows = np.empty((len(part), *self.spec.source_shape), np.uint8)
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


_Filled = tuple[list[tuple[int, str]], float]
