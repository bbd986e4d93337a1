"""Exact rescaling of a folded VAN's channels, so that one scale per tensor wastes little of the INT8 grid.

In: a ``FoldedVAN`` and calibration images. Out: the same function in other numbers, every rescaled tensor's channels
of like range. Cross-layer equalisation (Nagel et al., 2019, section 4.1), here over every place a VAN allows it.

Where a tensor is written and read by linear layers only, a factor per channel can be taken from its writer and given
to its readers. In a VAN these are: the residual of every block (written by patch_embed, proj_2 and fc2, read by
proj_1, fc1 and, per channel, by the block's own residual factor, which the rescaling takes over: it leaves plain
additions), the LKA's inner tensors (conv0 -> conv_spatial -> conv1), the gate's product (conv1's rows, proj_2's
columns) and the feed-forward's (fc1 -> 3x3). Behind a GELU there is none. Readers that are depthwise pay nothing for
it: their weights have a scale per channel anyway. A reader that mixes channels pays in its weights' range, hence
``strength``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.errors import VerificationError
from edge_van.model.fold import RELATIVE_TOLERANCE, FoldedBlock, FoldedPatchEmbed, FoldedVAN, as_outputs, relative_error

SMALLEST_TAKEN_OVER = 0.1
"""A residual scale under this stays a multiplication: its inverse would blow the channel up."""
MAX_FACTOR = 1e3
"""A channel's range counts as at most this many times its tensor's median range, and at least 1/MAX_FACTOR of it
(dead channels)."""


@torch.no_grad()
def equalize(model: FoldedVAN, batches: Iterable[Tensor], *, strength: float = 1.0) -> FoldedVAN:
    """A copy of ``model``, rescaled: factor = (channel's max |x| / geometric mean) ** strength; 0 changes nothing.

    ``batches`` are float images (N, 3, H, W), normalised. Raises ``VerificationError`` if the copy's logits differ
    from the model's by over 1e-4 relative on the first batch.
    """
    if strength == 0.0:
        return copy.deepcopy(model)
    maxima, first = _channel_maxima(model, batches)
    factors = {name: _factors(m, strength) for name, m in maxima.items()}
    result = copy.deepcopy(model)
    for s in range(1, 5):
        blocks = cast(nn.ModuleList, result.get_submodule(f"block{s}"))
        embed = cast(FoldedPatchEmbed, result.get_submodule(f"patch_embed{s}"))
        residual = _residual_factors([cast(FoldedBlock, b) for b in blocks], f"block{s}", maxima, strength)
        _divide_rows_(embed.proj, residual[0])
        for j, module in enumerate(blocks):
            block = cast(FoldedBlock, module)
            before, after = residual[j], residual[j + 1]
            _multiply_columns_(block.attn.proj_1, before)
            _divide_rows_(block.attn.proj_2, after)
            block.residual_scale = _rescaled(block.residual_scale, before / after)
            _multiply_columns_(block.mlp.fc1, after)
            _divide_rows_(block.mlp.fc2, after)
            if j + 1 == len(blocks):  # the stage's LayerNorm mixes channels and needs the residual as it was
                block.output_scale = _rescaled(block.output_scale, after)
            _equalize_inside_(block, f"block{s}.{j}", factors)
    pairs = zip(as_outputs(result(first)), as_outputs(model(first)), strict=True)
    error = max(relative_error(actual, expected) for actual, expected in pairs)
    if not error <= RELATIVE_TOLERANCE:
        raise VerificationError(
            f"equalisation changed the network by {error:.1e} relative, {RELATIVE_TOLERANCE:.0e} is allowed: "
            f"lower its strength ({strength}) in the recipe"
        )
    return result


def _residual_factors(
    blocks: list[FoldedBlock], prefix: str, maxima: dict[str, Tensor], strength: float
) -> list[Tensor]:
    """The residual's factor before the first block and after the attention of every block, n + 1 of them, each (C,).

    After a block's attention the factor takes over the block's own ``residual_scale``, so that the shortcut becomes a
    plain addition; only where that scale is too near 0 to divide by does the multiplication stay and a new factor
    start. Between a block's feed-forward and the next block nothing can rescale.
    """
    ranges = [maxima[f"{prefix}.0.attn.proj_1"]]
    for j in range(len(blocks)):
        after = maxima[f"{prefix}.{j}.mlp.fc1"]
        if j + 1 < len(blocks):
            after = torch.maximum(after, maxima[f"{prefix}.{j + 1}.attn.proj_1"])
        ranges.append(after)
    factors: list[Tensor] = []
    chain = [torch.ones_like(ranges[0])]  # products of the scales taken over since the last multiplication that stays
    start = 0
    for j, block in enumerate([*blocks, None]):
        scale = None if block is None else block.residual_scale
        own = torch.ones_like(ranges[0]) if scale is None else scale.flatten()
        if block is not None and float(own.min()) >= SMALLEST_TAKEN_OVER:
            chain.append(chain[-1] * own)
            continue
        common = torch.stack([r / c for r, c in zip(ranges[start : j + 1], chain, strict=True)]).amax(0)
        base = _factors(common, strength)
        factors += [base * c for c in chain]
        start, chain = j + 1, [torch.ones_like(ranges[0])]
    return factors


def _rescaled(scale: Tensor | None, factor: Tensor) -> Tensor | None:
    """``scale`` (1, C, 1, 1), None for 1, times ``factor`` (C,); None where that is 1 to float32's rounding."""
    result = factor.view(1, -1, 1, 1) if scale is None else scale * factor.view(1, -1, 1, 1)
    return None if torch.allclose(result, torch.ones_like(result), rtol=0.0, atol=1e-6) else result.clone()


def _equalize_inside_(block: FoldedBlock, prefix: str, factors: dict[str, Tensor]) -> None:
    """In place: the LKA's inner tensors, the gate's product and the feed-forward's hidden tensor."""
    lka, mlp = block.attn.spatial_gating_unit, block.mlp
    inner = f"{prefix}.attn.spatial_gating_unit"
    for writer, reader, name in (
        (lka.conv0, lka.conv_spatial, f"{inner}.conv_spatial"),
        (lka.conv_spatial, lka.conv1, f"{inner}.conv1"),
        (lka.conv1, block.attn.proj_2, f"{prefix}.attn.proj_2"),
        (mlp.fc1, mlp.dwconv.dwconv, f"{prefix}.mlp.dwconv.dwconv"),
    ):
        _divide_rows_(writer, factors[name])
        _multiply_columns_(reader, factors[name])


def _channel_maxima(model: FoldedVAN, batches: Iterable[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """max |x| per input channel of every conv inside a block that reads what can be rescaled, over all batches; and the
    first batch."""
    maxima: dict[str, Tensor] = {}
    first: Tensor | None = None

    def watch(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            high = torch.maximum(args[0].amax((0, 2, 3)), -args[0].amin((0, 2, 3)))  # half the time of abs().amax()
            maxima[name] = torch.maximum(maxima[name], high) if name in maxima else high

        stack.callback(model.get_submodule(name).register_forward_pre_hook(hook).remove)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            is_behind_gelu = name.endswith((".conv0", ".fc2"))
            if isinstance(module, nn.Conv2d) and name.startswith("block") and not is_behind_gelu:
                watch(name)
        for batch in batches:
            first = batch if first is None else first
            model(batch)
    if first is None:
        raise VerificationError("equalisation needs at least one batch of calibration images, got none")
    return maxima, first


def _factors(maxima: Tensor, strength: float) -> Tensor:
    log = maxima.double().clamp_min(1e-12).log()
    log = (log - log.median()).clamp(-MAX_FACTOR_LOG, MAX_FACTOR_LOG)
    return (strength * (log - log.mean())).exp().float()


MAX_FACTOR_LOG = float(torch.tensor(MAX_FACTOR).log())


def _divide_rows_(conv: nn.Conv2d, factor: Tensor) -> None:
    conv.weight.div_(factor.view(-1, 1, 1, 1))
    cast(Tensor, conv.bias).div_(factor)


def _multiply_columns_(conv: nn.Conv2d, factor: Tensor) -> None:
    """A depthwise conv's input channel is its row."""
    conv.weight.mul_(factor.view((-1, 1, 1, 1) if conv.groups > 1 else (1, -1, 1, 1)))
