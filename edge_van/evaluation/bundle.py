"""Accuracy of a bundle that is there already, on any labelled images.

In: a bundle, a folder or zip, which model. Out: an ``Accuracy``. OpenVINO runs its own models; a TensorRT graph is
computed exactly as it is written, by ONNX Runtime; an engine runs on the GPU it was built for.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edge_van.bundle.active import ActiveModel, in_precision
from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.models import BundleModel, engine_of, models_of
from edge_van.bundle.records import Accuracy
from edge_van.bundle.whole import require_fitting
from edge_van.errors import UsageError
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.images.labelled import Wanted, open_labelled
from edge_van.images.sets import splits
from edge_van.progress import UNWATCHED, Work
from edge_van.runtimes.image_model import open_bundle_model
from edge_van.text import precision_words


@dataclass(frozen=True)
class ValidateOptions:
    """What of a measurement is seldom asked for.

    labels     a file of what is true of the images, which a network of several labels an image needs where none is
               found with them (``images.labelled.open_labelled``)
    threshold  stands for that of the bundle's sigmoid
    limit      images that are used, evenly spread; None: all
    batch      images at once; None: as many as most a second need; an engine takes one
    """

    labels: str | Path | None = None
    threshold: float | None = None
    limit: int | None = None
    batch: int | None = None


def validate(
    bundle: Bundle | str | Path,
    data: str | Path,
    *,
    scheme: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    options: ValidateOptions | None = None,
    work: Work = UNWATCHED,
) -> Accuracy:
    """Measure the accuracy of a bundle: OpenVINO's INT8 against its FP32 model, on the same images.

    ``data`` is a folder or zip of ``<class>/<image>``, or one with a file of labels. With
    ``scheme`` the graph of that scheme, of TensorRT or for ARM, stands against the float32 graph, both computed
    exactly; with ``engine``, a target of ``edge_van.build``, its active engine or ``scheme``'s does, on its GPU.
    ``precision`` "bf16" or "int8_bf16" is what OpenVINO computes in, on a CPU that has such units.

    Raises ``UsageError`` for a model that is not there, ``BundleError`` for a damaged file, ``DataError`` for images
    that cannot be used, ``MissingRuntimeError`` without the engine, ``VerificationError`` for logits that are not
    finite.
    """
    bundle = as_bundle(bundle)
    require_fitting(bundle)
    manifest = bundle.manifest
    options = options or ValidateOptions()
    head = manifest.head.with_threshold(options.threshold)
    with ExitStack() as stack:
        held_out, _ = splits(Path(data))
        wanted = Wanted(head, manifest.num_classes, manifest.input_spec.classes, options.labels)
        images = stack.enter_context(open_labelled(held_out, wanted))
        work.warn(images.warnings)
        pair = _pair(bundle, scheme, engine, precision)
        model = pair[1].model
        bundle.check(*(file for found in pair for file in found.model.files))  # before an engine is given one of them
        opened = [
            stack.enter_context(
                open_bundle_model(bundle, m.model, batch=1 if m.model.is_engine else options.batch, **m.options)
            )  # its profile may end there
            for m in pair
        ]
        measured = measure_accuracy(opened[0], {"int8": opened[1]}, images, work, head=head, limit=options.limit)
    work.warn(f"{image.name} is broken and left out: {image.reason}" for image in measured.broken)
    accuracy = measured.accuracy["int8"]
    if model.is_engine:
        return replace(accuracy, model=f"engine {model.scheme}")
    if pair[1].precision:
        return replace(accuracy, model=precision_words(pair[1].precision))
    return accuracy if scheme is None else replace(accuracy, model=scheme)


def _pair(
    bundle: Bundle, scheme: str | None, engine: str | None, precision: str | None
) -> tuple[ActiveModel, ActiveModel]:
    """(reference, what is measured)."""
    if precision in (None, "int8"):
        reference, model = _files(bundle, scheme, engine)
        return ActiveModel(bundle, reference), ActiveModel(bundle, model)
    if scheme is not None or engine is not None:
        raise UsageError("--precision is OpenVINO's: leave --scheme and --engine out, or it")
    return ActiveModel(bundle, bundle.model("openvino", "fp32")), in_precision(bundle, precision)


def _files(bundle: Bundle, scheme: str | None, engine: str | None) -> tuple[BundleModel, BundleModel]:
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
