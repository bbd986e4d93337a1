"""Red and blue swapped inside the network: exact, and free, for it is the order of the first convolution's weights.

In: a ``VAN`` trained on images of one channel order. Out: the same function of images of the other.
"""

from __future__ import annotations

import copy
from typing import cast

import torch

from edge_van.model.van import VAN, PatchEmbed


@torch.no_grad()
def with_swapped_colours(van: VAN) -> VAN:
    """A copy that computes from (N, 3, H, W) BGR what ``van`` does from RGB, or the other way round.

    Mean and std belong to the channels and are the caller's to swap. A fourth channel stays where it is.
    """
    swapped = copy.deepcopy(van)
    conv = cast(PatchEmbed, swapped.stages()[0][0]).proj
    order = [2, 1, 0, *range(3, conv.in_channels)]
    conv.weight.copy_(conv.weight[:, order].clone())
    return swapped
