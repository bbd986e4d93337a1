"""Top-1 of every graph that a device may choose, measured without the device.

In: a bundle's schemes and labelled images. Out: the same schemes with an ``Accuracy`` each. ONNX Runtime computes what
the Q/DQ graph says, with no integer kernel of its own, and between float16 weights and scales in float32: an engine
differs by the rounding of float16 activations, whose range ``export.float16_range`` has checked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.records import SchemeResult
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel


@dataclass(frozen=True)
class MeasuredSchemes:
    """All schemes, those of TensorRT with their accuracy, and the images that were left out."""

    schemes: tuple[SchemeResult, ...]
    broken: tuple[BrokenImage, ...] = ()


def measure_schemes(
    schemes: tuple[SchemeResult, ...],
    open_graph: Callable[[str], ImageModel],
    images: ImageSet,
    work: Work,
    *,
    limit: int,
) -> MeasuredSchemes:
    """Measure TensorRT's and ARM's schemes on ``limit`` images, evenly spread, against the FP32 graph.

    ``open_graph`` opens an ONNX file of the bundle by its path there, to be computed exactly. Raises as
    ``measure_accuracy``.
    """
    wanted = [s for s in schemes if s.target != "openvino"]
    if not wanted:
        return MeasuredSchemes(schemes)
    with ExitStack() as stack:
        opened = {file: stack.enter_context(open_graph(file)) for file in {FP32_ONNX, *(s.file for s in wanted)}}
        measured = measure_accuracy(
            opened[FP32_ONNX],
            {s.name: opened[s.file] for s in wanted},
            images,
            work,
            title="Measuring the devices' graphs",
            limit=limit,
        )
    accuracy = measured.accuracy
    # the changes by class are the OpenVINO model's to show; a hundred rows a scheme would drown the manifest
    return MeasuredSchemes(
        tuple(
            replace(s, accuracy=replace(accuracy[s.name], classes=(), model=s.name)) if s.name in accuracy else s
            for s in schemes
        ),
        measured.broken,
    )
