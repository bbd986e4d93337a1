"""A Q/DQ graph whose quantisers are switched layer by layer, by an input of the graph: one session for every question.

In: the ONNX graph of a scheme, the FP32 graph with the same layers. Out: ``Switched``: the graph with the input
``quantised`` (places,) bool beside its images, and what each place is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import VerificationError
from edge_van.model.layer_names import Part, part_of

SWITCHES = "quantised"
GATE, RESIDUAL, NORM = "LKA gate", "residual", "LayerNorm"
"""The parts that have no weights, beside those of ``Part``."""
PARTS = (*(part.value for part in Part), GATE, RESIDUAL, NORM)
_HALF_A_STEP = 0.501
"""Of the grid, and room for float32: further from its weights on the grid a float weight is another network's."""


@dataclass(frozen=True)
class Place:
    """What is switched as one: a layer with its input and its weights, or an operation with its inputs.

    ``grids`` are (lowest, highest) of the activations it takes, as far as they are its own to quantise. ``kept`` is
    whether its weights stay on their grid while it is switched off, because the float ones are not at hand.
    """

    name: str
    part: str
    grids: tuple[tuple[float, float], ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class Switched:
    """``places`` in the order of the graph, which is that of the switches."""

    model: Any
    places: tuple[Place, ...]
    tensors: tuple[tuple[str, ...], ...]  # of each place: the float tensors behind ``grids``


def switched(quantized: Any, float_network: Any) -> Switched:
    """``quantized`` and ``float_network`` are ModelProtos; neither is changed.

    Raises ``VerificationError`` for a quantiser in a place that no scheme has, and for networks that do not fit.
    """
    from onnx import ModelProto, TensorProto, helper

    model = ModelProto()
    model.CopyFrom(quantized)
    _read_outputs_(model.graph)
    graph = _Graph(model.graph, float_network.graph)
    edges = [edge for node in model.graph.node for edge in graph.edges(node)]
    names = list(dict.fromkeys(edge.place for edge in edges))
    # of any order of axes: a device's graph may take pixels as they lie in memory
    shapes = [
        sorted(d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim[1:])
        for network in (quantized, float_network)
    ]
    if not names or shapes[0] != shapes[1]:
        why = "takes other images than its FP32 graph" if names else "quantises nothing"
        raise VerificationError(f"the graph of the scheme {why}: make the bundle again")
    number = {name: i for i, name in enumerate(names)}
    nodes: list[Any] = []
    known: dict[tuple[str, str, str], str] = {}
    for name, i in number.items():
        index = helper.make_tensor(f"switch_{i}.index", TensorProto.INT64, [], [i])
        model.graph.initializer.append(index)
        nodes.append(helper.make_node("Gather", [SWITCHES, index.name], [f"switch_{i}"], f"switch of {name}"))
    by_node: dict[int, list[_Edge]] = {}
    for edge in edges:
        by_node.setdefault(id(edge.node), []).append(edge)
    for node in model.graph.node:
        for edge in by_node.get(id(node), []):
            key = edge.place, edge.node.input[edge.index], edge.off
            if key not in known:
                known[key] = f"either_{len(known)}"
                inputs = [f"switch_{number[edge.place]}", edge.node.input[edge.index], edge.off]
                nodes.append(helper.make_node("Where", inputs, [known[key]], f"node_{known[key]}"))
            edge.node.input[edge.index] = known[key]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [len(names)]))
    return Switched(model, *graph.described(names, edges))


def _read_outputs_(graph: Any) -> None:
    """In place: a result that comes off a grid, as that of ARM's head does, gets a reader that can be switched."""
    from onnx import helper

    producer = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        dequantize = producer[output.name]
        if dequantize.op_type == "DequantizeLinear":
            dequantize.output[0] = f"{output.name}.on_grid"
            reader = helper.make_node("Identity", [dequantize.output[0]], [output.name], f"node_{output.name}.read")
            graph.node.append(reader)


@dataclass(frozen=True)
class _Edge:
    """Where ``node`` reads what came off a grid; ``off`` is the tensor it reads instead while the place is off."""

    node: Any
    index: int
    place: str
    part: str
    off: str
    grid: tuple[float, float] | None = None
    kept: bool = False


