"""Which models a bundle has, by which runtime each runs, and what it takes: the one answer to that.

In: a ``Manifest``. Out: ``BundleModel`` records, or a ``UsageError`` that says what there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edge_van.bundle.engine_record import ENGINE_RUNTIMES, EngineRecord
from edge_van.bundle.layout import (
    ARM_IR,
    ARM_ONNX,
    FP32_IR,
    FP32_ONNX,
    INT8_IR,
    OPENVINO_ONNX,
    plan_path,
    with_weights,
)
from edge_van.bundle.recipe import ARM_SCHEME_NAME
from edge_van.bundle.records import Accuracy, Manifest, SchemeResult
from edge_van.errors import UsageError

Takes = Literal["camera", "pixels", "floats"]
"""What an image is when it reaches a model.

    camera  uint8 (N, H, W, C) of the size a camera sends: resized, cropped and normalised inside
    pixels  uint8 (N, H, W, C) of the network's size: normalised inside
    floats  float (N, C, H, W) of the network's size, normalised before
"""


@dataclass(frozen=True)
class BundleModel:
    """One model: its file by one runtime. An ONNX file that two runtimes run is two models."""

    runtime: str  # of ``open_model``
    precision: str  # "fp32", "fp16" or "int8"
    scheme: str | None  # of ``Manifest.schemes``; None for the FP32 network itself
    file: str  # relative to the bundle
    graph: str  # the ONNX file it was made from, which holds the weights of its head
    takes: Takes
    accuracy: Accuracy | None = None  # of this graph: measured by the runtime itself, or exactly as it is written
    target: str | None = None  # of an engine: the folder that ``edge-van build`` made it in
    compute_capabilities: tuple[str, ...] = ()  # of an engine: the GPUs it runs on
    active: bool = False  # of an engine: the one that was chosen for its target

    @property
    def files(self) -> tuple[str, ...]:
        """All that it is read from: what must be whole before it runs."""
        return with_weights(self.file)

    @property
    def is_device_graph(self) -> bool:
        """A graph for other devices than the one that made it, measured exactly as it is written."""
        return self.runtime == "onnxruntime" and self.scheme is not None and self.file != OPENVINO_ONNX

    @property
    def is_engine(self) -> bool:
        return self.runtime in ENGINE_RUNTIMES


def models_of(manifest: Manifest) -> tuple[BundleModel, ...]:
    """Every model whose file the manifest lists, by every runtime that can run it; the schemes in their order."""
    listed = {entry.path for entry in manifest.files}
    return tuple(model for model in _models(manifest) if model.file in listed)


def _models(manifest: Manifest) -> Iterator[BundleModel]:
    inside: Takes = "pixels" if manifest.input_spec.source_size is None else "camera"
    tensorrt_takes: Takes = "pixels" if manifest.recipe.tensorrt_input == "uint8" else "floats"
    openvino = next((s for s in manifest.schemes if s.target == "openvino"), None)
    name = openvino.name if openvino is not None else manifest.recipe.openvino_scheme
    yield BundleModel("openvino", "fp32", None, FP32_IR, FP32_ONNX, inside)
    yield BundleModel("openvino", "int8", name, INT8_IR, OPENVINO_ONNX, inside, manifest.accuracy)
    arm = next((s.accuracy for s in manifest.schemes if s.name == ARM_SCHEME_NAME), None)
    yield BundleModel("openvino", "int8", ARM_SCHEME_NAME, ARM_IR, ARM_ONNX, inside, arm)
    yield BundleModel("onnxruntime", "fp32", None, FP32_ONNX, FP32_ONNX, "floats")
    yield BundleModel("onnxruntime", "int8", name, OPENVINO_ONNX, OPENVINO_ONNX, "floats")
    yield BundleModel("onnxruntime", "int8", ARM_SCHEME_NAME, ARM_ONNX, ARM_ONNX, "floats", arm)
    yield BundleModel("torch", "fp32", None, FP32_ONNX, FP32_ONNX, "floats")
    for scheme in tensorrt_schemes(manifest):
        takes = "floats" if scheme.file == FP32_ONNX else tensorrt_takes
        precision, accuracy = precision_of(scheme), scheme.accuracy
        yield BundleModel("onnxruntime", precision, scheme.name, scheme.file, scheme.file, takes, accuracy)
    schemes = {scheme.name: scheme for scheme in tensorrt_schemes(manifest)}
    for target, engines in manifest.engines.items():
        for record in engines.engines:
            made_of = schemes.get(record.scheme)
            yield BundleModel(
                runtime=record.runtime,
                precision=_built_precision(record) if made_of is None else precision_of(made_of),
                scheme=record.scheme,
                file=plan_path(target, record.scheme),
                graph=FP32_ONNX if made_of is None else made_of.file,
                takes=tensorrt_takes,
                accuracy=None if made_of is None else made_of.accuracy,
                target=target,
                compute_capabilities=record.compute_capabilities,
                active=record.scheme == engines.choice.active,
            )


def tensorrt_schemes(manifest: Manifest) -> tuple[SchemeResult, ...]:
    """The graphs that a device may build an engine of."""
    return tuple(scheme for scheme in manifest.schemes if scheme.target == "tensorrt")


def precision_of(scheme: SchemeResult) -> str:
    """ "int8", "fp16" or "fp32": what its layers compute in, where they are not left in float."""
    if scheme.quantized_layers:
        return "int8"
    return "fp16" if scheme.float_type == "float16" else "fp32"


def _built_precision(record: EngineRecord) -> str:
    """Of an engine whose graph is no longer in the bundle: what its layers were asked to run in."""
    kinds = {row.scheme for row in record.layers}
    return next((kind for kind in ("int8", "fp16") if kind in kinds), "fp32")


def engine_of(manifest: Manifest, target: str, scheme: str | None) -> BundleModel:
    """The target's engine of ``scheme``, by default its active one; ``UsageError`` for what is not there."""
    if target not in manifest.engines:
        raise UsageError(
            f"the bundle has no engines for {target!r}; it has {', '.join(manifest.engines) or 'none'}: make them with "
            f"edge-van build"
        )
    there = {model.scheme: model for model in models_of(manifest) if model.target == target}
    choice = manifest.engines[target].choice
    name = scheme or choice.active
    if not there:
        raise UsageError(f"the engines for {target} are not in the bundle: make them again with edge-van build")
    if name is None:
        raise UsageError(
            f"no engine of {target} is active ({choice.reason}): give --scheme {'|'.join(map(str, there))}"
        )
    if name not in there:
        raise UsageError(f"{target} has no engine of the scheme {name!r}; it has {', '.join(map(str, there))}")
    return there[name]
