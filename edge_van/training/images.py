"""All images of a training in memory, decoded; those that are validated on left out.

In: an ``ImageSet``. Out: ``TrainingImages``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import DataError
from edge_van.evaluation.evidence import left_out
from edge_van.images.decode import BrokenImageError
from edge_van.images.draw import hashes
from edge_van.images.sets import ImageSet
from edge_van.images.stream import StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import Work

MEMORY_SHARE = 0.6
_BATCH = 64


@dataclass(frozen=True)
class TrainingImages:
    """uint8 (images, H, W, 3), RGB, and int64 (images,) labels."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def check_memory(images: int, spec: InputSpec) -> None:
    """``DataError`` where they would not fit; every process that trains on this machine has them."""
    needed = images * spec.size[0] * spec.size[1] * 3 * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > MEMORY_SHARE * there:
        raise DataError(
            f"{images:,} images at {spec.size[0]} px take {needed / 2**30:.1f} GiB of memory, this machine has "
            f"{there / 2**30:.1f}: train at a smaller size, or on fewer images"
        )


def apart_from(images: ImageSet, others: ImageSet, work: Work) -> tuple[int, ...]:
    """Positions of the images whose file is none of ``others``: top-1 is of images that were not trained on."""
    with work.reporter.stage("Looking for images in both sets"):
        known = hashes(others)
        apart = tuple(index for index in range(len(images)) if not _is_among(images, index, known))
    if not apart:
        raise DataError(f"all {len(images)} images of {images.source} are among the validation images: give others")
    if both := len(images) - len(apart):
        work.warn([f"{both} of {len(images)} training images are validation images too: not trained on"])
    return apart


def read_images(
    images: ImageSet, spec: InputSpec, use: str, work: Work, indices: tuple[int, ...] | None = None
) -> TrainingImages:
    """Those at ``indices`` (None: all); broken ones are left out of the ``use`` and said, or are fatal."""
    wanted = range(len(images)) if indices is None else indices
    stats = StreamStats()
    pixels = np.empty((len(wanted), *spec.size, 3), np.uint8)
    labels = np.empty(len(wanted), np.int64)
    done = 0
    with work.reporter.stage(f"Reading {use} images", len(wanted)) as advance:
        for batch in stream(images, spec, batch_size=_BATCH, indices=wanted, strict=work.strict, stats=stats):
            last = done + len(batch.labels)
            pixels[done:last], labels[done:last] = batch.images, batch.labels
            done = last
            advance(len(batch.labels))
    if not done:
        raise DataError(f"{images.source}: none of {len(wanted)} images could be read")
    left_out(tuple(stats.broken), use, work)
    return TrainingImages(pixels[:done], labels[:done])


def _is_among(images: ImageSet, index: int, known: frozenset[str]) -> bool:
    try:
        return images.content_hash(index) in known
    except BrokenImageError:  # whoever reads it will say so
        return False
