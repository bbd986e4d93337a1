"""What every export shares: where files go, what they are made from, and the images they are checked with.

In: a folded network, images to check files with, held-out images. Out: an ``ExportJob``; each export of it returns an
``Exported``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_van.bundle.records import SchemeResult
from edge_van.errors import DataError
from edge_van.export.metadata import outputs_of
from edge_van.head import Head
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN
from edge_van.progress import Work
from edge_van.quantization.calibration import CalibrationImages, normalized
from edge_van.runtimes.model_file import ModelFile
from edge_van.statistics import evenly_spread

CHECK_IMAGES = 8
SQNR_IMAGES = 256
_BATCH = 16

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Probe:
    """Held-out images, which set no range, in batches (N, H, W, C), and the float network's logits of all."""

    pixels: tuple[Pixels, ...]
    logits: NDArray[np.float32]  # (images, classes)
    broken: tuple[BrokenImage, ...] = ()


def take_probe(held_out: ImageSet, spec: InputSpec, folded: FoldedVAN, work: Work) -> Probe:
    """Up to ``SQNR_IMAGES`` images, evenly spread over the classes. ``DataError`` where none can be read.

    Broken ones are left out, or with ``work.strict`` are a ``DataError``.
    """
    indices, stats = evenly_spread(len(held_out), SQNR_IMAGES), StreamStats()
    host_spec = replace(spec, source_size=None)
    batches = stream(held_out, host_spec, batch_size=_BATCH, indices=indices, strict=work.strict, stats=stats)
    pixels = tuple(batch.images for batch in batches)
    if not pixels:
        raise DataError(f"{held_out.source}: none of {len(indices)} images could be read")
    return probe_of(pixels, spec, folded, tuple(stats.broken))


@torch.no_grad()
def probe_of(
    pixels: tuple[Pixels, ...], spec: InputSpec, folded: FoldedVAN, broken: tuple[BrokenImage, ...] = ()
) -> Probe:
    """Of batches that are there already; ``broken`` are those that were left out."""
    logits = torch.cat([folded(normalized(images, spec)) for images in pixels])
    return Probe(pixels, logits.numpy(), broken)


@dataclass(frozen=True)
class ExportJob:
    """``place`` gives the path of a bundle's file by its name there."""

    place: Callable[[str], Path]
    spec: InputSpec
    folded: FoldedVAN  # the float network that all are compared with
    images: CalibrationImages
    probe: Probe
    work: Work
    head: Head = field(default_factory=Head)

    @property
    def outputs(self) -> str:
        """What every file says of its logits."""
        return outputs_of(self.head, self.probe.logits.shape[1])

    @property
    def check_pixels(self) -> Pixels:
        """(``CHECK_IMAGES``, H, W, C): what each file is run on after it is written."""
        return self.images.pixels[:CHECK_IMAGES]

    @cached_property
    def check_images(self) -> Tensor:
        """The same, normalised: (``CHECK_IMAGES``, C, H, W)."""
        return self.images.normalized(self.check_pixels)


@dataclass(frozen=True)
class Exported:
    """What each scheme measured, the models to time, and what a user should know."""

    schemes: tuple[SchemeResult, ...] = ()
    models: tuple[ModelFile, ...] = ()
    warnings: tuple[str, ...] = ()


def joined(parts: Iterable[Exported]) -> Exported:
    """All of several exports as one, in their order."""
    every = list(parts)
    return Exported(
        tuple(scheme for part in every for scheme in part.schemes),
        tuple(model for part in every for model in part.models),
        tuple(warning for part in every for warning in part.warnings),
    )
