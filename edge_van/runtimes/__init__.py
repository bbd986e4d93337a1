"""Inference engines behind one small base: ``open_model(runtime, path)``, ``run`` named arrays, ``close``.

In: a runtime's name and a model file. Out: a ``Session``. No engine is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_van.errors import UsageError

if TYPE_CHECKING:
    from edge_van.runtimes.base import Session, TensorInfo

RUNTIMES: dict[str, str] = {
    "openvino": "edge_van.runtimes.openvino:OpenVINOSession",
    "onnxruntime": "edge_van.runtimes.onnxruntime:ONNXRuntimeSession",
    "torch": "edge_van.runtimes.torch:TorchSession",
    "tensorrt": "edge_van.runtimes.tensorrt:TensorRTSession",
    "tensorrt_rtx": "edge_van.runtimes.tensorrt_rtx:TensorRTRTXSession",
}


def session_class(runtime: str) -> Any:
    """The ``Session`` behind a runtime's name, whose options are its own; ``UsageError`` for an unknown one."""
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}; known: {', '.join(RUNTIMES)}")
    module, name = RUNTIMES[runtime].split(":")
    return getattr(import_module(module), name)


def open_model(runtime: str, path: Path, **options: Any) -> Session:
    """Open ``path`` with the runtime of that name; ``options`` are the runtime's own.

    Raises ``UsageError`` for an unknown runtime, ``MissingRuntimeError`` where its library is not installed,
    ``BundleError`` for a file it cannot load.
    """
    return cast("Session", session_class(runtime)(path, **options))


def __getattr__(name: str) -> Any:
    """The base takes numpy, which the start of the command line does without."""
    if name not in ("Session", "TensorInfo"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("edge_van.runtimes.base"), name)


__all__ = ["RUNTIMES", "Session", "TensorInfo", "open_model", "session_class"]
