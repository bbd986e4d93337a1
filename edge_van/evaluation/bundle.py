"""Accuracy of a bundle that is there already, on any labelled images.

In: a bundle, a folder or zip, which model. Out: an ``Accuracy``. OpenVINO runs its own models; a TensorRT graph is
computed exactly as it is written, by ONNX Runtime; an engine runs on the GPU it was built for.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.models import BundleModel, engine_of, models_of
from edge_van.bundle.records import Accuracy
from edge_van.errors import UsageError
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.images.sets import open_images, splits
from edge_van.progress import UNWATCHED, Work
from edge_van.runtimes.image_model import BATCH, open_bundle_model


def validate(
    bundle: Bundle | str | Path,
    data: str | Path,
    *,
    scheme: str | None = None,
    engine: str | None = None,
    batch: int = BATCH,
    limit: int | None = None,
    work: Work = UNWATCHED,
) -> Accuracy:
    """Measure top-1 of a bundle: OpenVINO's INT8 against its FP32 model, on the same images.

    ``data`` is a folder or zip of ``<class>/<image>``, of which up to ``limit`` images are taken, evenly spread. With
    ``scheme`` the graph of that scheme, of TensorRT or for ARM, stands against the float32 graph, both computed
    exactly; with ``engine``, a target of ``edge_van.build``, its active engine or ``scheme``'s does, on its GPU.

    Raises ``UsageError`` for a model that is not there, ``BundleError`` for a damaged file, ``DataError`` for images
    that cannot be used, ``MissingRuntimeError`` without the engine, ``VerificationError`` for logits that are not
    finite.
    """
    bundle = as_bundle(bundle)
    spec = bundle.manifest.input_spec
    with ExitStack() as stack:
        held_out, _ = splits(Path(data))
        images = stack.enter_context(
            open_images(held_out, classes=spec.classes, num_classes=bundle.manifest.num_classes)
        )
        work.warn(images.warnings)
        reference, model = _pair(bundle, scheme, engine)
        bundle.check(*reference.files, *model.files)  # both, before an engine is given one of them
        opened = [
            stack.enter_context(
                open_bundle_model(bundle, m, batch=1 if m.is_engine else batch)
            )  # its profile may end there
            for m in (reference, model)
        ]
        measured = measure_accuracy(opened[0], {"int8": opened[1]}, images, work, limit=limit)
    work.warn(f"{image.name} is broken and left out: {image.reason}" for image in measured.broken)
    accuracy = measured.accuracy["int8"]
    if model.is_engine:
        return replace(accuracy, model=f"engine {model.scheme}")
    return accuracy if scheme is None else replace(accuracy, model=scheme)


def _pair(bundle: Bundle, scheme: str | None, engine: str | None) -> tuple[BundleModel, BundleModel]:
    """(reference, what is measured)."""
    if engine is not None:
        return bundle.model("onnxruntime", "fp32"), engine_of(bundle.manifest, engine, scheme)
    graphs = {m.scheme: m for m in models_of(bundle.manifest) if m.runtime == "onnxruntime" and m.is_device_graph}
    if scheme is not None:
        if scheme not in graphs:
            there = ", ".join(map(str, graphs)) or "none"
            raise UsageError(f"{bundle.path} has no graph {scheme!r} for another device; it has {there}")
        return bundle.model("onnxruntime", "fp32"), graphs[scheme]
    if graphs and not any(m.runtime == "openvino" for m in bundle.models()):
        raise UsageError(f"{bundle.path} has no OpenVINO model: name a graph, --scheme {'|'.join(map(str, graphs))}")
    return bundle.model("openvino", "fp32"), bundle.model("openvino", "int8")
