"""``edge_van.export.float16_range``: what float16 could not hold is seen, though the CPU computes in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edge_van.errors import VerificationError
from edge_van.export.float16_range import LargestActivation, check_float16, float16_logits, largest_activation
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization.ptq import capture, post_training_quantize
from edge_van.quantization.scheme import get_scheme
from edge_van.statistics import sqnr_db


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


def test_rounding_every_tensor_is_torchs_own_float16(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    batch = images(4, 64, 64)
    with torch.no_grad():
        exact = folded(batch).numpy()
    graph = capture(folded)
    rounded, own = float16_logits(graph, batch).numpy(), float16_logits(folded, batch).numpy()
    assert next(folded.parameters()).dtype == torch.float32  # a copy was made half
    assert 50 < sqnr_db(exact, rounded) < 90
    assert 50 < sqnr_db(exact, own) < 90
    check_float16(folded, batch, 50.0)
    with pytest.raises(VerificationError, match="with float16 activations the logits keep"):
        check_float16(folded, batch, 100.0)


def test_an_overflow_shows(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    """100 times 2000 in float16 is infinite; ONNX Runtime, which computes float16 files in float32, makes it 200000."""
    batch = images(2, 64, 64)
    folded.block1[0].mlp.fc2.bias.data.fill_(1e5)
    for network in (folded, capture(folded)):
        assert not torch.isfinite(float16_logits(network, batch)).all()
        with pytest.raises(VerificationError, match="keep nan dB"):
            check_float16(network, batch, 40.0)


def test_a_quantised_graph(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    batch = images(4, 64, 64)
    quantized = post_training_quantize(folded, [batch], get_scheme("int8_pointwise"))
    rounded = float16_logits(quantized.graph, batch)
    with torch.no_grad():
        exact = quantized.graph(batch)
    assert not torch.equal(rounded, exact)
    assert sqnr_db(exact.numpy(), rounded.numpy()) > 20
