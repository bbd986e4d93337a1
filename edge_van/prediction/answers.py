"""The answers to a few images that are computed together.

In: an opened model, ``Source`` records. Out: a ``Prediction`` or a ``Failure`` each, and with Grad-CAM its heat map.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.models import BundleModel
from edge_van.errors import DataError, EdgeVanError, UsageError, VerificationError
from edge_van.head import Head
from edge_van.images.decode import BrokenImageError, as_rgb, decode
from edge_van.prediction.gradcam import GradCAM
from edge_van.prediction.overlay import overlay
from edge_van.prediction.scores import ClassScore, labels_of, rank
from edge_van.prediction.sources import Source
from edge_van.runtimes.image_model import ImageModel
from edge_van.storage.files import replace_file
from edge_van.text import shown


@dataclass(frozen=True)
class HeatMap:
    """Grad-CAM of an image's first class: the picture, the stage, and the file of the network the gradient is of.

    Before the last stage that is the float32 network, also where an INT8 model computed the map.
    """

    file: str
    stage: int
    gradient_file: str


@dataclass(frozen=True)
class Prediction:
    """One image: the highest classes in order, the heat map of the first of them, and what computed both.

    ``labels`` are all that reach the threshold, of a network whose images may have several; None of others.
    """

    image: str
    predictions: tuple[ClassScore, ...]
    grad_cam: HeatMap | None
    model: str  # the file in the bundle
    runtime: str
    labels: tuple[str, ...] | None = None
    precision: str = ""
    """What OpenVINO computed in where it is not the file's own: "bf16", or "int8_bf16"."""


@dataclass(frozen=True)
class Failure:
    """An image that has no answer, or with ``heat_map`` an answer but no heat map, and why."""

    image: str
    reason: str
    heat_map: bool = False


Answer = tuple[Prediction, Failure | Literal["blank", ""]]
"""A prediction, and of its heat map why there is none, or that it is all zero."""


@dataclass(frozen=True)
class Answers:
    """An opened model and all that an image's prediction needs; a function of the images computed together."""

    opened: ImageModel
    model: BundleModel
    names: tuple[str, ...]
    head: Head
    cam: GradCAM | None
    top_k: int
    force: bool
    precision: str

    def __call__(self, sources: Sequence[Source]) -> list[Answer | Failure]:
        """In their order; a ``Failure`` where there is no answer."""
        answers: dict[int, Answer | Failure] = {}
        pixels: dict[int, NDArray[np.uint8]] = {}
        for index, source in enumerate(sources):
            try:
                pixels[index] = decode(source.read(), self.opened.spec)
            except BrokenImageError as error:
                answers[index] = Failure(source.name, error.reason)
            except DataError as error:  # of another size than the camera's
                answers[index] = Failure(source.name, str(error))
        if pixels:
            logits, maps = self.opened.logits_and_maps(np.stack(list(pixels.values())))
        for row, index in enumerate(pixels):
            try:
                answers[index] = self._one(
                    sources[index], pixels[index], logits[row], None if maps is None else maps[row]
                )
            except VerificationError as error:  # no finite logits
                answers[index] = Failure(sources[index].name, str(error))
        return [answers[index] for index in range(len(sources))]

    def _one(
        self, source: Source, pixels: NDArray[np.uint8], logits: NDArray[Any], stage_map: NDArray[Any] | None
    ) -> Answer:
        labels = labels_of(logits, self.names, self.head)
        # none of the labels that the image has is left out
        scores = rank(logits, self.names, max(self.top_k, len(labels or ())), self.head)
        prediction = Prediction(source.name, scores, None, self.model.file, self.model.runtime, labels, self.precision)
        if self.cam is None or source.grad_cam is None or stage_map is None:
            return prediction, ""
        try:
            [heat] = self.cam.heat_maps(stage_map[None], np.array([scores[0].index]))
            spec = self.opened.spec
            seen = pixels if spec.source_size is None else decode(source.read(), replace(spec, source_size=None))
            _save(overlay(as_rgb(seen, spec), heat), source.grad_cam, force=self.force)
        except EdgeVanError as error:
            return prediction, Failure(source.name, str(error), heat_map=True)
        heat_map = HeatMap(shown(source.grad_cam), self.cam.stage, self.cam.gradient_file)
        return replace(prediction, grad_cam=heat_map), "" if heat.any() else "blank"


def _save(image: Any, path: Path, *, force: bool) -> None:
    """Write a PNG whole or not at all."""
    if not force and os.path.lexists(path):  # it was not when the command began
        raise UsageError(f"{shown(path)} was put there meanwhile: give --force to replace it")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    replace_file(path, buffer.getvalue(), durable=False)
