"""Grad-CAM of FP32 and INT8 for the report: a few pairs of pictures, and how alike the maps are over more images.

In: a ``Bundle`` with OpenVINO models, its images, the positions of those to show. Out: a ``CAMs`` record.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle import Bundle
from edge_van.data import BrokenImageError, ImageSet, decode
from edge_van.gradcam import GradCAM, compare_grad_cams, similarity
from edge_van.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.overlay import overlay
from edge_van.progress import Reporter, one_line
from edge_van.report.pictures import at_least, jpeg
from edge_van.report.record import CAMPair, CAMs
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.stage_map import STAGE_MAP

MOST_PAIRS = 6


def cams_of(
    bundle: Bundle, images: ImageSet, first: Sequence[int], names: Sequence[str], reporter: Reporter, *, limit: int
) -> CAMs:
    """Pairs of the images at the positions ``first`` and, up to ``MOST_PAIRS``, of others spread over all; the
    correlations over ``limit`` images. Raises as ``edge_van.gradcam`` does."""
    with reporter.stage("Comparing Grad-CAM", min(limit, len(images))) as advance:
        alike = compare_grad_cams(bundle, images, limit=limit, progress=advance)
    spread = np.linspace(0, len(images) - 1, min(MOST_PAIRS, len(images))).round().astype(int).tolist()
    shown = list(dict.fromkeys([*first, *spread]))[:MOST_PAIRS]
    cams = [GradCAM(bundle, stage=alike.stage, graph=graph) for graph in (FP32_ONNX, OPENVINO_ONNX)]
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_model("openvino", bundle.file(file), stage_map=alike.stage))
            for file in (FP32_IR, INT8_IR)
        ]
        pairs = [_pair(bundle, images, i, names, sessions, cams) for i in shown]
    return CAMs(
        alike.stage,
        tuple(pair for pair in pairs if pair is not None),
        alike.images,
        alike.correlations,
        alike.constant_maps,
        alike.median,
        alike.mean,
        alike.lowest,
    )


def _pair(
    bundle: Bundle,
    images: ImageSet,
    index: int,
    names: Sequence[str],
    sessions: Sequence[Session],
    cams: Sequence[GradCAM],
) -> CAMPair | None:
    """None for an image that cannot be read."""
    spec = bundle.manifest.input_spec
    try:
        data = images.read(index)
        pixels, seen = decode(data, spec), decode(data, replace(spec, source_size=None))
    except BrokenImageError:
        return None
    results = [_run(session, pixels) for session in sessions]
    predicted = np.array([int(results[0][0].argmax())])
    float_map, int8_map = (cam.heat_maps(maps, predicted)[0] for cam, (_, maps) in zip(cams, results, strict=True))
    picture = at_least(seen)  # what is left after the resize and crop, which may be in the graph: the map is of that
    return CAMPair(
        one_line(images.items[index].name),
        names[predicted[0]],
        jpeg(picture),
        jpeg(np.asarray(overlay(picture, float_map))),
        jpeg(np.asarray(overlay(picture, int8_map))),
        similarity(float_map, int8_map),
    )


def _run(session: Session, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits (1, classes) and the stage's map (1, C, H, W) of one image (H, W, 3)."""
    results = session.run({session.inputs[0].name: pixels[None]})
    logits = next(info.name for info in session.outputs if info.name != STAGE_MAP)
    return results[logits], results[STAGE_MAP]
