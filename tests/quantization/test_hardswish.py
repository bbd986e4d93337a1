"""``edge_van.quantization.hardswish``: the factors on both sides of the activation cancel, and nothing else changes."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from edge_van.model.fold import fold, relative_error
from edge_van.model.van import VAN
from edge_van.quantization.hardswish import K, with_hardswish

Images = Callable[..., Tensor]
SIZE = (32, 24)


class ScaledHardswish(nn.Module):
    """hardswish(K x) / K, written out."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (K * x + 3).clamp(0, 6) / 6


def test_the_network_computes_the_scaled_hardswish(narrow_van: VAN, images: Images):
    folded, _ = fold(narrow_van, SIZE)
    written_out = copy.deepcopy(folded)
    for module in list(written_out.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU):
                setattr(module, name, ScaledHardswish())
    batch = images(2, *SIZE)
    with torch.no_grad():
        before = folded(batch)
        assert relative_error(with_hardswish(folded)(batch), written_out(batch)) < 1e-4
        assert torch.equal(folded(batch), before)  # the model given is untouched


def test_the_scaled_hardswish_is_near_gelu():
    x = torch.linspace(-6, 6, 2001)
    assert float((ScaledHardswish()(x) - nn.functional.gelu(x)).abs().max()) < 0.1
