"""The rules a Q/DQ graph must keep for TensorRT to take it, checked before TensorRT sees the file.

In: an onnx ``ModelProto``. Out: what was found, or a ``VerificationError`` with the tensor's name. The rules are
those of TensorRT's explicit quantisation (its ONNX parser, 8.6 to 11): zero points are 0, scales positive and finite
constants, quantised constants int8 behind one DequantizeLinear, biases in float, activations with one scale per tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_van.errors import VerificationError

_INTEGER_OPERATORS = frozenset(
    {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
)
_LAYERS = ("Conv", "Gemm", "MatMul")
HALF_PRECISION_OPSET = 19
"""The first opset whose QuantizeLinear takes a float16 scale."""


@dataclass(frozen=True)
class QDQSummary:
    """What a graph that keeps the rules holds."""

    int8_layers: tuple[str, ...]  # convolutions and linear layers with int8 input and int8 weight, by name
    float_layers: tuple[str, ...]
    quantize_nodes: int
    dequantize_nodes: int


def check_qdq_rules(model: Any) -> QDQSummary:
    """Check every rule; raises ``VerificationError`` with the first tensor that breaks one (and how many do)."""
    broken = list(_violations(model))
    if broken:
        more = f" (and {len(broken) - 1} more tensors)" if len(broken) > 1 else ""
        raise VerificationError(f"TensorRT would refuse this graph: {broken[0]}{more}")
    graph = model.graph
    dequantized = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    layers = [n for n in graph.node if n.op_type in _LAYERS]
    quantized = tuple(n.name for n in layers if all(name in dequantized for name in n.input[:2]))
    return QDQSummary(
        int8_layers=quantized,
        float_layers=tuple(n.name for n in layers if n.name not in set(quantized)),
        quantize_nodes=sum(n.op_type == "QuantizeLinear" for n in graph.node),
        dequantize_nodes=sum(n.op_type == "DequantizeLinear" for n in graph.node),
    )


def _violations(model: Any) -> Iterator[str]:
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    producer = {name: n for n in graph.node for name in n.output}
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    for node in graph.node:
        if node.op_type in _INTEGER_OPERATORS:
            yield f"{node.name or node.output[0]} is a {node.op_type}; expected QuantizeLinear and DequantizeLinear"
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from _pair_violations(node, constants, opset, onnx)
        elif node.op_type in _LAYERS:
            yield from _layer_violations(node, constants, producer)
        if node.op_type == "DequantizeLinear" and (above := producer.get(node.input[0])) is not None:
            scales = [constants.get(n.input[1]) for n in (above, node)]
            if above.op_type == "QuantizeLinear" and not _equal(*scales):
                yield f"{node.input[1]} is another scale than {above.input[1]}, which quantised the same tensor"


def _pair_violations(node: Any, constants: dict[str, np.ndarray], opset: int, onnx: Any) -> Iterator[str]:
    """The rules of one QuantizeLinear or DequantizeLinear."""
    scale = constants.get(node.input[1])
    if scale is None:
        yield f"{node.input[1]} is a scale computed at run time; expected a constant"
    elif not (np.isfinite(scale).all() and (scale > 0).all()):
        worst = scale[~(np.isfinite(scale) & (scale > 0))].flat[0]
        yield f"{node.input[1]} is a scale of {worst}; expected a positive finite number (clamp a dead channel's)"
    elif scale.dtype == np.float16 and opset < HALF_PRECISION_OPSET:
        yield f"{node.input[1]} is a float16 scale in opset {opset}; expected opset {HALF_PRECISION_OPSET} or later"
    if len(node.input) > 2 and node.input[2]:
        zero_point = constants.get(node.input[2])
        if zero_point is None:
            yield f"{node.input[2]} is a zero point computed at run time; expected the constant 0"
        elif zero_point.any():
            yield f"{node.input[2]} is a zero point of {zero_point[zero_point != 0].flat[0]}; expected 0 (symmetric)"
        elif zero_point.dtype != np.int8:
            yield f"{node.input[2]} makes the quantised type {zero_point.dtype}; expected int8"
    else:
        wanted = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
        if node.op_type == "QuantizeLinear" and wanted != onnx.TensorProto.INT8:
            yield f"{node.output[0]} is quantised to uint8, the default without a zero point; expected int8"
    source = constants.get(node.input[0])
    if node.op_type == "DequantizeLinear" and source is not None and source.dtype != np.int8:
        yield f"{node.input[0]} is a constant of {source.dtype} behind DequantizeLinear; expected int8 weights"
    if source is None and scale is not None and scale.size != 1:
        yield f"{node.input[1]} has {scale.size} scales for the activation {node.input[0]}; expected one per tensor"
    if source is not None and scale is not None and scale.size != 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if axis != 0 or scale.size != source.shape[0]:
            yield (
                f"{node.input[1]} has {scale.size} scales along axis {axis} for weights of shape {source.shape}; "
                f"expected one an output channel, axis 0"
            )
    zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero_point is not None and scale is not None and zero_point.size != scale.size:
        yield f"{node.input[2]} has {zero_point.size} zero points for {scale.size} scales; expected as many"


def _layer_violations(node: Any, constants: dict[str, np.ndarray], producer: dict[str, Any]) -> Iterator[str]:
    """A layer is quantised in input and weight or in neither, and its bias is a float constant."""
    from_dequantize = [
        (p := producer.get(name)) is not None and p.op_type == "DequantizeLinear" for name in node.input[:2]
    ]
    for name in node.input[:2]:
        if (p := producer.get(name)) is not None and p.op_type == "QuantizeLinear":
            yield f"{name} goes into {node.name} as int8; expected a DequantizeLinear between"
    if from_dequantize[0] != from_dequantize[1]:
        half = node.input[from_dequantize.index(False)]
        yield f"{half} is float where the other operand of {node.name} is quantised; expected both or neither"
    if len(node.input) > 2 and node.input[2] not in constants:
        yield f"{node.input[2]}, the bias of {node.name}, is computed (int32 behind DQ?); expected a float constant"
    elif len(node.input) > 2:
        bias, wanted = constants[node.input[2]].dtype, _float_type(node, constants, producer)
        if bias not in (np.float16, np.float32) or (wanted is not None and bias != wanted):
            yield f"{node.input[2]}, the bias of {node.name}, is {bias}; expected {wanted or 'float32 or float16'}"


def _float_type(node: Any, constants: dict[str, np.ndarray], producer: dict[str, Any]) -> np.dtype[Any] | None:
    """What a layer computes in beside int8: its weight's type, or its weight's scale's; None where neither is known."""
    source = producer.get(node.input[1])
    value = constants.get(node.input[1] if source is None else source.input[1] if len(source.input) > 1 else "")
    return None if value is None else value.dtype


def _equal(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and first.dtype == second.dtype and np.array_equal(first, second)
