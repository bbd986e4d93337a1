"""Which of a bundle's models ``predict`` runs.

In: a ``Bundle``, what was asked for. Out: an ``ActiveModel``, or a ``UsageError`` that says what there is.
"""

from __future__ import annotations

from edge_van.bundle.active import ActiveModel, active_model, in_precision
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import ENGINE_RUNTIMES
from edge_van.bundle.models import BundleModel, engine_of
from edge_van.errors import UsageError
from edge_van.runtimes import RUNTIMES

SHORTER = ("bf16", "int8_bf16")


def chosen_model(
    bundle: Bundle,
    runtime: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    scheme: str | None = None,
) -> ActiveModel:
    """The active model where nothing is asked for and one was chosen for this machine; else as ``choose_model``.

    OpenVINO also runs its files in "bf16" and "int8_bf16", where the CPU has such units.
    """
    asked = any(value is not None for value in (precision, engine, scheme))
    active = active_model(bundle) if not asked else None
    if active is not None and runtime in (None, active.model.runtime):
        return active
    if precision in SHORTER and engine is None and scheme is None and runtime in (None, "openvino"):
        return in_precision(bundle, precision)
    return ActiveModel(bundle, choose_model(bundle, runtime, precision, engine, scheme))


def choose_model(
    bundle: Bundle,
    runtime: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    scheme: str | None = None,
) -> BundleModel:
    """OpenVINO's INT8 model where nothing is asked for. ``scheme`` is a graph for ONNX Runtime, or which engine.

    Raises ``UsageError`` for what contradicts itself or is not in the bundle.
    """
    if engine is not None or runtime in ENGINE_RUNTIMES:
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
        if precision not in (None, "fp32"):
            raise UsageError("torch runs the FP32 network: leave --precision out, or take --runtime openvino for INT8")
        precision = "fp32"
    if scheme is None:
        return bundle.model(runtime, precision or "int8")
    model = _graph(bundle, scheme)
    if precision == "int8" and model.precision != "int8":
        raise UsageError(
            f"--precision int8 contradicts --scheme {scheme}, which quantises nothing: leave --precision out, or give "
            f"another scheme"
        )
    return model


def _engine(
    bundle: Bundle, runtime: str | None, precision: str | None, engine: str | None, scheme: str | None
) -> BundleModel:
    if engine is None:
        targets = ", ".join(bundle.manifest.engines) or "none: make one with edge-van build"
        raise UsageError(f"--runtime {runtime} runs an engine: give --engine TARGET; the bundle has {targets}")
    if precision is not None:
        raise UsageError("an engine's precision is its scheme's: give --scheme with --engine, not --precision")
    model = engine_of(bundle.manifest, engine, scheme)
    if runtime not in (None, model.runtime):
        raise UsageError(
            f"the engine {model.scheme} of {engine} is one of {model.runtime}, not of {runtime}: leave --runtime out"
        )
    return model


def _graph(bundle: Bundle, scheme: str) -> BundleModel:
    """A scheme of another device before OpenVINO's, which a recipe may have given the same name."""
    fitting = [model for model in bundle.models() if model.runtime == "onnxruntime" and model.scheme == scheme]
    if not fitting:
        there = ", ".join(dict.fromkeys(m.scheme for m in bundle.models() if m.scheme is not None))
        raise UsageError(f"{bundle.path} has no graph {scheme!r}; it has {there or 'none'}")
    return max(fitting, key=lambda model: model.is_device_graph)
