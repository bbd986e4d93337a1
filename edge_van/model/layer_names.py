"""What part of a VAN a layer is, by its official name. Imports no torch.

In: a layer's name, ``block1.0.attn.proj_1``. Out: its ``Part``, or None for what is no layer of a VAN.
"""

from __future__ import annotations

import re

from edge_van.text import TextEnum


class Part(TextEnum):
    """The layers that multiply, as a reader knows them."""

    PATCH_EMBED = "patch embedding"
    ATTENTION_POINTWISE = "attention 1x1"
    LKA_LOCAL = "LKA 5x5 depthwise"
    LKA_DILATED = "LKA dilated depthwise"  # 7x7, dilation 3
    LKA_POINTWISE = "LKA 1x1"
    FFN_POINTWISE = "FFN 1x1"
    FFN_DEPTHWISE = "FFN 3x3 depthwise"
    HEAD = "head"
    DENSE_HEAD = "dense head"  # and its neck


_BLOCK, _LKA = r"block[1-4]\.\d+", r"block[1-4]\.\d+\.attn\.spatial_gating_unit"
_NAMES = {
    Part.PATCH_EMBED: r"patch_embed[1-4]\.proj",
    Part.ATTENTION_POINTWISE: rf"{_BLOCK}\.attn\.proj_[12]",
    Part.LKA_LOCAL: rf"{_LKA}\.conv0",
    Part.LKA_DILATED: rf"{_LKA}\.conv_spatial",
    Part.LKA_POINTWISE: rf"{_LKA}\.conv1",
    Part.FFN_POINTWISE: rf"{_BLOCK}\.mlp\.fc[12]",
    Part.FFN_DEPTHWISE: rf"{_BLOCK}\.mlp\.dwconv\.dwconv",
    Part.HEAD: r"head",
    Part.DENSE_HEAD: r"(?:neck|decode_head|bbox_head|keypoint_head)(?:\.\w+)+",
}
_BEGINS = {part: re.compile(rf"{pattern}(?!\w)") for part, pattern in _NAMES.items()}


def part_at_start(name: str) -> Part | None:
    """The part whose layer's name ``name`` begins with: engines add to it (``head/WithoutBiases``)."""
    return next((part for part, pattern in _BEGINS.items() if pattern.match(name)), None)


def part_of(name: str) -> Part | None:
    """The part of the layer that is called just ``name``."""
    part = part_at_start(name)
    return part if part is not None and re.fullmatch(_NAMES[part], name) else None