@dataclass
class _Graph:
    graph: Any
    other: Any
    producer: dict[str, Any] = field(init=False)
    readers: dict[str, list[Any]] = field(init=False)
    order: dict[str, int] = field(init=False)
    others: dict[str, Any] = field(init=False)
    added: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.floats = {t.name: numpy_helper.to_array(t) for t in self.other.initializer}
        self.producer = {output: node for node in self.graph.node for output in node.output}
        self.others = {str(node.name): node for node in self.other.node}
        self.order = {node.name: i for i, node in enumerate(self.graph.node)}
        self.readers = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def edges(self, node: Any) -> Iterator[_Edge]:
        for index, name in enumerate(node.input):
            dequantize = self.producer.get(name)
            if dequantize is None or dequantize.op_type != "DequantizeLinear":
                continue
            if dequantize.input[0] in self.constants:
                yield from self._weight(node, index, dequantize)
            else:
                yield self._activation(node, index, dequantize)

    def _weight(self, node: Any, index: int, dequantize: Any) -> Iterator[_Edge]:
        name, part = _layer(node)
        on_grid, weight = self._dequantized(dequantize), self._float_weight(node)
        if weight is None:
            yield _Edge(node, index, name, part, node.input[index], kept=True)
            return
        yield _Edge(node, index, name, part, self._constant(f"{name}.float_weight", weight.astype(on_grid.dtype)))
        if self._centring(node) is not None:
            bias = self.floats[self.others[name].input[2]].astype(on_grid.dtype)
            yield _Edge(node, 2, name, part, self._constant(f"{name}.float_bias", bias))

    def _activation(self, node: Any, index: int, dequantize: Any) -> _Edge:
        quantize = self.producer[dequantize.input[0]]
        source = quantize.input[0]
        scale, zero_point = (self.constants[i] for i in quantize.input[1:3])
        ends = np.iinfo(zero_point.dtype)
        low, high = ((end - int(zero_point)) * float(scale) for end in (ends.min, ends.max))
        place, part = self._owner(node, source)
        off, moved = source, self._centring(node) if index == 0 else None
        if moved is not None and self._float_weight(node) is not None:
            off, offset = moved.input[0], float(self.constants[moved.input[1]])
            low, high = low - offset, high - offset
        return _Edge(node, index, place, part, off, (low, high))

    def _owner(self, node: Any, source: str) -> tuple[str, str]:
        """(place, part) of the quantiser of ``source`` where ``node`` reads it."""
        if node.op_type in ("Conv", "Gemm"):
            return _layer(node)
        if node.op_type in ("Mul", "Add"):
            return self._operation(node)
        if (norm := self._norm_behind(node)) is not None:
            return f"{norm}.input", NORM
        writer = self.producer.get(source)
        if writer is not None and writer.op_type == "LayerNormalization":
            return writer.input[1].removesuffix(".weight"), NORM
        if writer is not None and writer.op_type in ("Conv", "Gemm"):
            return _layer(writer)
        raise VerificationError(f"{node.name} reads a quantised tensor, and belongs to no layer that a scheme has")

    def _operation(self, node: Any) -> tuple[str, str]:
        constants = [name for name in node.input if name in self.constants]
        if constants:  # a block's residual_scale
            return constants[0], RESIDUAL
        layer = max((self._layer_before(name) for name in node.input), key=lambda name: self.order.get(name, -1))
        block, _, leaf = layer.rpartition(".")
        return (block, GATE) if leaf == "conv1" else (f"{block}.residual", RESIDUAL)

    def _layer_before(self, tensor: str) -> str:
        while (node := self.producer.get(tensor)) is not None:
            if node.op_type in ("Conv", "Gemm"):
                return str(node.name)
            computed = [name for name in node.input if name in self.producer]
            if len(computed) != 1:
                return ""
            tensor = computed[0]
        return ""

    def _norm_behind(self, node: Any) -> str | None:
        while node.op_type in ("Transpose", "Reshape"):
            [node, *more] = self.readers[node.output[0]]
            if more:
                return None
        return str(node.input[1]).removesuffix(".weight") if node.op_type == "LayerNormalization" else None

    def _centring(self, node: Any) -> Any | None:
        """The addition that moves what the layer reads into the middle of its grid (``export.onnx_centred``)."""
        dequantize = self.producer.get(node.input[0])
        if node.op_type != "Conv" or dequantize is None or dequantize.op_type != "DequantizeLinear":
            return None
        source = self.producer[dequantize.input[0]].input[0]
        add = self.producer.get(source)
        return add if add is not None and source == f"{node.name}.input_centred" else None

    def _dequantized(self, dequantize: Any) -> NDArray[Any]:
        values, scale = (self.constants[i] for i in dequantize.input[:2])
        on_grid: NDArray[Any] = values.astype(scale.dtype) * scale.reshape(-1, *[1] * (values.ndim - 1))
        return on_grid

    def _float_weight(self, node: Any) -> NDArray[Any] | None:
        """None where the FP32 graph has other weights than those that were quantised."""
        other = self.others.get(str(node.name))
        dequantize = self.producer[node.input[1]]
        weight = None if other is None else self.floats.get(other.input[1])
        on_grid, scale = self._dequantized(dequantize), self.constants[dequantize.input[1]]
        if weight is None or weight.shape != on_grid.shape:
            return None
        steps = weight / scale.astype(np.float32).reshape(-1, *[1] * (on_grid.ndim - 1))
        return weight if (np.abs(steps - self.constants[dequantize.input[0]]) <= _HALF_A_STEP).all() else None

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self.added:
            self.added.add(name)
            self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def described(self, names: list[str], edges: list[_Edge]) -> tuple[tuple[Place, ...], tuple[tuple[str, ...], ...]]:
        places, tensors = [], []
        for name in names:
            own = [edge for edge in edges if edge.place == name]
            grids = {edge.off: edge.grid for edge in own if edge.grid is not None}
            places.append(Place(name, own[0].part, tuple(grids.values()), any(edge.kept for edge in own)))
            tensors.append(tuple(grids))
        return tuple(places), tuple(tensors)


def _layer(node: Any) -> tuple[str, str]:
    part = part_of(str(node.name))
    if part is None:
        raise VerificationError(f"the graph has a layer that no VAN has: {node.name!r}; make the bundle again")
    return str(node.name), part.value
