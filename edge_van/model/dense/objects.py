"""Objects and key points on a VAN: RetinaNet's head, and SimpleBaseline's.

In: maps (N, C_s, H_s, W_s). Out: of RetinaNet (N, anchors, classes + 4), raw; of SimpleBaseline heat maps (N, points,
H, W) at stride 4. Tensors are called as in OpenMMLab's ``bbox_head`` and ``keypoint_head``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.model.dense.parts import ConvNorm

PRIOR = 0.01
"""The score of every anchor before training."""
ANCHORS_A_CELL = 9
"""Three scales of an octave by three ratios."""


class RetinaHead(nn.Module):
    """The same two towers on every level (Lin et al., 2017, "Focal Loss for Dense Object Detection").

    The output has the class logits, then the four deltas, of every anchor: level by level, row by row, cell by cell.
    """

    def __init__(self, classes: int, dim: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.classes = classes
        self.cls_convs = nn.ModuleList(ConvNorm(dim, dim, 3) for _ in range(depth))
        self.reg_convs = nn.ModuleList(ConvNorm(dim, dim, 3) for _ in range(depth))
        self.retina_cls = nn.Conv2d(dim, ANCHORS_A_CELL * classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(dim, ANCHORS_A_CELL * 4, 3, padding=1)
        for module in self.modules():  # as the paper begins, section 4.1: nearly every anchor is of nothing
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.constant_(cast(Tensor, self.retina_cls.bias), -math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([self._level(level) for level in maps], 1)

    def _level(self, level: Tensor) -> Tensor:
        scores = boxes = level
        for conv in self.cls_convs:
            scores = conv(scores)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        return torch.cat([_rows(self.retina_cls(scores), self.classes), _rows(self.retina_reg(boxes), 4)], -1)


def _rows(x: Tensor, values: int) -> Tensor:
    """(N, anchors * values, H, W) as (N, H * W * anchors, values)."""
    n, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, height * width * (channels // values), values)


class SimpleBaselineHead(nn.Module):
    """Three doublings of the last map, then 1x1 (Xiao et al., 2018, "Simple Baselines for Human Pose Estimation")."""

    def __init__(self, points: int, in_dim: int, dim: int = 256) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for step in range(3):
            source = in_dim if step == 0 else dim
            steps += [nn.ConvTranspose2d(source, dim, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim)]
            steps.append(nn.ReLU())
        self.deconv_layers = nn.Sequential(*steps)
        self.final_layer = nn.Conv2d(dim, points, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return cast(Tensor, self.final_layer(self.deconv_layers(maps[-1])))
