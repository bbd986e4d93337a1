"""What differs from one version of TensorRT to another: 8.6, 10, 11, and TensorRT for RTX.

In: the package or its version, a graph. Out: flags and graphs as that version takes them.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from edge_van.errors import MissingRuntimeError


def require_version(version: str) -> None:
    """``MissingRuntimeError`` before 8.6, whose parser has no LayerNormalization and whose layers name no nodes."""
    if tuple(int(p) for p in re.findall(r"\d+", version)[:2]) < (8, 6):
        raise MissingRuntimeError(f"TensorRT {version} is too old: 8.6 (JetPack 6.0) or later is needed")


def flags_of(model: Any) -> tuple[str, ...]:
    """The builder flags for TensorRT 8, which does not read datatypes from the graph: none that the graph lacks.

    INT8 for a graph without Q/DQ would ask for a calibrator, FP16 for a float32 one would not be float32.
    """
    import onnx

    operators = {node.op_type for node in model.graph.node}
    types = {tensor.data_type for tensor in model.graph.initializer}
    flags = ("INT8",) if "QuantizeLinear" in operators else ()
    return (*flags, "FP16") if onnx.TensorProto.FLOAT16 in types else flags


def strongly_typed(trt: ModuleType, runtime: str) -> bool:
    """TensorRT 8 chooses datatypes by builder flags; from 9 on the graph says them."""
    return runtime == "tensorrt_rtx" or int(trt.__version__.split(".")[0]) >= 9


def network_flags(trt: ModuleType) -> int:
    """Strongly typed where that is an option (10), the default where it is not (11, RTX); explicit batch before 10."""
    flags = trt.NetworkDefinitionCreationFlag
    if hasattr(flags, "STRONGLY_TYPED"):
        return 1 << int(flags.STRONGLY_TYPED)
    if hasattr(flags, "EXPLICIT_BATCH") and trt.__version__.startswith("8."):
        return 1 << int(flags.EXPLICIT_BATCH)
    return 0


def for_version(trt: ModuleType, runtime: str, model: Any) -> Any:
    """TensorRT 8 gets what it knows, in float32, and picks FP16 itself."""
    if strongly_typed(trt, runtime):
        return model
    from edge_van.engines.tensorrt_8 import for_tensorrt_8

    return for_tensorrt_8(model, trt.__version__)
