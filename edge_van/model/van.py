"""The Visual Attention Network (Guo et al., 2022), one class per box of the paper's figure 3, official key names.

In: float images (N, C, H, W), normalised. Out: logits (N, classes), or with ``features_only`` four feature maps.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.errors import UsageError
from edge_van.model.variants import Variant, get_variant

LAYER_SCALE_INIT = 1e-2
LAYER_NORM_EPS = 1e-6


def lka_kernels(kernel_size: int, dilation: int) -> tuple[int, int]:
    """Sides of the two depthwise kernels a K x K kernel decomposes into: (2d-1, ceil(K/d)); paper, section 3.1."""
    if kernel_size < 1 or dilation < 1:
        raise UsageError(f"LKA needs kernel_size and dilation of at least 1, got {kernel_size} and {dilation}")
    return 2 * dilation - 1, math.ceil(kernel_size / dilation)


def _depthwise(dim: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """Depthwise convolution that keeps the map's size; an odd total padding (even kernel, odd dilation) is 'same'."""
    total = (kernel - 1) * dilation
    padding: int | str = "same" if total % 2 else total // 2
    return nn.Conv2d(dim, dim, kernel, padding=padding, dilation=dilation, groups=dim)


class DropPath(nn.Module):
    """Stochastic depth: while training, zeroes whole samples of a residual branch and rescales the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.rate)
        return x * keep / (1.0 - self.rate)


class LKA(nn.Module):
    """Large Kernel Attention: depthwise, depthwise dilated, 1x1; the result gates the input."""

    def __init__(self, dim: int, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        local_kernel, dilated_kernel = lka_kernels(kernel_size, dilation)
        self.conv0 = _depthwise(dim, local_kernel)
        self.conv_spatial = _depthwise(dim, dilated_kernel, dilation)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * cast(Tensor, self.conv1(self.conv_spatial(self.conv0(x))))


class Attention(nn.Module):
    """1x1, GELU, LKA, 1x1, and a shortcut from its own (already normalised) input."""

    def __init__(self, dim: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.activation: nn.Module = nn.GELU()
        self.spatial_gating_unit = LKA(dim, kernel_size, dilation)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def branch(self, x: Tensor) -> Tensor:
        """The attention without its shortcut; the folded form needs it apart."""
        return cast(Tensor, self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + x


class DWConv(nn.Module):
    """The feed-forward's 3x3 depthwise convolution (a module of its own so that the official keys fit)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = _depthwise(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dwconv(x))


class Mlp(nn.Module):
    """Convolutional feed-forward: 1x1, 3x3 depthwise, GELU, 1x1."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = DWConv(hidden)
        self.act: nn.Module = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.act(self.dwconv(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm attention and pre-norm feed-forward, each scaled per channel and added to the residual."""

    def __init__(self, dim: int, mlp_ratio: int, kernel_size: int, dilation: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = Attention(dim, kernel_size, dilation)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), LAYER_SCALE_INIT))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), LAYER_SCALE_INIT))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        return x + cast(Tensor, self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x))))


class PatchEmbed(nn.Module):
    """Overlapping strided convolution and BatchNorm at the head of a stage."""

    def __init__(self, kernel: int, stride: int, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.proj(x)))


def layer_norm_map(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm over the channels of (N, C, H, W), in the form that OpenVINO turns into a single MVN kernel.

    Channels go last before the map becomes tokens: its kernels keep maps that way in memory, so nothing is moved.
    """
    n, c, h, w = x.shape
    tokens = norm(x.permute(0, 2, 3, 1).flatten(1, 2))  # (N, H*W, C)
    return cast(Tensor, tokens.reshape(n, h, w, c).permute(0, 3, 1, 2))


class VAN(nn.Module):
    """A four-stage VAN. ``variant`` is a name or a row of one's own; ``num_classes=0`` leaves the head off.

    ``features_only=True`` returns the four normalised maps, (N, C_s, H/2^(s+1), W/2^(s+1)) for s in 1..4, strides
    4, 8, 16, 32 (sizes rounded up), and needs no head.
    """

    def __init__(
        self,
        variant: str | Variant,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        kernel_size: int = 21,
        dilation: int = 3,
        drop_path_rate: float = 0.0,
        features_only: bool = False,
    ) -> None:
        super().__init__()
        row = get_variant(variant) if isinstance(variant, str) else variant
        if num_classes < 0 or in_channels < 1 or not 0.0 <= drop_path_rate < 1.0:
            raise UsageError(
                f"VAN needs num_classes >= 0, in_channels >= 1 and drop_path_rate in [0, 1); "
                f"got {num_classes}, {in_channels}, {drop_path_rate}"
            )
        self.variant = row
        self.num_classes = num_classes
        self.features_only = features_only
        rates = torch.linspace(0, drop_path_rate, sum(row.depths), device="cpu").tolist()
        in_dim = in_channels
        for s, (dim, depth, ratio) in enumerate(zip(row.embed_dims, row.depths, row.mlp_ratios, strict=True), 1):
            kernel, stride = (7, 4) if s == 1 else (3, 2)
            blocks = [Block(dim, ratio, kernel_size, dilation, rates.pop(0)) for _ in range(depth)]
            setattr(self, f"patch_embed{s}", PatchEmbed(kernel, stride, in_dim, dim))
            setattr(self, f"block{s}", nn.ModuleList(blocks))
            setattr(self, f"norm{s}", nn.LayerNorm(dim, eps=LAYER_NORM_EPS))
            in_dim = dim
        self.head: nn.Module = nn.Identity()
        if num_classes and not features_only:
            self.head = nn.Linear(in_dim, num_classes)
        self.apply(_init_weights)

    @property
    def in_channels(self) -> int:
        return cast(PatchEmbed, self.stages()[0][0]).proj.in_channels

    def stages(self) -> list[tuple[nn.Module, nn.ModuleList, nn.LayerNorm]]:
        """(patch_embed, blocks, norm) of the four stages, in order."""
        return [
            (
                getattr(self, f"patch_embed{s}"),
                cast(nn.ModuleList, getattr(self, f"block{s}")),
                cast(nn.LayerNorm, getattr(self, f"norm{s}")),
            )
            for s in range(1, 5)
        ]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The four normalised maps."""
        maps = []
        for patch_embed, blocks, norm in self.stages():
            x = patch_embed(x)
            for block in blocks:
                x = block(x)
            x = layer_norm_map(x, norm)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        maps = self.forward_features(x)
        if self.features_only:
            return maps
        return cast(Tensor, self.head(maps[-1].mean((2, 3))))


def _init_weights(module: nn.Module) -> None:
    """The official initialisation: truncated normal for linear layers, He (fan out, per group) for convolutions."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # without values to draw, on the meta device, the functions below would still take seconds
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def stage_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of the four maps for an input of that size: each stage's conv rounds up."""
    sizes = []
    for stride in (4, 2, 2, 2):
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return sizes
