"""Top-1 of every graph that a device may choose, measured without the device.

In: a bundle's schemes and labelled images. Out: the same schemes with an ``Accuracy`` each. ONNX Runtime computes what
the Q/DQ graph says, with no integer kernel of its own, and between float16 weights and scales in float32: an engine
differs by the rounding of float16 activations, whose range ``export.float16_range`` has checked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_van.bundle.records import SchemeResult
from edge_van.evaluation.accuracy import validate_all
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage
from edge_van.input_spec import InputSpec
from edge_van.progress import Reporter
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession

BATCH = 16


def measure_schemes(
    place: Callable[[str], Path],
    schemes: tuple[SchemeResult, ...],
    reference: str,
    images: ImageSet,
    spec: InputSpec,
    *,
    num_classes: int,
    limit: int,
    reporter: Reporter,
    strict: bool = False,
    on_broken: Callable[[BrokenImage], None] | None = None,
) -> tuple[SchemeResult, ...]:
    """Measure TensorRT's schemes on ``limit`` images, evenly spread, against the float32 file ``reference``.

    Others are returned as they are. Broken images are left out and counted, or with ``strict`` are a ``DataError``.
    """
    host_spec = replace(spec, source_size=None)
    wanted = [s for s in schemes if s.target == "tensorrt"]
    if not wanted:
        return schemes
    with ExitStack() as stack, reporter.stage("Measuring TensorRT's graphs", min(limit, len(images))) as advance:
        sessions: dict[str, Session] = {}
        for file in (reference, *(s.file for s in wanted)):
            if file not in sessions:
                session = open_model("onnxruntime", place(file), exact=True)
                sessions[file] = stack.enter_context(NormalizedSession(session, host_spec))
        found = validate_all(
            sessions[reference],
            {s.name: sessions[s.file] for s in wanted},
            images,
            host_spec,
            num_classes=num_classes,
            batch_size=BATCH,
            limit=limit,
            strict=strict,
            progress=advance,
            on_broken=on_broken,
        )
    # the changes by class are the OpenVINO model's to show; a hundred rows a scheme would drown the manifest
    return tuple(
        replace(s, accuracy=replace(found[s.name], classes=(), model=s.name)) if s.name in found else s for s in schemes
    )
