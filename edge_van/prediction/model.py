"""Which of a bundle's models ``predict`` runs, and by what.

In: a ``Bundle``, what was asked for. Out: a ``PredictModel``, or a ``UsageError`` that says what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import ENGINE_RUNTIMES
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX, PLAN_NAME
from edge_van.bundle.records import Manifest
from edge_van.errors import UsageError
from edge_van.evaluation.bundle import find_engine
from edge_van.runtimes import RUNTIMES


@dataclass(frozen=True)
class PredictModel:
    """A runtime, the model's file, all files it reads, and the ONNX file that its head's weights are in."""

    runtime: str
    file: str
    head_graph: str

    @property
    def is_engine(self) -> bool:
        return self.runtime in ENGINE_RUNTIMES

    @property
    def files(self) -> tuple[str, ...]:
        """What must be whole before it runs."""
        return (self.file, f"{self.file[:-4]}.bin") if self.file.endswith(".xml") else (self.file,)


def quantized_files(manifest: Manifest) -> frozenset[str]:
    """The models in INT8 that are no engines, by their paths in the bundle."""
    return frozenset((INT8_IR, OPENVINO_ONNX, *(s.file for s in manifest.schemes if s.quantized_layers)))


def choose_model(
    bundle: Bundle, runtime: str | None, precision: str | None, engine: str | None, scheme: str | None
) -> PredictModel:
    """OpenVINO's INT8 model where nothing is asked for. ``scheme`` is a graph for ONNX Runtime, or which engine.

    Raises ``UsageError`` for what contradicts itself or is not in the bundle.
    """
    if runtime in ENGINE_RUNTIMES or engine is not None:
        return _engine(bundle, runtime, precision, engine, scheme)
    runtime = runtime or "openvino"
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}; known: {', '.join(RUNTIMES)}")
    if scheme is not None and (runtime != "onnxruntime" or precision == "fp32"):
        raise UsageError(
            "--scheme picks a graph for --runtime onnxruntime (without --precision fp32) or an engine of "
            "--engine TARGET: give one of these with it"
        )
    if runtime == "torch":
        if precision == "int8":
            raise UsageError("torch runs the FP32 network: leave --precision out, or take --runtime openvino for INT8")
        return _listed(bundle, PredictModel("torch", FP32_ONNX, FP32_ONNX))
    int8 = precision != "fp32"
    if runtime == "openvino":
        chosen = PredictModel(runtime, INT8_IR, OPENVINO_ONNX) if int8 else PredictModel(runtime, FP32_IR, FP32_ONNX)
        return _listed(bundle, chosen)
    file = _graph(bundle, scheme) if int8 else FP32_ONNX
    if precision == "int8" and file not in quantized_files(bundle.manifest):
        raise UsageError(
            f"--precision int8 contradicts --scheme {scheme}, which quantises nothing: leave --precision out, or give "
            f"another scheme"
        )
    return _listed(bundle, PredictModel(runtime, file, file))


def _engine(
    bundle: Bundle, runtime: str | None, precision: str | None, engine: str | None, scheme: str | None
) -> PredictModel:
    targets = ", ".join(bundle.manifest.engines) or "none: make one with edge-van build"
    if engine is None:
        raise UsageError(f"--runtime {runtime} runs an engine: give --engine TARGET; the bundle has {targets}")
    if precision is not None:
        raise UsageError("an engine's precision is its scheme's: give --scheme with --engine, not --precision")
    record = find_engine(bundle, engine, scheme)
    if runtime not in (None, record.runtime):
        raise UsageError(
            f"the engine {record.scheme} of {engine} is one of {record.runtime}, not of {runtime}: leave --runtime out"
        )
    plan = f"tensorrt/{engine}/{record.scheme}/{PLAN_NAME}"
    return _listed(bundle, PredictModel(record.runtime, plan, FP32_ONNX))


def _graph(bundle: Bundle, scheme: str | None) -> str:
    """The named scheme's graph; by default OpenVINO's, or in a bundle without one the first that is quantised."""
    there = {s.name: s.file for s in bundle.manifest.schemes}
    if scheme is None:
        quantized = [s.file for s in bundle.manifest.schemes if s.quantized_layers and s.file.endswith(".onnx")]
        if OPENVINO_ONNX in {entry.path for entry in bundle.manifest.files}:
            return OPENVINO_ONNX
        if quantized:
            return quantized[0]
        raise UsageError(f"{bundle.path} has no Q/DQ graph: give --precision fp32, or another --runtime")
    if scheme not in there:
        raise UsageError(f"{bundle.path} has no graph {scheme!r}; it has {', '.join(there) or 'none'}")
    return there[scheme]


def _listed(bundle: Bundle, model: PredictModel) -> PredictModel:
    listed = {entry.path for entry in bundle.manifest.files}
    if model.file not in listed:
        raise UsageError(
            f"{bundle.path} has no {model.file}, which --runtime {model.runtime} would run: choose another with "
            f"--runtime, or make the bundle for that target too"
        )
    return model
