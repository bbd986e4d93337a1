"""``quantization.activations``: the factors on both sides of the activation cancel, and nothing else changes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.errors import UsageError
from edge_van.model.fold import FoldedVAN, fold, relative_error
from edge_van.model.van import VAN
from edge_van.quantization.activations import K, blocks_of, with_activation, writers

Images = Callable[..., Tensor]
SIZE = (32, 24)


class ScaledHardswish(nn.Module):
    """hardswish(K x) / K, written out."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (K["hardswish"] * x + 3).clamp(0, 6) / 6


WRITTEN_OUT = {"hardswish": ScaledHardswish, "relu": nn.ReLU}


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, SIZE)[0]


@pytest.mark.parametrize("kind", WRITTEN_OUT)
@pytest.mark.parametrize("places", [(), ("block1.mlp",), ("block2.attn", "block4.mlp"), ACTIVATION_PLACES], ids=len)
def test_the_network_computes_the_activation(folded: FoldedVAN, images: Images, kind: str, places: tuple[str, ...]):
    written_out = copy.deepcopy(folded)
    for place in places or ACTIVATION_PLACES:
        for block in blocks_of(written_out, place):
            if place.endswith(".attn"):
                block.attn.activation = WRITTEN_OUT[kind]()
            else:
                block.mlp.act = WRITTEN_OUT[kind]()
    batch = images(2, *SIZE)
    with torch.no_grad():
        before = folded(batch)
        changed = with_activation(folded, kind, places)(batch)
        assert relative_error(changed, written_out(batch)) < 1e-4
        assert relative_error(changed, before) > 1e-3
        assert torch.equal(folded(batch), before)  # the model given is untouched


def test_gelu_is_the_network_itself(folded: FoldedVAN):
    assert with_activation(folded, "gelu") is folded


def test_one_that_is_yet_to_be_chosen_is_refused(folded: FoldedVAN):
    with pytest.raises(UsageError, match="got 'auto'"):
        with_activation(folded, "auto")


def test_every_gelu_has_a_place_and_a_layer_before_it(folded: FoldedVAN):
    layers = [name for place in ACTIVATION_PLACES for name in writers(folded, place)]
    assert len(layers) == sum(isinstance(m, nn.GELU) for m in folded.modules())
    assert all(isinstance(folded.get_submodule(name), nn.Conv2d) for name in layers)


def test_the_scaled_hardswish_is_near_gelu():
    x = torch.linspace(-6, 6, 2001)
    assert float((ScaledHardswish()(x) - nn.functional.gelu(x)).abs().max()) < 0.1
