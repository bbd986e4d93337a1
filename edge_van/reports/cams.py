"""Grad-CAM of FP32 and INT8 for the report: a few pairs of pictures, and how alike the maps are over more images.

In: a ``Bundle`` with OpenVINO models, its images, the positions of those to show. Out: a ``CAMs`` record.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.head import Head
from edge_van.images.decode import BrokenImageError, as_rgb, decode
from edge_van.images.sets import ImageSet
from edge_van.images.stream import stream
from edge_van.prediction.gradcam import GradCAM, similarity
from edge_van.prediction.overlay import overlay
from edge_van.progress import Reporter
from edge_van.reports.pictures import at_least, jpeg
from edge_van.reports.record import CAMPair, CAMs
from edge_van.runtimes.image_model import ImageModel, open_bundle_model
from edge_van.runtimes.stage_map import STAGES
from edge_van.statistics import evenly_spread
from edge_van.text import one_line

MOST_PAIRS = 6
_BATCH = 25


@dataclass(frozen=True)
class _Model:
    """A model with the map of a stage, and the Grad-CAM of its network."""

    opened: ImageModel
    cam: GradCAM
    head: Head

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Predicted classes (N,), of several labels the likeliest, and maps (N, C, H, W) of uint8 images as the model
        takes them."""
        logits, maps = self.opened.logits_and_maps(images)
        assert maps is not None  # it was opened with a stage
        return (self.head.choices(logits)[:, 0].astype(np.intp) if logits.shape[1] == 1 else logits.argmax(1)), maps


@dataclass(frozen=True)
class _Models:
    """FP32 and INT8, whose heat maps are both of the class that FP32 predicts."""

    fp32: _Model
    int8: _Model

    def heat_maps(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """The classes (N,) that FP32 and INT8 predict, the heat maps (N, h, w) of both."""
        classes, fp32_maps = self.fp32.run(images)
        by_int8, int8_maps = self.int8.run(images)
        return (
            classes,
            by_int8,
            self.fp32.cam.heat_maps(fp32_maps, classes),
            self.int8.cam.heat_maps(int8_maps, classes),
        )


def cams_of(
    bundle: Bundle, images: ImageSet, first: Sequence[int], names: Sequence[str], reporter: Reporter, *, limit: int
) -> CAMs:
    """Pairs of the images at the positions ``first`` and, up to ``MOST_PAIRS``, of others spread over all.

    The correlations are over up to ``limit`` images, spread evenly; broken ones are left out.
    Raises as ``edge_van.prediction.gradcam`` does.
    """
    spec = bundle.manifest.input_spec
    shown = list(dict.fromkeys([*first, *evenly_spread(len(images), MOST_PAIRS)]))[:MOST_PAIRS]
    chosen = evenly_spread(len(images), limit)
    correlations: list[float | None] = []
    with ExitStack() as stack:
        models = _open(stack, bundle)
        with reporter.stage("Comparing Grad-CAM", len(chosen)) as advance:
            for batch in stream(images, spec, batch_size=_BATCH, indices=chosen):
                _, _, fp32_maps, int8_maps = models.heat_maps(batch.images)
                correlations += [similarity(a, b) for a, b in zip(fp32_maps, int8_maps, strict=True)]
                advance(len(batch.images))
        pairs = [_pair(bundle, images, i, names, models) for i in shown]
    known = tuple(c for c in correlations if c is not None)
    return CAMs(
        stage=models.fp32.cam.stage,
        pairs=tuple(pair for pair in pairs if pair is not None),
        images=len(correlations),
        correlations=known,
        constant_maps=len(correlations) - len(known),
        median=float(np.median(known)) if known else None,
        p5=float(np.percentile(known, 5)) if known else None,
        lowest=min(known, default=None),
    )


def _open(stack: ExitStack, bundle: Bundle) -> _Models:
    fp32, int8 = (bundle.model("openvino", precision) for precision in ("fp32", "int8"))
    fp32_cam = GradCAM(bundle)
    # before the last stage the gradient is that of the float32 network for both
    last = fp32_cam.stage == STAGES[-1]
    int8_cam = GradCAM(bundle, stage=fp32_cam.stage, graph=int8.graph) if last else fp32_cam
    opened = [
        stack.enter_context(open_bundle_model(bundle, model, batch=1, stage_map=fp32_cam.stage))
        for model in (fp32, int8)
    ]
    head = bundle.manifest.head
    return _Models(_Model(opened[0], fp32_cam, head), _Model(opened[1], int8_cam, head))


def _pair(bundle: Bundle, images: ImageSet, index: int, names: Sequence[str], models: _Models) -> CAMPair | None:
    """None for an image that cannot be read."""
    spec = bundle.manifest.input_spec
    try:
        data = images.read(index)
        pixels, seen = decode(data, spec), decode(data, replace(spec, source_size=None))
    except BrokenImageError:
        return None
    [fp32_class], [int8_class], [fp32_map], [int8_map] = models.heat_maps(pixels[None])
    # what is left after the resize and crop, which may be in the graph: the map is of that
    picture = at_least(as_rgb(seen, spec))
    return CAMPair(
        image=one_line(images.items[index].name),
        class_name=names[fp32_class],
        int8_class_name=names[int8_class],
        thumbnail=jpeg(picture),
        fp32=jpeg(np.asarray(overlay(picture, fp32_map))),
        int8=jpeg(np.asarray(overlay(picture, int8_map))),
        correlation=similarity(fp32_map, int8_map),
    )
