"""``edge_van.export.float16_range``: what float16 could not hold is seen, though the CPU computes in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edge_van.errors import VerificationError
from edge_van.export.float16_range import LargestActivation, largest_activation
from edge_van.fold import FoldedVAN, fold
from edge_van.van import VAN
from edge_van.variants import Variant


@pytest.fixture
def folded(narrow_variant: Variant) -> FoldedVAN:
    torch.manual_seed(0)
    return fold(VAN(narrow_variant, 7).eval(), (64, 64))[0]


def test_the_largest_value_is_found_and_its_module_named(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    batches = [images(2, 64, 64), images(2, 64, 64, seed=1)]
    usual = largest_activation(folded, batches)
    seen: list[float] = []
    hook = folded.block2[1].mlp.fc2.register_forward_hook(lambda m, i, y: seen.append(float(y.abs().max())))
    with torch.no_grad():
        folded.block2[1].mlp.fc2.weight.mul_(1e6)
        folded.block2[1].mlp.fc2.bias.mul_(1e6)
        found = largest_activation(folded, batches)
    hook.remove()
    assert usual.value < 1e3
    usual.require_float16()
    # the sum of the block, its own output, is the largest: the convolution's output and the residual
    assert found.module in ("block2.1", "block2.1.mlp.fc2", "block2.1.mlp")
    assert found.value == pytest.approx(max(seen), rel=1e-3)
    with pytest.raises(VerificationError, match=r"block2\.1.* reaches .* over float16's 65504"):
        found.require_float16()


@pytest.mark.parametrize(("value", "fits"), [(0.0, True), (32752.0, True), (32753.0, False), (float("nan"), False)])
def test_half_of_what_float16_holds(value: float, fits: bool) -> None:
    largest = LargestActivation("head", value)
    if fits:
        largest.require_float16()
    else:
        with pytest.raises(VerificationError, match="headroom"):
            largest.require_float16()


def test_one_that_is_no_number_is_never_forgotten(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    batches = [torch.full((1, 3, 64, 64), float("nan")), images(1, 64, 64)]
    found = largest_activation(folded, batches)
    with pytest.raises(VerificationError):
        found.require_float16()


def test_the_hooks_are_gone_afterwards(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    largest_activation(folded, [images(1, 64, 64)])
    assert not any(m._forward_hooks for m in folded.modules())
