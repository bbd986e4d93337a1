"""Accuracy of a bundle that is there already, on any labelled images.

In: a ``Bundle``, a folder or zip, which model. Out: an ``Accuracy``. OpenVINO runs its own models; a TensorRT graph is
computed exactly as it is written, by ONNX Runtime; an engine runs on the GPU it was built for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineRecord
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, PLAN_NAME
from edge_van.bundle.records import Accuracy
from edge_van.errors import UsageError
from edge_van.evaluation.accuracy import validate
from edge_van.images.sets import open_images, splits
from edge_van.progress import Reporter
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession


def validate_bundle(
    bundle: Bundle,
    data: Path,
    reporter: Reporter,
    *,
    scheme: str | None = None,
    engine: str | None = None,
    batch: int = 32,
    limit: int | None = None,
    strict: bool = False,
    on_broken: Callable[[Any], None] | None = None,
) -> Accuracy:
    """FP32 against INT8 by OpenVINO, or with ``scheme`` the float32 graph against that of a TensorRT scheme.

    ``engine`` names a target of ``edge-van build``: its active engine, or ``scheme``'s, runs one image at a time
    against the float32 graph. Files are hashed before they are run: ``BundleError`` for a damaged one. ``UsageError``
    for what is not there, or for neither where the bundle has no OpenVINO model.
    """
    manifest = bundle.manifest
    spec = manifest.input_spec
    with ExitStack() as stack:
        images = stack.enter_context(
            open_images(splits(data)[0], classes=spec.classes, num_classes=manifest.num_classes)
        )
        record = None if engine is None else find_engine(bundle, engine, scheme)
        files = (
            _files(bundle, scheme) if record is None else (FP32_ONNX, f"tensorrt/{engine}/{record.scheme}/{PLAN_NAME}")
        )
        bundle.check(*files, *(f"{f[:-4]}.bin" for f in files if f.endswith(".xml")))
        sessions: list[Session] = []
        if scheme is None and record is None:
            batch = batch if spec.source_size is None else 1  # the crop inside the graph is written for one image
            sessions = [stack.enter_context(open_model("openvino", bundle.file(f), batch=batch)) for f in files]
        else:
            spec = replace(spec, source_size=None)
            for file in files:
                if record is not None and file.endswith(PLAN_NAME):
                    batch = 1
                    session = open_model(record.runtime, bundle.file(file))
                else:
                    session = open_model("onnxruntime", bundle.file(file), exact=True)
                sessions.append(stack.enter_context(NormalizedSession(session, spec)))
        total = min(limit or len(images), len(images))
        advance = stack.enter_context(reporter.stage("Measuring accuracy", total))
        measured = validate(
            sessions[0],
            sessions[1],
            images,
            spec,
            num_classes=manifest.num_classes,
            batch_size=batch,
            strict=strict,
            limit=limit,
            progress=advance,
            on_broken=on_broken,
        )
    name = scheme if record is None else f"engine {record.scheme}"
    return measured if name is None else replace(measured, model=name)


def find_engine(bundle: Bundle, target: str, scheme: str | None) -> EngineRecord:
    """The target's engine of ``scheme``, by default its active one."""
    found = bundle.manifest.engines.get(target)
    if found is None:
        raise UsageError(
            f"{bundle.path} has no engines for {target!r}; it has {', '.join(bundle.manifest.engines) or 'none'}: make "
            f"them with edge-van build"
        )
    name = scheme or found.choice.active
    there = {record.scheme: record for record in found.engines}
    if name is None:
        raise UsageError(f"no engine of {target} is active ({found.choice.reason}): give --scheme {'|'.join(there)}")
    if name not in there:
        raise UsageError(f"{target} has no engine of the scheme {name!r}; it has {', '.join(there)}")
    return there[name]


def _files(bundle: Bundle, scheme: str | None) -> tuple[str, str]:
    """(reference, what is measured)."""
    there = {s.name: s.file for s in bundle.manifest.schemes if s.target == "tensorrt"}
    if scheme is not None:
        if scheme not in there:
            raise UsageError(f"{bundle.path} has no TensorRT graph {scheme!r}; it has {', '.join(there) or 'none'}")
        return FP32_ONNX, there[scheme]
    if not {entry.path for entry in bundle.manifest.files}.issuperset((FP32_IR, INT8_IR)) and there:
        raise UsageError(f"{bundle.path} has no OpenVINO model: name one of its graphs, --scheme {'|'.join(there)}")
    return FP32_IR, INT8_IR
