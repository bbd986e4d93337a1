"""What the tensors of a captured network look like over the calibration images, seen in one pass for all schemes.

In: the graph of ``capture``, float batches. Out: the observers of a prepared graph, as if they had seen the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torchao.quantization.pt2e import HistogramObserver

from edge_van.errors import UsageError
from edge_van.quantization.observers import RangeObserver, WeightObserver
from edge_van.quantization.scheme import module_path

Progress = Callable[[int], None]
"""Called with the number of images done since the last call."""


class Histograms:
    """One histogram a tensor, by the name of the node that computes it; which grid it is for makes no difference."""

    def __init__(self, captured: GraphModule, batches: Sequence[Tensor]) -> None:
        """``captured`` is left as it is; ``batches`` are float (N, C, H, W), normalised. ``UsageError`` without any."""
        if not batches:
            raise UsageError("post-training quantisation needs calibration images, got none")
        self._captured, self._batches = captured, batches
        self._seen: dict[str, HistogramObserver] = {}
        self.largest: tuple[str, float] | None = None
        """The largest |x| of all that is computed, a NaN being larger still, and the module; once asked for."""

    def unseen(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that no pass has been run for."""
        return set(names) - self._seen.keys()

    def see(self, names: Iterable[str], progress: Progress | None = None, *, largest: bool = False) -> None:
        """Run all batches, unless every tensor of ``names`` has been seen, and ``largest`` is known where asked for."""
        new = {name: HistogramObserver(dtype=torch.uint8) for name in self.unseen(names)}
        asked = largest and self.largest is None
        if not new and not asked:
            return
        watching = _Watching(self._captured, new, largest=asked)
        with torch.no_grad():
            for batch in self._batches:
                watching.run(batch)
                if progress is not None:
                    progress(len(batch))
        self._seen |= new
        self.largest = watching.largest if asked else self.largest

    def fill(self, observed: GraphModule, progress: Progress | None = None) -> None:
        """In place: the observers of ``observed``, which ``prepare_pt2e`` made of a copy of the captured graph."""
        watched = [
            (observed.get_submodule(str(node.target)), _source(observed, node))
            for node in observed.graph.nodes
            if _is_observer(observed, node)
        ]
        self.see({source.name for observer, source in watched if isinstance(observer, RangeObserver)}, progress)
        for observer, source in watched:
            if isinstance(observer, RangeObserver):
                observer.take(self._seen[source.name])
            else:
                observer(observed.get_parameter(str(source.target)).detach())


class _Watching(Interpreter):
    """Runs a graph and shows the tensors that have an observer to it."""

    def __init__(self, graph: GraphModule, observers: dict[str, HistogramObserver], *, largest: bool) -> None:
        super().__init__(graph)
        self._observers = observers
        self._is_asked = largest
        self.largest = ("", 0.0)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name in self._observers:
            self._observers[n.name](result)
        if self._is_asked and n.op == "call_function" and isinstance(result, Tensor) and result.is_floating_point():
            value = float(torch.stack(torch.aminmax(result)).abs().max())
            if not value <= self.largest[1] and not math.isnan(self.largest[1]):
                self.largest = module_path(n) or n.name, value
        return result


def _is_observer(graph: GraphModule, node: Node) -> bool:
    if node.op != "call_module":
        return False
    return isinstance(graph.get_submodule(str(node.target)), (RangeObserver, WeightObserver))


def _source(graph: GraphModule, observer: Node) -> Node:
    """What computes the tensor: readers with other grids have their observers behind one another."""
    source = observer.all_input_nodes[0]
    while _is_observer(graph, source):
        source = source.all_input_nodes[0]
    return source
