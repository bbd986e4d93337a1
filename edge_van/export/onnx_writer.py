"""ONNX nodes and constants as they are written, each once.

In: the graph of a captured network, its nodes one after the other. Out: lists of ``NodeProto`` and ``TensorProto``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from edge_van.errors import VerificationError

_KNOWN = {"approximate"}
"""Arguments by name; the others come by their place."""
_UNSEEN = ("sym_size", "dequantize_per_channel")
"""The free batch size, which ONNX has in the shapes; and the weights, which are written with their layers."""

Translator = Callable[["Writer", Any, str], str]
"""Writes a node of the captured graph, whose arguments are its operator's, under the name that its result is to have;
returns the name it has."""


class Writer:
    """Nodes and constants so far. Equal nodes and equal constants are written once."""

    def __init__(self, graph: GraphModule, translators: Mapping[str, Translator], outputs: Collection[str]) -> None:
        self.graph = graph
        self.outputs = frozenset(outputs)
        self._translators = translators
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[Node, str] = {}  # of the tensors
        self._known: dict[Any, str] = {}
        self._layers: Counter[str] = Counter()

    def add(self, node: Node, output: str | None) -> None:
        operator = operator_of(node)
        if operator in _UNSEEN:
            return
        if operator not in self._translators:
            raise VerificationError(f"the captured network has the operator {node.target}, which no VAN has")
        if unknown := node.kwargs.keys() - _KNOWN:
            raise VerificationError(
                f"{node.name} of the captured network has {', '.join(sorted(unknown))}, unknown here"
            )
        self.names[node] = self._translators[operator](self, node, output or node.name)

    def emit(self, kind: str, inputs: Sequence[str], output: str, name: str | None = None, **attributes: Any) -> str:
        """The name of the result: ``output``, or that of an equal node before."""
        from onnx import helper

        key = (kind, *inputs, str(attributes))
        if key not in self._known or output in self.outputs:
            self._known[key] = output
            self.nodes.append(helper.make_node(kind, inputs, [output], name or f"node_{output}", **attributes))
        return self._known[key]

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """The name of a constant that has none in the network: ``name``, or that of an equal one before."""
        key = (values.dtype, values.shape, values.tobytes())
        if key not in self._known:
            self._known[key] = self._write(name, values)
        return self._known[key]

    def layer_name(self, name: str) -> str:
        """Of a layer that several maps go through, after the first one with its number behind it."""
        self._layers[name] += 1
        return name if self._layers[name] == 1 else f"{name}/{self._layers[name]}"

    def tensor(self, argument: Node | float, name: str | None = None) -> str:
        """The name of what ``argument`` computes; of a constant, the one that it got first: ``name`` or its own."""
        if not isinstance(argument, Node):
            return self.constant(f"constant_{argument:g}", np.array(argument, np.float32))
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


def operator_of(node: Node) -> str:
    """Without its library and overload: ``conv2d`` of ``aten.conv2d.default``."""
    return str(node.target).split(".")[-2]
