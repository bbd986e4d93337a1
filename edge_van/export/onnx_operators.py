"""The operators of a VAN and its quantisers, each as ONNX has it.

In: a node of a captured network. Out: the name of its result, once its nodes are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_van.errors import VerificationError
from edge_van.export.onnx_writer import Translator, Writer, operator_of
from edge_van.quantization.scheme import classify, module_path


def _weighted(writer: Writer, node: Any) -> tuple[str, list[str]]:
    """A layer's official name, and the names of its inputs; ``classify`` refuses one that has none."""
    classify(node)
    name = writer.layer_name(module_path(node))
    source, weight, *bias = (a for a in node.args[:3] if a is not None)
    own = module_path(node)
    inputs = [writer.tensor(source), _weight(writer, weight, own)]
    return name, inputs + [writer.tensor(b, f"{own}.bias") for b in bias]


def _weight(writer: Writer, weight: Any, layer: str) -> str:
    """Of a quantised one the dequantised: it is written where the layer is, which knows the name."""
    if weight.op == "get_attr":
        return writer.tensor(weight, f"{layer}.weight")
    integers, scale, zero_point, axis = weight.args[:4]
    inputs = [
        writer.tensor(integers, f"{layer}.weight"),
        writer.tensor(scale, f"{layer}.weight_scale"),
        writer.constant(f"{layer}.weight_zero_point", writer.value(zero_point).numpy().astype(np.int8)),
    ]
    dequantized = f"{layer}.weight/dequantize"
    return writer.emit("DequantizeLinear", inputs, f"{layer}.weight_dequantized", dequantized, axis=axis)


def _convolution(writer: Writer, node: Any, output: str) -> str:
    name, inputs = _weighted(writer, node)
    weight = node.args[1] if node.args[1].op == "get_attr" else node.args[1].args[0]
    kernel = list(writer.value(weight).shape[2:])
    arguments = list(node.args[3:])
    strides, padding, dilations, group = arguments + [(1, 1), (0, 0), (1, 1), 1][len(arguments) :]
    pads = [*padding, *padding]
    if padding == "same":  # as torch: the odd one of an odd total comes last
        total = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "group": group}
    return writer.emit("Conv", inputs, _of_layer(writer, name, output), name, **attributes)


def _linear(writer: Writer, node: Any, output: str) -> str:
    name, inputs = _weighted(writer, node)
    return writer.emit("Gemm", inputs, _of_layer(writer, name, output), name, transB=1)


def _of_layer(writer: Writer, name: str, output: str) -> str:
    """Engines that name a kernel by its tensors show the layer so."""
    return output if output in writer.outputs else f"{name}.output"


def _quantize_or_dequantize(writer: Writer, node: Any, output: str) -> str:
    source, scale, zero_point, lowest, highest, dtype = node.args
    integers = {torch.int8: np.int8, torch.uint8: np.uint8}.get(dtype)
    if integers is None or (lowest, highest) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max):
        raise VerificationError(f"{node.name} has {lowest}..{highest} of {dtype}; ONNX takes all of int8 or uint8")
    kind = "QuantizeLinear" if operator_of(node) == "quantize_per_tensor" else "DequantizeLinear"
    inputs = [
        writer.tensor(source),
        writer.constant(f"{output}.scale", np.array(scale, np.float32)),
        writer.constant(f"{output}.zero_point", np.array(zero_point, integers)),
    ]
    return writer.emit(kind, inputs, output)


def _elementwise(kind: str, **attributes: Any) -> Translator:
    def translate(writer: Writer, node: Any, output: str) -> str:
        return writer.emit(kind, [writer.tensor(source) for source in node.args], output, **attributes)

    return translate


def _gelu(writer: Writer, node: Any, output: str) -> str:
    return writer.emit(
        "Gelu", [writer.tensor(node.args[0])], output, approximate=node.kwargs.get("approximate", "none")
    )


def _layer_norm(writer: Writer, node: Any, output: str) -> str:
    source, shape, weight, bias, epsilon = node.args[:5]
    inputs = [writer.tensor(source), writer.tensor(weight), writer.tensor(bias)]
    return writer.emit("LayerNormalization", inputs, output, axis=-len(shape), epsilon=epsilon)


def _reshape(writer: Writer, node: Any, output: str) -> str:
    shape = [-1, *node.meta["val"].shape[1:]]  # the batch size is what is left over
    return writer.emit(
        "Reshape", [writer.tensor(node.args[0]), writer.constant(f"{output}.shape", _int64(shape))], output
    )


def _permute(writer: Writer, node: Any, output: str) -> str:
    source, order = node.args
    return writer.emit("Transpose", [writer.tensor(source)], output, perm=list(order))


def _mean(writer: Writer, node: Any, output: str) -> str:
    source, axes, *keeps = node.args
    inputs = [writer.tensor(source), writer.constant(f"{output}.axes", _int64(axes))]
    return writer.emit("ReduceMean", inputs, output, keepdims=int(any(keeps)))


def _int64(values: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([int(value) for value in values], np.int64)


VAN_OPERATORS: dict[str, Translator] = {
    "conv2d": _convolution,
    "linear": _linear,
    "quantize_per_tensor": _quantize_or_dequantize,
    "dequantize_per_tensor": _quantize_or_dequantize,
    "mul": _elementwise("Mul"),
    "add": _elementwise("Add"),
    "gelu": _gelu,
    "hardswish": _elementwise("HardSwish"),
    "relu": _elementwise("Relu"),
    "layer_norm": _layer_norm,
    "flatten": _reshape,
    "reshape": _reshape,
    "view": _reshape,
    "permute": _permute,
    "mean": _mean,
}
