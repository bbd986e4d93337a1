"""Exact rescaling of a folded VAN's channels, so that one scale per tensor wastes little of the INT8 grid.

In: a ``FoldedVAN`` and calibration images. Out: the same function in other numbers, every rescaled tensor's channels
of like range. Cross-layer equalisation (Nagel et al., 2019, section 4.1), here over every place a VAN allows it.

Where a tensor is written and read by linear layers only, a factor per channel can be taken from its writer and given
to its readers. In a VAN these are: the residual of every block (written by patch_embed, proj_2 and fc2, read by
proj_1, fc1 and, per channel, by the block's own residual factor, which absorbs a change of scale between blocks), the
LKA's inner tensors (conv0 -> conv_spatial -> conv1), the gate's product (conv1's rows, proj_2's columns) and the
feed-forward's (fc1 -> 3x3). Behind a GELU there is none. Readers that are depthwise pay nothing for it: their weights
have a scale per channel anyway. A reader that mixes channels pays in its weights' range, hence ``strength``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.errors import VerificationError
from edge_van.fold import RELATIVE_TOLERANCE, FoldedBlock, FoldedPatchEmbed, FoldedVAN, relative_error

MAX_FACTOR = 1e3
"""A channel's range counts as at most this many times its tensor's median range, and at least 1/MAX_FACTOR of it
(dead channels)."""


@torch.no_grad()
def equalize(model: FoldedVAN, batches: Iterable[Tensor], *, strength: float = 1.0) -> FoldedVAN:
    """A copy of ``model``, rescaled: factor = (channel's max |x| / geometric mean) ** strength.

    ``batches`` are float images (N, 3, H, W), normalised. Raises ``VerificationError`` if the copy's logits differ
    from the model's by over 1e-4 relative on the first batch.
    """
    maxima, first = _channel_maxima(model, batches)
    factors = {name: _factors(m, strength) for name, m in maxima.items()}
    result = copy.deepcopy(model)
    for s in range(1, 5):
        blocks = cast(nn.ModuleList, result.get_submodule(f"block{s}"))
        embed = cast(FoldedPatchEmbed, result.get_submodule(f"patch_embed{s}"))
        factor = factors[f"block{s}.0.attn.proj_1"]
        _divide_rows_(embed.proj, factor)
        for j, module in enumerate(blocks):
            block = cast(FoldedBlock, module)
            prefix = f"block{s}.{j}"
            # after the attention and after the feed-forward the residual has one scale: nothing rescales between
            after = maxima[f"{prefix}.mlp.fc1"]
            if j + 1 < len(blocks):
                after = torch.maximum(after, maxima[f"block{s}.{j + 1}.attn.proj_1"])
            next_factor = _factors(after, strength)
            _multiply_columns_(block.attn.proj_1, factor)
            _divide_rows_(block.attn.proj_2, next_factor)
            block.residual_scale.mul_((factor / next_factor).view(1, -1, 1, 1))
            _multiply_columns_(block.mlp.fc1, next_factor)
            if j + 1 < len(blocks):
                _divide_rows_(block.mlp.fc2, next_factor)
            else:  # the stage's LayerNorm mixes channels and needs the residual as it was
                back = next_factor.view(1, -1, 1, 1)
                before = block.mlp_residual_scale  # there where the model was equalised before
                block.mlp_residual_scale = back.clone() if before is None else back * before
            factor = next_factor
            _equalize_inside_(block, prefix, factors)
    error = relative_error(result(first), model(first))
    if not error <= RELATIVE_TOLERANCE:
        raise VerificationError(
            f"equalisation changed the network by {error:.1e} relative, {RELATIVE_TOLERANCE:.0e} is allowed: "
            f"lower its strength ({strength}) in the recipe"
        )
    return result


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
    """max |x| per input channel of every conv inside a block, over all batches; and the first batch."""
    maxima: dict[str, Tensor] = {}
    first: Tensor | None = None

    def watch(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            high = args[0].abs().amax((0, 2, 3))
            maxima[name] = torch.maximum(maxima[name], high) if name in maxima else high

        stack.callback(model.get_submodule(name).register_forward_pre_hook(hook).remove)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and name.startswith("block"):
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
