"""What the dense heads are made of: convolution with a norm, resizing to another map, the feature pyramid.

In: maps (N, C, H, W). Out: maps. Tensors are called as OpenMMLab's ``ConvModule`` and ``FPN`` call them, so that its
checkpoints fit as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["bn", "gn", ""]
GROUPS = 32
"""Of every GroupNorm."""


class ConvNorm(nn.Module):
    """Convolution, norm, ReLU. With a norm the convolution has no bias; ``bn`` is folded away, ``gn`` stays."""

    def __init__(
        self, in_dim: int, dim: int, kernel: int = 1, *, norm: Norm = "", relu: bool = True, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, stride=stride, padding=kernel // 2, bias=not norm)
        if norm:
            self.add_module(norm, nn.BatchNorm2d(dim) if norm == "bn" else nn.GroupNorm(GROUPS, dim))
        self.norm_name = norm
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm_name:
            x = self.get_submodule(self.norm_name)(x)
        return F.relu(x) if self.relu else x


def resized_to(x: Tensor, like: Tensor) -> Tensor:
    """``x`` bilinearly at the height and width of ``like``, pixel centres kept (``align_corners`` false)."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class FPN(nn.Module):
    """Lateral 1x1, nearest top-down additions, a 3x3 a level (Lin et al., 2017, section 3); no norm, no activation.

    ``first`` is the first of the maps that is used. ``extra`` levels come of 3x3 convolutions of stride 2, the first on
    the last map as it is given, each other on the level before, without an activation in between.
    """

    def __init__(self, dims: Sequence[int], dim: int = 256, *, first: int = 0, extra: int = 0) -> None:
        super().__init__()
        used = dims[first:]
        self.first = first
        self.lateral_convs = nn.ModuleList(ConvNorm(d, dim, relu=False) for d in used)
        below = [dims[-1], *[dim] * extra][:extra]
        convs = [ConvNorm(dim, dim, 3, relu=False) for _ in used]
        convs += [ConvNorm(d, dim, 3, relu=False, stride=2) for d in below]
        self.fpn_convs = nn.ModuleList(convs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        used = maps[self.first :]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            above = F.interpolate(laterals[level], size=laterals[level - 1].shape[-2:], mode="nearest")
            laterals[level - 1] = laterals[level - 1] + above
        convs = list(self.fpn_convs)
        outputs = [cast(Tensor, conv(x)) for conv, x in zip(convs, laterals, strict=False)]
        last = maps[-1]
        for conv in convs[len(laterals) :]:
            last = conv(last)
            outputs.append(last)
        return outputs
