"""The exact BatchNorm-free form of a VAN, with kernels cropped to what a fixed input size can reach.

In: a trained ``VAN`` and an input size. Out: a ``FoldedVAN`` in float32 that computes the same logits, checked.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.errors import UsageError, VerificationError
from edge_van.model.van import VAN, Attention, Block, Mlp, PatchEmbed, layer_norm_map, stage_sizes
from edge_van.model.variants import Variant

RELATIVE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class FoldCheck:
    """What the fold's own check measured, on one batch in float32."""

    batch_norms_folded: int
    kernels_cropped: int
    max_relative_error: float


class FoldedBlock(nn.Module):
    """``x = a * x + attention(x)``, then ``x = c * (x + mlp(x))``: what is left of a block without its BatchNorms.

    ``a = 1 + layer_scale_1 * s1`` (s1 the scale of the block's first BatchNorm) is what remains of the attention's
    inner shortcut, which adds the *normalised* input. Equalisation (``quantization.equalize``) takes it into the
    residual's own scale and leaves None. ``c``, the ``output_scale``, is None but where such a residual returns to its
    first scale at the end of a stage (behind the addition, so that engines fuse both into the convolution before).
    """

    residual_scale: Tensor | None  # (1, C, 1, 1)
    output_scale: Tensor | None  # (1, C, 1, 1)

    def __init__(self, attn: Attention, mlp: Mlp, residual_scale: Tensor) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp
        self.register_buffer("residual_scale", residual_scale)
        self.register_buffer("output_scale", None)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.residual_scale is None else self.residual_scale * x
        x = shortcut + self.attn.branch(x)
        x = x + cast(Tensor, self.mlp(x))
        return x if self.output_scale is None else self.output_scale * x


class FoldedVAN(nn.Module):
    """A VAN with no BatchNorm, no LayerScale and no drop-path; made by ``fold``.

    In: float images (N, C, *input_size), normalised. Out: logits (N, classes). Layer names are the official ones.
    """

    def __init__(self, van: VAN, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.variant: Variant = van.variant
        self.num_classes = van.num_classes
        self.input_size = input_size
        self.in_channels = van.in_channels
        self.kernels_cropped = 0
        for s, ((patch_embed, blocks, norm), side) in enumerate(
            zip(van.stages(), stage_sizes(*input_size), strict=True), 1
        ):
            setattr(self, f"patch_embed{s}", _fold_patch_embed(cast(PatchEmbed, patch_embed)))
            folded = nn.ModuleList(_fold_block(cast(Block, block)) for block in blocks)
            self.kernels_cropped += sum(crop_kernel_(m, side) for m in folded.modules() if isinstance(m, nn.Conv2d))
            setattr(self, f"block{s}", folded)
            setattr(self, f"norm{s}", norm)
        self.head = van.head

    def maps(self, x: Tensor) -> list[Tensor]:
        """The four normalised maps, (N, C_s, H_s, W_s)."""
        found = []
        for s in range(1, 5):
            x = self.get_submodule(f"patch_embed{s}")(x)
            for block in cast(nn.ModuleList, self.get_submodule(f"block{s}")):
                x = block(x)
            x = layer_norm_map(x, cast(nn.LayerNorm, self.get_submodule(f"norm{s}")))
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return cast(Tensor, self.head(self.maps(x)[-1].mean((2, 3))))


def fold(van: VAN, input_size: tuple[int, int]) -> tuple[FoldedVAN, FoldCheck]:
    """Fold every BatchNorm and LayerScale of ``van`` into its neighbours, exactly, for images of ``input_size``.

    Computed in float64, returned in float32 and eval mode; ``van`` is left as it was. Raises ``UsageError`` for a
    feature extractor, ``VerificationError`` if a BatchNorm is left or the outputs differ by over 1e-4 relative.
    """
    if van.features_only or not van.num_classes:
        raise UsageError("fold needs a VAN with a classification head; this one returns features")
    require_size(input_size)
    source = copy.deepcopy(van).eval()
    folded = FoldedVAN(copy.deepcopy(source).double(), input_size).float().eval().requires_grad_(False)
    return folded, check_fold(source.float(), folded)


def require_size(input_size: tuple[int, int]) -> None:
    """``UsageError`` for less than a pixel."""
    if min(input_size) < 1:
        raise UsageError(f"the input size must be at least 1x1, got {input_size}")


def bn_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(s, t) with ``bn(x) = s * x + t`` per channel, from its running statistics."""
    if bn.running_mean is None or bn.running_var is None:
        raise UsageError("fold needs BatchNorms with running statistics (track_running_stats=True)")
    scale = torch.rsqrt(bn.running_var + bn.eps)
    if bn.weight is not None:
        scale = bn.weight * scale
    shift = -bn.running_mean * scale
    return scale.detach(), (shift if bn.bias is None else shift + bn.bias).detach()


def _fold_patch_embed(embed: PatchEmbed) -> nn.Module:
    scale, shift = bn_affine(embed.norm)
    _scale_rows_(embed.proj, scale, shift)
    return FoldedPatchEmbed(embed.proj)


class FoldedPatchEmbed(nn.Module):
    """A patch embed with its BatchNorm folded away; keeps the layer's official name."""

    def __init__(self, proj: nn.Conv2d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x))


