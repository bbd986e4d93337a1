"""A captured network, operator by operator, as ONNX.

In: the graph of a ``FoldedVAN`` or of a ``QuantizedVAN``, which has a dozen operators. Out: a ``ModelProto``.
torch's own exporter makes the same graph under other names, as a test compares, but traces and rewrites it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from edge_van.errors import VerificationError
from edge_van.export.onnx_centred import centre
from edge_van.quantization.scheme import classify, module_path

OPSET, IR_VERSION = 20, 10
"""The first opset with Gelu, and the last that the parser of TensorRT 10.3 (JetPack 6.1 and 6.2) is documented for. In
21 a rewrite of ONNX Runtime 1.27 to 1.32 breaks asymmetric graphs: it moves a QuantizeLinear over a Reshape, gives the
copy an output type of int8 beside its uint8 zero point, and the session refuses its own graph."""
INPUT, OUTPUT = "images", "logits"
_GUARDS = "_guards_fn"
"""torch's checks of the input's shape; ONNX has them in the input's type."""
_KNOWN = {"approximate"}
"""Arguments by name; the others come by their place."""
_UNSEEN = ("sym_size", "dequantize_per_channel")
"""The free batch size, which ONNX has in the shapes; and the weights, which are written with their layers."""


def to_onnx(graph: GraphModule, input_size: tuple[int, int], *, centred: bool = False) -> Any:
    """``graph`` as a ModelProto: ``images`` float32 (batch, channels, *input_size) to ``logits``, the batch size free.

    A convolution or linear node has the layer's official name, and so have its weight, bias and scale. With
    ``centred`` tensors that are quantised as uint8 become int8 around 0 (``onnx_centred``).
    Raises ``VerificationError`` for an operator that no VAN has.
    """
    import onnx
    from onnx import TensorProto, helper

    writer = _Writer(graph)
    [images] = [node for node in graph.graph.nodes if node.op == "placeholder"]
    [output] = [node for node in graph.graph.nodes if node.op == "output"]
    [logits] = output.args[0]
    writer.names[images] = INPUT
    channels = int(images.meta["val"].shape[1])
    for node in graph.graph.nodes:
        if node.op == "call_function":
            writer.add(node, OUTPUT if node is logits else None)
        elif node.op == "call_module" and node.target != _GUARDS:
            raise VerificationError(f"the captured network calls the module {node.target}, which no VAN has")
    proto = helper.make_graph(
        writer.nodes,
        "van",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", channels, *input_size])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", _classes(logits)])],
        writer.constants,
    )
    if centred:
        centre(proto)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, producer_name="edge-van", opset_imports=[opset], ir_version=IR_VERSION)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _classes(logits: Node) -> int:
    """Of the head, whose output may be quantised: nodes of the quantiser have no shape noted."""
    while "val" not in logits.meta:
        logits = logits.all_input_nodes[0]
    return int(logits.meta["val"].shape[1])


_Translator = Callable[["_Writer", Any, str], str]
"""Writes a node of the captured graph, whose arguments are its operator's, under the name that its result is to have;
returns the name it has."""


