"""What float16 does to a network's activations, which no CPU engine tells: it computes float16 files in float32.

In: a folded or quantised network and images. Out: its largest activation, a ``VerificationError`` where that is too
near float16's end; its logits with every tensor rounded to float16.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edge_van.errors import VerificationError
from edge_van.export.precision import LARGEST_FLOAT16
from edge_van.model.fold import FoldedVAN
from edge_van.runtimes import open_model
from edge_van.statistics import sqnr_db

HEADROOM = 2.0
"""Images that were not seen may go this much further than those that were."""


@dataclass(frozen=True)
class LargestActivation:
    """The largest |x| that goes into or comes out of any module, and which."""

    module: str
    value: float

    def require_float16(self) -> None:
        """Raise ``VerificationError`` over half of what float16 holds; a value that is no number is over it too."""
        if not self.value * HEADROOM <= LARGEST_FLOAT16:
            raise VerificationError(
                f"{self.module} reaches {self.value:.3g} on the images that were run, over float16's "
                f"{LARGEST_FLOAT16:g} with a headroom of {HEADROOM:g}"
            )


@torch.no_grad()
def largest_activation(model: FoldedVAN, batches: Iterable[Tensor]) -> LargestActivation:
    """Run float images (N, 3, H, W), normalised, and look at what every module reads and writes.

    Sums of a block are read by the module after them, so nothing that an engine stores is missed.
    """
    largest = LargestActivation("", 0.0)

    def watch(name: str) -> Any:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal largest
            for tensor in (*inputs, output):
                value = float(torch.stack(torch.aminmax(tensor)).abs().max())
                if largest.value <= LARGEST_FLOAT16 and not value <= largest.value:  # a NaN is largest, and stays
                    largest = LargestActivation(name, value)

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(watch(name)).remove)
        for batch in batches:
            model(batch)
    return largest


def largest_in_file(path: Path, images: Iterable[NDArray[Any]]) -> LargestActivation:
    """The same of a written graph, of whose network there is no module: every float tensor between its operators.

    ``images`` are batches as the graph takes them. Float16 that has overflowed is infinite, and the largest.
    """
    import onnx

    model = onnx.load(path)
    graph, there = model.graph, {value.name for value in model.graph.output}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if value.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            graph.output.append(onnx.ValueInfoProto(name=value.name, type=value.type))
    [taken] = graph.input
    largest = LargestActivation("", 0.0)
    with tempfile.TemporaryDirectory(prefix="edge-van-") as scratch:
        everything = Path(scratch) / path.name
        onnx.save(model, everything)
        with open_model("onnxruntime", everything, exact=True) as session:
            for batch in images:
                for name, values in session.run({taken.name: np.ascontiguousarray(batch)}).items():
                    value = float(np.abs(values).max())
                    if name not in there and largest.value <= LARGEST_FLOAT16 and not value <= largest.value:
                        largest = LargestActivation(name, value)
    return largest


class _RoundedToFloat16(Interpreter):
    """Runs a graph and stores every float tensor, weights and images included, as float16 would hold it."""

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        is_float = isinstance(result, Tensor) and result.is_floating_point()
        return result.half().float() if is_float else result


@torch.no_grad()
def float16_logits(network: FoldedVAN | GraphModule, images: Tensor) -> Tensor:
    """(N, classes) of float images (N, 3, H, W) with float16 between any two operators, float32 sums inside them.

    A folded network computes in torch's own float16; a quantised graph, whose operators have none, is rounded. An
    engine fuses operators, so it rounds less often than either: the noise is an upper estimate.
    """
    if isinstance(network, FoldedVAN):
        return cast(Tensor, copy.deepcopy(network).half()(images.half())).float()
    return cast(Tensor, _RoundedToFloat16(network).run(images))


@torch.no_grad()
def check_float16(network: FoldedVAN | GraphModule, images: Tensor, floor_db: float) -> None:
    """Raise ``VerificationError`` where float16 puts the logits under ``floor_db`` of SQNR to those in float32."""
    measured = sqnr_db(network(images).numpy(), float16_logits(network, images).numpy())
    if not measured >= floor_db:
        raise VerificationError(
            f"with float16 activations the logits keep {measured:.1f} dB SQNR to float32's, at least {floor_db:.1f} "
            f"were expected"
        )