def _fold_block(block: Block) -> FoldedBlock:
    s1, t1 = bn_affine(block.norm1)
    s2, t2 = bn_affine(block.norm2)
    ls1, ls2 = block.layer_scale_1.detach(), block.layer_scale_2.detach()
    _absorb_input_affine_(block.attn.proj_1, s1, t1)
    _absorb_input_affine_(block.mlp.fc1, s2, t2)
    # ls1 * (proj_2(g) + s1 * x + t1): the rows and the bias of proj_2 take ls1, the bias ls1 * t1 as well
    _scale_rows_(block.attn.proj_2, ls1, ls1 * t1)
    _scale_rows_(block.mlp.fc2, ls2, torch.zeros_like(ls2))
    return FoldedBlock(block.attn, block.mlp, (1.0 + ls1 * s1).view(1, -1, 1, 1))


@torch.no_grad()
def _scale_rows_(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """In place: ``conv(x)`` becomes ``scale * conv(x) + shift`` per output channel."""
    bias = torch.zeros_like(shift) if conv.bias is None else conv.bias
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(scale * bias + shift)


@torch.no_grad()
def _absorb_input_affine_(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """In place: ``conv(x)`` becomes ``conv(scale * x + shift)``. Exact for a 1x1 conv alone: it pads nothing."""
    assert conv.kernel_size == (1, 1)
    assert conv.groups == 1
    added = conv.weight[:, :, 0, 0] @ shift
    conv.bias = nn.Parameter(added if conv.bias is None else conv.bias + added)
    conv.weight.mul_(scale.view(1, -1, 1, 1))


@torch.no_grad()
def crop_kernel_(conv: nn.Conv2d, map_size: tuple[int, int]) -> bool:
    """In place: drop the taps of a size-keeping, symmetrically padded conv that read only padding on this map.

    A tap at offset o (in pixels) meets the image only where |o| <= side - 1. Returns whether anything was dropped.
    """
    if conv.stride != (1, 1) or isinstance(conv.padding, str):
        return False
    if any(2 * p != (k - 1) * d for k, d, p in zip(conv.kernel_size, conv.dilation, conv.padding, strict=True)):
        return False
    sides = zip(conv.kernel_size, conv.dilation, map_size, strict=True)
    keep, padding = zip(*(taps_on_the_map(k, d, side) for k, d, side in sides), strict=True)
    weight = conv.weight[:, :, keep[0], keep[1]]
    if weight.shape == conv.weight.shape:
        return False
    conv.weight = nn.Parameter(weight.clone())
    conv.kernel_size = (weight.shape[2], weight.shape[3])
    conv.padding = (padding[0], padding[1])
    conv._reversed_padding_repeated_twice = [padding[1], padding[1], padding[0], padding[0]]
    return True


def taps_on_the_map(kernel: int, dilation: int, side: int) -> tuple[slice, int]:
    """The taps, along one side, of a size-keeping kernel that do not read padding alone; the padding that is left."""
    padding = (kernel - 1) * dilation // 2
    # outer taps sit at offsets -padding + i*dilation; one more ring goes as long as its offset is over side - 1
    drop = min(max(-(-(padding - (side - 1)) // dilation), 0), (kernel - 1) // 2)
    return slice(drop, kernel - drop), padding - drop * dilation


@torch.no_grad()
def check_fold(source: nn.Module, folded: FoldedVAN) -> FoldCheck:
    """No normalisation over the batch is left, and the folded outputs agree with the original's, each of them."""
    left = [name for name, m in folded.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if left:
        raise VerificationError(f"the fold left {len(left)} BatchNorm layers, the first is {left[0]}")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, folded.in_channels, *folded.input_size, generator=generator)
    pairs = zip(as_outputs(folded(images)), as_outputs(source(images)), strict=True)
    error = max(relative_error(actual, expected) for actual, expected in pairs)
    if not error <= RELATIVE_TOLERANCE:  # a NaN fails too
        raise VerificationError(
            f"the folded network differs from the original by {error:.1e} relative, {RELATIVE_TOLERANCE:.0e} is "
            f"allowed: the checkpoint's BatchNorm statistics or weights are too extreme for float32"
        )
    count = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in source.modules())
    return FoldCheck(count, folded.kernels_cropped, error)


def as_outputs(given: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a network returned: its output alone, or several."""
    return (given,) if isinstance(given, Tensor) else tuple(given)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max |actual - expected| / max |expected|."""
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
