"""A Q/DQ graph for engines whose grids are all centred on 0, with the same integers but for a constant.

In: an ONNX graph with uint8 tensors that a 1x1 convolution reads. Out: the same graph, with int8 in their place.

A GELU is never under -0.17: a symmetric int8 grid, the only one TensorRT and Arm's Compute Library take, spends one of
its eight bits on values that do not occur, which is most of what it costs a VAN. The tensor is therefore quantised as
uint8 with a zero point z, and written as x - c with c = (128 - z) * scale, which has the zero point 0. The convolution
gets c times the sum of its weights, as they are quantised, in its bias: exact where nothing is padded. Engines compute
the subtraction with the GELU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_van.errors import VerificationError


def centre(graph: Any) -> None:
    """In place. Raises ``VerificationError`` for a uint8 tensor that not just one unpadded 1x1 convolution reads."""
    from onnx import helper

    constants = _Constants(graph)
    producer = {output: node for node in graph.node for output in node.output}
    moved = []
    for quantize in [n for n in graph.node if n.op_type == "QuantizeLinear"]:
        zero_point = constants[quantize.input[2]]
        if zero_point.dtype != np.uint8:
            continue
        dequantize, layer = _readers(graph, quantize.output[0])
        weight = producer[layer.input[1]]
        steps = 128 - int(zero_point)  # uint8's 0..255 are int8's -128..127
        offset = np.float32(steps) * constants[quantize.input[1]]
        weights, scales = (constants[name] for name in weight.input[:2])
        sums = scales.astype(np.float64) * weights.reshape(len(weights), -1).sum(1, dtype=np.int64)
        bias = (constants[layer.input[2]] + offset * sums).astype(np.float32)
        layer.input[2] = constants.add(f"{layer.name}.bias_centred", bias)
        shifted = f"{layer.name}.input_centred"
        add = helper.make_node(
            "Add",
            [quantize.input[0], constants.add(f"{layer.name}.offset", -offset)],
            [shifted],
            name=f"node_{shifted}",
        )
        moved.append((quantize, add))
        quantize.input[0] = shifted
        quantize.input[2] = dequantize.input[2] = constants.add("zero_point_centred", np.int8(0))
    nodes = []
    additions = {quantize.name: add for quantize, add in moved}
    for node in graph.node:
        nodes += [additions[node.name], node] if node.name in additions else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    constants.drop_unread()


def _readers(graph: Any, tensor: str) -> tuple[Any, Any]:
    """The one dequantiser of ``tensor`` and the one layer behind it."""
    dequantizers = [n for n in graph.node if tensor in n.input]
    layers = [n for d in dequantizers for n in graph.node if d.output[0] in n.input]
    if [n.op_type for n in dequantizers] != ["DequantizeLinear"] or [n.op_type for n in layers] != ["Conv"]:
        kinds = ", ".join(n.op_type for n in (*dequantizers, *layers))
        raise VerificationError(f"{tensor} is uint8 and read by {kinds}: only one convolution's input can be centred")
    attributes = {a.name: list(a.ints) for a in layers[0].attribute if a.ints}
    if any(attributes["pads"]) or attributes["kernel_shape"] != [1, 1]:
        raise VerificationError(f"{layers[0].name} pads what it reads: its input cannot be centred")
    return dequantizers[0], layers[0]


class _Constants:
    """A graph's initializers by their names."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def add(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        if name not in self._values:
            self._values[name] = np.asarray(values)
            self._graph.initializer.append(numpy_helper.from_array(self._values[name], name))
        return name

    def drop_unread(self) -> None:
        read = {name for node in self._graph.node for name in node.input}
        kept = [t for t in self._graph.initializer if t.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
