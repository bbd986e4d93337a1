"""``edge_van.quantization.fake_quantize``: rounding as the converted graph rounds, gradients by the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edge_van.quantization.fake_quantize import ActivationGrid, WeightGrid
from edge_van.quantization.observers import EPS, HalfScaleRangeObserver, RangeObserver, WeightObserver


def activation_grid(x: Tensor, *, symmetric: bool = False) -> ActivationGrid:
    kind = HalfScaleRangeObserver if symmetric else RangeObserver
    observer = kind(
        dtype=torch.int8 if symmetric else torch.uint8,
        quant_min=-128 if symmetric else 0,
        quant_max=127 if symmetric else 255,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        eps=EPS,
    )
    observer(x)
    return ActivationGrid(observer)


def weight_grid(weight: Tensor, largest: int = 127, *, halves: bool = False) -> WeightGrid:
    options: dict[str, Any] = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0, "eps": EPS}
    observer = WeightObserver(dtype=torch.int8, quant_min=-largest, quant_max=largest, halves=halves, **options)
    observer(weight)
    return WeightGrid(observer)


@pytest.mark.parametrize("symmetric", [False, True])
def test_it_starts_from_the_calibrated_range(symmetric: bool) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + 0.5
    grid = activation_grid(x, symmetric=symmetric)
    scale, zero_point = grid.calculate_qparams()
    ends = (grid.quant_min, grid.quant_max)
    assert torch.equal(grid(x), torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), *ends))
    if symmetric:
        assert (int(zero_point), scale.half().float()) == (0, scale)


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), factor=st.floats(0.2, 3.0), symmetric=st.booleans())
def test_gradients_are_those_of_the_definition(seed: int, factor: float, symmetric: bool) -> None:
    """Against plain operators that let autograd do it, with the rounding passed over."""
    x = torch.randn(64, generator=torch.Generator().manual_seed(seed))
    grid = activation_grid(x)
    if symmetric:
        grid = activation_grid(x, symmetric=True)
        grid.halves = False  # rounding to float16 has no gradient to compare with
    with torch.no_grad():
        grid.log_scale += torch.tensor(factor).log()  # so that values lie outside too
    # within a step of the grid's ends the two disagree on whether a value that rounds to the end is inside
    scale = float(grid.log_scale.detach().exp())
    edges = torch.tensor([(end - int(grid.zero_point)) * scale for end in (grid.quant_min, grid.quant_max)])
    upstream = torch.linspace(-1, 2, 64) * ((x.view(-1, 1) - edges).abs().amin(1) > scale)

    def by_autograd(x: Tensor, log_scale: Tensor) -> Tensor:
        scale, zero = log_scale.exp(), grid.zero_point
        steps = x / scale
        rounded = steps + (torch.round(steps + zero) - zero - steps).detach()
        return torch.clamp(rounded, grid.quant_min - int(zero), grid.quant_max - int(zero)) * scale

    gradients = []
    for function in (lambda x, log_scale: grid(x), by_autograd):
        leaf, log_scale = x.clone().requires_grad_(), grid.log_scale.detach().clone().requires_grad_()
        if function is not by_autograd:
            log_scale = grid.log_scale
            log_scale.grad = None
        function(leaf, log_scale).backward(upstream)
        gradients.append((leaf.grad, log_scale.grad))
    (dx, ds), (expected_dx, expected_ds) = gradients
    assert torch.allclose(dx, expected_dx)
    assert torch.allclose(ds, expected_ds, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("halves", [False, True])
def test_weights_reach_the_end_of_their_grid_until_it_is_frozen(halves: bool) -> None:
    weight = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    grid = weight_grid(weight, 63, halves=halves)
    observed = grid.calculate_qparams()[0].clone()
    grid(weight)
    assert torch.allclose(grid.scale, observed)
    grid(2 * weight)
    assert torch.allclose(grid.scale, 2 * observed, rtol=1e-3)
    assert not halves or torch.equal(grid.scale.half().float(), grid.scale)
    grid.frozen = True
    found = grid(4 * weight)
    assert torch.allclose(grid.scale, 2 * observed, rtol=1e-3)
    assert float((found / grid.scale.view(-1, 1, 1, 1)).abs().max()) == pytest.approx(63)


def test_a_weights_gradient_passes() -> None:
    weight = torch.randn(4, 3, 1, 1).requires_grad_()
    weight_grid(weight.detach())(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
