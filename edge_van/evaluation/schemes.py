"""Accuracy of every graph that a device may choose, measured without the device.

In: a bundle's schemes and labelled images. Out: the same schemes with an ``Accuracy`` each. What the Q/DQ graph says is
computed (``export.exact``), in no integer kernel, and between float16 weights and scales in float32: an engine differs
by the rounding of float16 activations, whose range ``export.float16_range`` has checked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.records import Accuracy, SchemeResult
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.evaluation.remembered import Remembered
from edge_van.export.rounded import ROUNDED
from edge_van.head import Head
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel

TITLE = "Measuring the devices' graphs"


@dataclass(frozen=True)
class MeasuredSchemes:
    """All schemes, those of other devices with their accuracy; the images that were left out; the rounded network; what
    to doubt of the metric."""

    schemes: tuple[SchemeResult, ...]
    broken: tuple[BrokenImage, ...] = ()
    rounded: Accuracy | None = None
    near_chance: str | None = None


@dataclass(frozen=True)
class DeviceImages:
    """Labelled images, what the network says of them, and how many are used, evenly spread."""

    images: ImageSet
    head: Head
    limit: int


def measure_schemes(
    schemes: tuple[SchemeResult, ...],
    open_graph: Callable[[str | Path], AbstractContextManager[ImageModel]],
    on: DeviceImages,
    work: Work,
    *,
    rounded: Path | None = None,
    fp32: ImageModel | None = None,
) -> MeasuredSchemes:
    """Measure TensorRT's and ARM's schemes, and the FP32 network ``rounded`` to a shorter float, against FP32.

    ``open_graph`` opens an ONNX file, of the bundle where it is no ``Path``, to be computed exactly. ``fp32`` stands
    for FP32's graph where it has been run already. Raises as ``measure_accuracy``.
    """
    wanted: dict[str, str | Path] = {s.name: s.file for s in schemes if s.target != "openvino"}
    if rounded is not None:
        wanted[ROUNDED] = rounded
    if not wanted:
        return MeasuredSchemes(schemes)
    accuracy: dict[str, Accuracy] = {}
    with ExitStack() as stack:
        float_model = Remembered(stack.enter_context(open_graph(FP32_ONNX))) if fp32 is None else fp32
        for name, file in wanted.items():
            with ExitStack() as one:  # of a large network two at a time would take gigabytes
                model = float_model if file == FP32_ONNX else one.enter_context(open_graph(file))
                measured = measure_accuracy(
                    float_model,
                    {name: model},
                    on.images,
                    work,
                    head=on.head,
                    title=f"{TITLE}: {name}",
                    limit=on.limit,
                )
            accuracy |= measured.accuracy
    # the changes by class are the OpenVINO model's to show; a hundred rows a scheme would drown the manifest
    accuracy = {name: replace(a, classes=(), model=name) for name, a in accuracy.items()}
    return MeasuredSchemes(
        tuple(replace(s, accuracy=accuracy[s.name]) if s.target != "openvino" else s for s in schemes),
        measured.broken,
        accuracy.get(ROUNDED),
        measured.near_chance,
    )
