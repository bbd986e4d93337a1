"""Whether a network's activations stay within float16, which no CPU engine tells: it computes float16 files in float32.

In: a folded network and calibration images. Out: its largest activation; a ``VerificationError`` where that is too near
float16's end.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edge_van.errors import VerificationError
from edge_van.export.precision import LARGEST_FLOAT16
from edge_van.fold import FoldedVAN

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
                f"{self.module} reaches {self.value:.3g} on the calibration images, over float16's {LARGEST_FLOAT16:g} "
                f"with a headroom of {HEADROOM:g}"
            )


@torch.no_grad()
def largest_activation(model: FoldedVAN, batches: Iterable[Tensor]) -> LargestActivation:
    """Run float images (N, 3, H, W), normalised, and look at what every module reads and writes.

    Sums of a block are read by the module after them, so nothing that an engine stores is missed.
    """
    found = LargestActivation("", 0.0)

    def watch(name: str) -> Any:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal found
            for tensor in (*inputs, output):
                value = float(tensor.abs().max())
                if found.value <= LARGEST_FLOAT16 and not value <= found.value:  # a NaN is found, and stays
                    found = LargestActivation(name, value)

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(watch(name)).remove)
        for batch in batches:
            model(batch)
    return found
