"""The BatchNorm-free form of a VAN without a classification head: its four maps, or what a dense head makes of them.

In: a ``VAN`` that returns features, or a ``DenseVAN``, and an input size. Out: a ``FoldedVAN`` that computes the same,
checked.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.errors import UsageError
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.model.dense.parts import ConvNorm
from edge_van.model.fold import FoldCheck, FoldedVAN, bn_affine, check_fold, fold, require_size
from edge_van.model.van import VAN


class FoldedPyramid(FoldedVAN):
    """Out: the four normalised maps, strides 4, 8, 16 and 32."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.maps(x))


class FoldedDense(FoldedVAN):
    """Out: what the head gives. The backbone's layers have a VAN's official names, neck and head their own."""

    def __init__(self, network: DenseVAN, input_size: tuple[int, int]) -> None:
        super().__init__(network.backbone, input_size)
        self.kind = network.kind
        self.num_classes = network.num_classes
        self.neck = None if network.neck is None else _fold_norms_(network.neck)
        self.dense_head = KINDS[network.kind].attribute
        self.add_module(self.dense_head, _fold_norms_(network.head))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        return cast(Tensor, self.get_submodule(self.dense_head)(maps if self.neck is None else self.neck(maps)))


def fold_network(network: VAN | DenseVAN, input_size: tuple[int, int]) -> tuple[FoldedVAN, FoldCheck]:
    """As ``fold``, for any of a VAN's tasks."""
    if isinstance(network, VAN) and not network.features_only:
        return fold(network, input_size)
    require_size(input_size)
    source = copy.deepcopy(network).eval()
    double = copy.deepcopy(source).double()
    folded = FoldedDense(double, input_size) if isinstance(double, DenseVAN) else FoldedPyramid(double, input_size)
    folded = folded.float().eval().requires_grad_(False)
    return folded, check_fold(source.float(), folded)


def _fold_norms_(module: nn.Module) -> nn.Module:
    """In place: every BatchNorm goes into the convolution before it. GroupNorm depends on the image and stays."""
    for child in list(module.modules()):
        if isinstance(child, ConvNorm) and child.norm_name == "bn":
            _into_rows_(child.conv, cast(nn.BatchNorm2d, child.bn))
            del child.bn
            child.norm_name = ""
        elif isinstance(child, nn.Sequential):
            _fold_sequence_(child)
    return module


def _fold_sequence_(steps: nn.Sequential) -> None:
    """In place: a norm of its own behind a convolution; its place stays, so that names do."""
    for index, (conv, norm) in enumerate(zip(list(steps), list(steps)[1:], strict=False)):
        if isinstance(norm, nn.BatchNorm2d):
            if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
                raise UsageError(f"a BatchNorm stands behind a {type(conv).__name__}, which it cannot be folded into")
            _into_rows_(conv, norm)
            steps[index + 1] = nn.Identity()


@torch.no_grad()
def _into_rows_(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    """In place: ``conv(x)`` becomes ``norm(conv(x))``. A transposed convolution's rows are its second dimension."""
    scale, shift = bn_affine(norm)
    shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    conv.weight.mul_(scale.view(shape))
    conv.bias = nn.Parameter(shift if conv.bias is None else scale * conv.bias + shift)
