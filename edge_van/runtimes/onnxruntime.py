"""ONNX Runtime on the CPU.

In: an ONNX file. Out: a ``Session``. ``exact=True`` turns its graph rewrites off, so that a Q/DQ graph computes just
what it says (quantise, dequantise, float convolution): the reference for accuracy. On a CPU without VNNI the rewritten
integer kernels may saturate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_van.errors import BundleError, MissingRuntimeError
from edge_van.runtimes.base import Session, TensorInfo

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


class ONNXRuntimeSession(Session):
    """An ONNX Runtime session on the CPU provider."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, *, exact: bool = True, threads: int | None = None) -> None:
        ort = _load()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(f"ONNX Runtime cannot load {path.name}: {str(error).strip().splitlines()[-1]}") from error
        self.inputs = tuple(_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [info.name for info in self.outputs]
        return dict(zip(names, self._session.run(names, feed), strict=True))

    def close(self) -> None:
        self._session = None


def _load() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntimeError("ONNX Runtime is not installed: pip install 'edge-van[onnxruntime]'") from error
    return onnxruntime


def _info(value: Any) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else None for d in value.shape)
    return TensorInfo(value.name, shape, np.dtype(_DTYPES[value.type]))
