"""``edge_van.training.network``: the same function as the VAN it is made of, in train mode too."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from narrow import NARROW
from torch import Tensor, nn

from edge_van.model.van import VAN
from edge_van.training.network import CroppedConv2d, GlobalBatchNorm2d, make_trainable_, plan_drop_paths_

Images = Callable[..., Tensor]


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 80)])
def test_it_computes_and_learns_as_the_van_does(narrow_van: VAN, images: Images, size: tuple[int, int]) -> None:
    plain, ready = copy.deepcopy(narrow_van).train(), make_trainable_(copy.deepcopy(narrow_van))
    assert list(plain.state_dict()) == list(ready.state_dict())
    x = images(4, *size)
    found, expected = ready(x), plain(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    for network, logits in ((plain, expected), (ready, found)):
        logits.square().mean().backward()
        assert all(p.grad is not None for p in network.parameters())
    for (name, a), (_, b) in zip(plain.named_parameters(), ready.named_parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).abs().max() <= 1e-3 * a.grad.abs().max() + 1e-5, name
    for name, value in plain.state_dict().items():
        assert torch.allclose(value.float(), ready.state_dict()[name].float(), rtol=1e-4, atol=1e-5), name


@given(
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    taps=st.sampled_from([1, 3, 5, 7]),
    dilation=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.booleans(),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_a_cropped_convolution_is_the_convolution(
    sides: tuple[int, int], taps: int, dilation: tuple[int, int], bias: bool, layout: torch.memory_format
) -> None:
    """In value, in every gradient, and in how its result is stored."""
    padding = tuple((taps - 1) * d // 2 for d in dilation)
    plain = nn.Conv2d(4, 4, taps, padding=padding, dilation=dilation, groups=4, bias=bias)
    cropped = copy.deepcopy(plain)
    cropped.__class__ = CroppedConv2d
    x = torch.randn(2, 4, *sides).contiguous(memory_format=layout)
    results = []
    for conv in (plain, cropped):
        own = x.clone().requires_grad_(True)
        y = conv(own)
        assert y.is_contiguous(memory_format=layout)
        y.backward(torch.ones_like(y) + x)
        results.append([y.detach(), own.grad, *(p.grad for p in conv.parameters())])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_every_kind_of_module_is_replaced(narrow_van: VAN) -> None:
    ready = make_trainable_(copy.deepcopy(narrow_van))
    blocks = sum(NARROW.depths)
    assert sum(isinstance(m, CroppedConv2d) for m in ready.modules()) == 3 * blocks
    assert sum(isinstance(m, GlobalBatchNorm2d) for m in ready.modules()) == 4 + 2 * blocks


def test_drop_paths_follow_their_plan(images: Images) -> None:
    torch.manual_seed(0)
    ready = make_trainable_(VAN(NARROW, 5, drop_path_rate=0.9))
    x = images(8, 32, 32)
    whole = []
    for part in (slice(0, 8), slice(4, 8)):
        plan_drop_paths_(ready, np.random.default_rng(0), 8, part)
        kept = [m.kept for m in ready.modules() if hasattr(m, "kept") and m.kept is not None]
        whole.append(torch.stack(kept))
    assert torch.equal(whole[0][:, 4:], whole[1])
    assert 0.0 < whole[0][-1].mean() < 0.5  # of the last block most are dropped
    plan_drop_paths_(ready, np.random.default_rng(0), 8, slice(0, 8))
    dropped, again = ready(x), ready(x)
    assert torch.equal(dropped, again)
    plan_drop_paths_(ready, np.random.default_rng(1), 8, slice(0, 8))
    assert not torch.equal(ready(x), again)