class _Writer:
    """Nodes and constants so far. Equal nodes and equal constants are written once."""

    def __init__(self, graph: GraphModule) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[Node, str] = {}  # of the tensors
        self._known: dict[Any, str] = {}

    def add(self, node: Node, output: str | None) -> None:
        operator = _operator(node)
        if operator in _UNSEEN:
            return
        if operator not in _TRANSLATORS:
            raise VerificationError(f"the captured network has the operator {node.target}, which no VAN has")
        if unknown := node.kwargs.keys() - _KNOWN:
            raise VerificationError(
                f"{node.name} of the captured network has {', '.join(sorted(unknown))}, unknown here"
            )
        self.names[node] = _TRANSLATORS[operator](self, node, output or node.name)

    def emit(self, kind: str, inputs: Sequence[str], output: str, name: str | None = None, **attributes: Any) -> str:
        """The name of the result: ``output``, or that of an equal node before."""
        from onnx import helper

        key = (kind, *inputs, str(attributes))
        if key not in self._known or output == OUTPUT:
            self._known[key] = output
            self.nodes.append(helper.make_node(kind, inputs, [output], name or f"node_{output}", **attributes))
        return self._known[key]

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """The name of a constant that has none in the network: ``name``, or that of an equal one before."""
        key = (values.dtype, values.shape, values.tobytes())
        if key not in self._known:
            self._known[key] = self._write(name, values)
        return self._known[key]

    def tensor(self, argument: Node, name: str | None = None) -> str:
        """The name of what ``argument`` computes; of a constant, the one that it got first: ``name`` or its own."""
        if argument not in self.names:
            self.names[argument] = self._write(name or str(argument.target), self.value(argument).numpy())
        return self.names[argument]

    def _write(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def value(self, argument: Node) -> Tensor:
        if argument.op != "get_attr":
            raise VerificationError(f"{argument.name} feeds the network and is neither constant nor computed")
        owner: Any = self.graph
        for part in str(argument.target).split("."):
            owner = getattr(owner, part)
        values: Tensor = owner.detach().contiguous()
        return values


def _operator(node: Node) -> str:
    """Without its library and overload: ``conv2d`` of ``aten.conv2d.default``."""
    return str(node.target).split(".")[-2]


def _weighted(writer: _Writer, node: Any) -> tuple[str, list[str]]:
    """A layer's official name, and the names of its inputs; ``classify`` refuses one that has none."""
    classify(node)
    name = module_path(node)
    source, weight, *bias = (a for a in node.args[:3] if a is not None)
    inputs = [writer.tensor(source), _weight(writer, weight, name)]
    return name, inputs + [writer.tensor(b, f"{name}.bias") for b in bias]


def _weight(writer: _Writer, weight: Any, layer: str) -> str:
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


def _convolution(writer: _Writer, node: Any, output: str) -> str:
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
    return writer.emit("Conv", inputs, _of_layer(name, output), name, **attributes)


def _linear(writer: _Writer, node: Any, output: str) -> str:
    name, inputs = _weighted(writer, node)
    return writer.emit("Gemm", inputs, _of_layer(name, output), name, transB=1)


def _of_layer(name: str, output: str) -> str:
    """Engines that name a kernel by its tensors show the layer so."""
    return output if output == OUTPUT else f"{name}.output"


def _quantize_or_dequantize(writer: _Writer, node: Any, output: str) -> str:
    source, scale, zero_point, lowest, highest, dtype = node.args
    integers = {torch.int8: np.int8, torch.uint8: np.uint8}.get(dtype)
    if integers is None or (lowest, highest) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max):
        raise VerificationError(f"{node.name} has {lowest}..{highest} of {dtype}; ONNX takes all of int8 or uint8")
    kind = "QuantizeLinear" if _operator(node) == "quantize_per_tensor" else "DequantizeLinear"
    inputs = [
        writer.tensor(source),
        writer.constant(f"{output}.scale", np.array(scale, np.float32)),
        writer.constant(f"{output}.zero_point", np.array(zero_point, integers)),
    ]
    return writer.emit(kind, inputs, output)


def _elementwise(kind: str, **attributes: Any) -> _Translator:
    def translate(writer: _Writer, node: Any, output: str) -> str:
        return writer.emit(kind, [writer.tensor(source) for source in node.args], output, **attributes)

    return translate


def _gelu(writer: _Writer, node: Any, output: str) -> str:
    return writer.emit(
        "Gelu", [writer.tensor(node.args[0])], output, approximate=node.kwargs.get("approximate", "none")
    )


def _layer_norm(writer: _Writer, node: Any, output: str) -> str:
    source, shape, weight, bias, epsilon = node.args[:5]
    inputs = [writer.tensor(source), writer.tensor(weight), writer.tensor(bias)]
    return writer.emit("LayerNormalization", inputs, output, axis=-len(shape), epsilon=epsilon)


def _reshape(writer: _Writer, node: Any, output: str) -> str:
    shape = [-1, *node.meta["val"].shape[1:]]  # the batch size is what is left over
    return writer.emit(
        "Reshape", [writer.tensor(node.args[0]), writer.constant(f"{output}.shape", _int64(shape))], output
    )


def _permute(writer: _Writer, node: Any, output: str) -> str:
    source, order = node.args
    return writer.emit("Transpose", [writer.tensor(source)], output, perm=list(order))


def _mean(writer: _Writer, node: Any, output: str) -> str:
    source, axes = node.args
    inputs = [writer.tensor(source), writer.constant(f"{output}.axes", _int64(axes))]
    return writer.emit("ReduceMean", inputs, output, keepdims=0)


def _int64(values: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([int(value) for value in values], np.int64)


_TRANSLATORS: dict[str, _Translator] = {
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
