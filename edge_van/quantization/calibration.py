"""The images that set the ranges: drawn, decoded once, kept as uint8, normalised batch by batch.

In: an ``ImageSet``, how many, a seed, what to leave out. Out: ``CalibrationImages``, a sequence of float batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_van.bundle.records import CalibrationRecord
from edge_van.errors import DataError
from edge_van.images.draw import draw_balanced, fingerprint
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import UNWATCHED, Work
from edge_van.text import one_line


class CalibrationImages(Sequence[Tensor]):
    """Float batches (N, C, H, W), normalised, made from uint8 images when asked for: a quarter of the memory."""

    def __init__(self, pixels: NDArray[np.uint8], spec: InputSpec, batch: int) -> None:
        self.pixels = pixels  # (images, H, W, C)
        self._batch, self._spec = batch, spec

    def __len__(self) -> int:
        return -(-len(self.pixels) // self._batch)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.normalized(self.pixels[index * self._batch : (index + 1) * self._batch])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def first(self, count: int) -> CalibrationImages:
        """The first ``count`` images, or all."""
        return CalibrationImages(self.pixels[:count], self._spec, self._batch)

    def normalized(self, pixels: NDArray[np.uint8]) -> Tensor:
        return normalized(pixels, self._spec)


def normalized(pixels: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float: (x / 255 - mean) / std."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.pixel_mean, spec.pixel_std))
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()
    return (images / 255.0 - mean) / std


class Calibration(NamedTuple):
    """The images that set the ranges, what is recorded of them, and those that were broken."""

    images: CalibrationImages
    record: CalibrationRecord
    broken: tuple[BrokenImage, ...]


def load_calibration(
    images: ImageSet,
    spec: InputSpec,
    *,
    samples: int,
    seed: int,
    batch: int,
    exclude_hashes: frozenset[str] = frozenset(),
    work: Work = UNWATCHED,
) -> Calibration:
    """Draw ``samples`` images, class-balanced where classes are known, and decode them at the network's size.

    Images whose bytes hash into ``exclude_hashes`` (those accuracy is reported on) are left out and counted. The draw
    goes on to the next for a broken image; with ``work.strict`` it is a ``DataError``, and so is a draw that leaves no
    image.
    """
    # calibration sees what the network sees: with a fixed source size the resize still happens here
    host_spec, strict = replace(spec, source_size=None), work.strict
    stats = StreamStats()
    parts: list[NDArray[np.uint8]] = []
    decoded = asked = 0
    with work.reporter.stage("Reading calibration images", samples) as advance:
        while True:
            # a shorter draw is the start of a longer one: only what is new is decoded
            draw = draw_balanced(images, samples + len(stats.broken), seed=seed, exclude_hashes=exclude_hashes)
            if strict and draw.unreadable:
                raise DataError(f"{images.source}: {draw.unreadable[0].name} is broken: {draw.unreadable[0].reason}")
            new, asked = draw.indices[asked:], len(draw.indices)
            for part in stream(images, host_spec, batch_size=batch, indices=new, strict=strict, stats=stats):
                parts.append(part.images)
                decoded += len(part.images)
                advance(len(part.images))
            if not new or decoded >= samples:
                break
    broken = (*draw.unreadable, *stats.broken)
    if not parts:
        first = f", {broken[0].name} because of {broken[0].reason}" if broken else ""
        raise DataError(
            f"{images.source}: no image is left for calibration ({draw.excluded} are also in the validation images, "
            f"{draw.repeated} repeat another, {len(broken)} are broken{first}): give other images with --calibration"
        )
    pixels = np.concatenate(parts)
    unread = {image.name for image in stats.broken}
    used = [h for i, h in zip(draw.indices, draw.hashes, strict=True) if images.items[i].name not in unread]
    record = CalibrationRecord(
        one_line(images.source.name), len(pixels), draw.left_out, seed, fingerprint(used), fingerprint(exclude_hashes)
    )
    return Calibration(CalibrationImages(pixels, spec, batch), record, broken)
