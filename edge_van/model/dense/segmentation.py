"""Semantic segmentation on a VAN: Semantic FPN, UPerNet, and SegNeXt's light hamburger.

In: the four maps (N, C_s, H_s, W_s). Out: logits (N, classes, H, W) at stride 4, of the hamburger at stride 8. Tensors
are called as in the official repositories' ``decode_head``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_van.model.dense.parts import ConvNorm, resized_to

FPN_CHANNELS, UPERNET_CHANNELS, PSP_SCALES = 128, 512, (1, 2, 3, 6)
HAM_STEPS, HAM_EPS = 7, 1e-6


class SemanticFPNHead(nn.Module):
    """Every level of a pyramid at stride 4, added up (Kirillov et al., 2019, "Panoptic Feature Pyramid Networks")."""

    def __init__(self, classes: int, in_dim: int = 256, dim: int = FPN_CHANNELS) -> None:
        super().__init__()
        heads = []
        for doublings in range(4):
            steps: list[nn.Module] = []
            for step in range(max(doublings, 1)):
                steps.append(ConvNorm(in_dim if step == 0 else dim, dim, 3, norm="bn"))
                if doublings:
                    steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            heads.append(nn.Sequential(*steps))
        self.scale_heads = nn.ModuleList(heads)
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total = cast(Tensor, self.scale_heads[0](maps[0]))
        for head, level in zip(list(self.scale_heads)[1:], maps[1:], strict=True):
            total = total + resized_to(head(level), total)  # of sizes that 32 does not divide doubling is not enough
        return cast(Tensor, self.conv_seg(total))


class UPerNetHead(nn.Module):
    """Pyramid pooling of the last map, then a pyramid of all (Xiao et al., 2018, "Unified Perceptual Parsing")."""

    def __init__(self, classes: int, dims: Sequence[int], dim: int = UPERNET_CHANNELS) -> None:
        super().__init__()
        pools = [nn.Sequential(WindowMeans(s), ConvNorm(dims[-1], dim, norm="bn")) for s in PSP_SCALES]
        self.psp_modules = nn.ModuleList(pools)
        self.bottleneck = ConvNorm(dims[-1] + len(PSP_SCALES) * dim, dim, 3, norm="bn")
        self.lateral_convs = nn.ModuleList(ConvNorm(d, dim, norm="bn") for d in dims[:-1])
        self.fpn_convs = nn.ModuleList(ConvNorm(dim, dim, 3, norm="bn") for _ in dims[:-1])
        self.fpn_bottleneck = ConvNorm(len(dims) * dim, dim, 3, norm="bn")
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        last = maps[-1]
        pooled = [resized_to(pool(last), last) for pool in self.psp_modules]
        levels = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=False)]
        levels.append(self.bottleneck(torch.cat([last, *pooled], 1)))
        for level in range(len(levels) - 1, 0, -1):
            levels[level - 1] = levels[level - 1] + resized_to(levels[level], levels[level - 1])
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=False)] + [levels[-1]]
        outputs = [outputs[0], *(resized_to(x, outputs[0]) for x in outputs[1:])]
        return cast(Tensor, self.conv_seg(self.fpn_bottleneck(torch.cat(outputs, 1))))


class WindowMeans(nn.Module):
    """``AdaptiveAvgPool2d(side)`` as plain means of slices: exporters know it only where ``side`` divides the map."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if self.side == 1:
            return x.mean((2, 3), keepdim=True)
        height, width = x.shape[-2:]
        rows = [x[:, :, top:bottom].mean(2, keepdim=True) for top, bottom in self._windows(height)]
        tall = torch.cat(rows, 2)
        return torch.cat([tall[..., left:right].mean(3, keepdim=True) for left, right in self._windows(width)], 3)

    def _windows(self, size: int) -> list[tuple[int, int]]:
        """From floor(i * size / side) to ceil((i + 1) * size / side), as torch's pooling documents by its results."""
        return [(i * size // self.side, -(-(i + 1) * size // self.side)) for i in range(self.side)]


class LightHamHead(nn.Module):
    """Maps 2 to 4 at stride 8, squeezed, factorised and classified (Guo et al., 2022, "SegNeXt", section 3.2)."""

    def __init__(self, classes: int, dims: Sequence[int], dim: int = 512, ham_dim: int = 512, rank: int = 64) -> None:
        super().__init__()
        self.squeeze = ConvNorm(sum(dims[1:]), ham_dim, norm="gn")
        self.hamburger = Hamburger(ham_dim, rank)
        self.align = ConvNorm(ham_dim, dim, norm="gn")
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = torch.cat([maps[1], *(resized_to(x, maps[1]) for x in maps[2:])], 1)
        return cast(Tensor, self.conv_seg(self.align(self.hamburger(self.squeeze(x)))))


class Hamburger(nn.Module):
    """A low-rank factorisation between two 1x1 convolutions (Geng et al., 2021, "Is Attention Better Than Matrix
    Decomposition?")."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.ham_in = ConvNorm(dim, dim, relu=False)
        self.ham = NMF(dim, rank)
        self.ham_out = ConvNorm(dim, dim, norm="gn", relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.ham_out(self.ham(F.relu(self.ham_in(x)))))


class NMF(nn.Module):
    """Non-negative matrix factorisation of (N, C, H, W) into ``rank`` bases by multiplicative updates (Lee and Seung,
    2001), seven of them, and the product of both factors.

    The official code draws new bases in every forward, so that the same image gets other logits each time. Here they
    are drawn once, from a fixed seed, and are part of the network; a state dict need not have them.
    """

    bases: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.shape = (1, dim, rank)
        self.draw()

    def draw(self) -> None:
        """The bases; once more for a network that was made on the meta device."""
        drawn = torch.rand(self.shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("bases", F.normalize(drawn, dim=1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        tokens = x.reshape(n, channels, height * width)
        bases = self.bases
        weights = torch.softmax(tokens.transpose(1, 2) @ bases, -1)  # (N, H * W, rank)
        for _ in range(HAM_STEPS):
            weights = _updated(weights, tokens.transpose(1, 2), bases)
            bases = _updated(bases, tokens, weights)
        weights = _updated(weights, tokens.transpose(1, 2), bases)
        return (bases @ weights.transpose(1, 2)).reshape(n, channels, height, width)


def _updated(factor: Tensor, tokens: Tensor, other: Tensor) -> Tensor:
    """One multiplicative step of ``factor`` towards ``tokens`` = ``factor`` @ ``other``^T."""
    return factor * (tokens @ other) / (factor @ (other.transpose(1, 2) @ other) + HAM_EPS)
