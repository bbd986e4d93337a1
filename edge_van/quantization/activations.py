"""Optional trades of accuracy for speed: some or all GELUs become an activation that costs a fraction of one.

In: a ``FoldedVAN``, which activation, where. Out: a copy that computes nearly the same function; how near, the caller
measures. GELU(x) is close to hardswish(k x) / k; k goes into the convolution before, 1/k into those that read the
result, so that only the activation itself changes. hardswish(x) = x * clip(x + 3, 0, 6) / 6 (Howard et al., 2019,
section 5.2). A ReLU is cheaper still and far from a GELU: the network has to be trained behind it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.errors import UsageError
from edge_van.model.fold import FoldedBlock, FoldedVAN

K = {"hardswish": 1.85, "relu": 1.0}
"""Hard-swish's was found by measuring logits of a trained VAN-B0; a factor per channel gained nothing over it."""
_MODULES = {"hardswish": nn.Hardswish, "relu": nn.ReLU}


@torch.no_grad()
def with_activation(model: FoldedVAN, kind: str, places: Sequence[str] = ()) -> FoldedVAN:
    """A copy of ``model`` with "hardswish" or "relu" for the GELUs of ``places``, of ``ACTIVATION_PLACES``; without
    any, for all. The function changes. Of "gelu" it is the model itself."""
    if kind == "gelu":
        return model
    if kind not in _MODULES:
        raise UsageError(f"a network is given one of gelu, {', '.join(_MODULES)}; got {kind!r}")
    result, k = copy.deepcopy(model), K[kind]
    for place in places or ACTIVATION_PLACES:
        for block in blocks_of(result, place):
            attn, mlp = block.attn, block.mlp
            if place.endswith(".attn"):
                attn.activation = _MODULES[kind]()
                # what it feeds: the LKA's first kernel, and the gate's product, which proj_2 reads
                writer, readers = attn.proj_1, [attn.spatial_gating_unit.conv0, attn.proj_2]
            else:
                mlp.act = _MODULES[kind]()
                writer, readers = mlp.dwconv.dwconv, [mlp.fc2]
            writer.weight.mul_(k)
            cast(Tensor, writer.bias).mul_(k)
            for reader in readers:
                reader.weight.div_(k)
    return result


def blocks_of(model: FoldedVAN, place: str) -> Iterator[FoldedBlock]:
    """The blocks of the stage that ``place`` is in."""
    for block in cast(nn.ModuleList, model.get_submodule(place.partition(".")[0])):
        yield cast(FoldedBlock, block)


def writers(model: FoldedVAN, place: str) -> list[str]:
    """The layers whose results the activations of ``place`` are computed of: engines compute both in one kernel."""
    stage, _, part = place.partition(".")
    layer = "attn.proj_1" if part == "attn" else "mlp.dwconv.dwconv"
    return [f"{stage}.{index}.{layer}" for index, _ in enumerate(blocks_of(model, place))]
