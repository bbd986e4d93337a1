"""``model.layer_names``: every layer of a real VAN is one part, and nothing else is."""

from collections import Counter

import pytest
from torch import nn

from edge_van.model.layer_names import Part, part_at_start, part_of
from edge_van.model.van import VAN


def test_every_layer_of_a_van_is_one_part(narrow_van: VAN) -> None:
    layers = [name for name, module in narrow_van.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    blocks = sum(narrow_van.variant.depths)
    assert Counter(part_of(name) for name in layers) == {
        Part.PATCH_EMBED: 4,
        Part.ATTENTION_POINTWISE: 2 * blocks,
        Part.LKA_LOCAL: blocks,
        Part.LKA_DILATED: blocks,
        Part.LKA_POINTWISE: blocks,
        Part.FFN_POINTWISE: 2 * blocks,
        Part.FFN_DEPTHWISE: blocks,
        Part.HEAD: 1,
    }
    others = {name for name, _ in narrow_van.named_modules()} - set(layers)
    assert {part_of(name) for name in others} == {None}


@pytest.mark.parametrize("added", ["", "/WithoutBiases", ".weight"])
def test_what_an_engine_adds_is_no_matter_at_the_start(added: str) -> None:
    name = f"block1.0.attn.proj_1{added}"
    assert part_at_start(name) == Part.ATTENTION_POINTWISE
    assert part_of(name) == (None if added else Part.ATTENTION_POINTWISE)


@pytest.mark.parametrize("name", ["head_norm", "header", "block5.0.mlp.fc1", "block1.0.mlp.fc12", "x.head", ""])
def test_what_is_no_layer(name: str) -> None:
    assert part_at_start(name) is None
