"""A VAN made ready to be trained: kernels as small as the map, BatchNorm over all processes, planned stochastic depth.

In: a ``VAN``. Out: the same one, some of its modules replaced by others with the same parameters and names.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as between

from edge_van.model.fold import taps_on_the_map
from edge_van.model.van import VAN, DropPath


class CroppedConv2d(nn.Conv2d):
    """A depthwise convolution that keeps the map's size and leaves out the taps that would read padding alone: the same
    function with less work. The weights left out have no gradient there.

    On a CPU a dilated one is computed on each of the maps that its taps step through, for the backward pass of oneDNN's
    dilated depthwise kernels is a slow reference.
    """

    def forward(self, x: Tensor) -> Tensor:
        dilation = self.dilation
        if dilation == (1, 1) or x.device.type != "cpu":
            return self._cropped(x, dilation)
        return _joined(self._cropped(_every_nth(x, dilation), (1, 1)), dilation, x)

    def _cropped(self, x: Tensor, dilation: tuple[int, ...]) -> Tensor:
        sides = zip(self.kernel_size, dilation, x.shape[2:], strict=True)
        keep, padding = zip(*(taps_on_the_map(k, d, side) for k, d, side in sides), strict=True)
        weight = self.weight[:, :, keep[0], keep[1]]
        if weight.shape[2:] == (1, 1) and self.bias is not None:
            return torch.addcmul(self.bias.view(1, -1, 1, 1), x, weight.view(1, -1, 1, 1))
        return nn.functional.conv2d(x, weight, self.bias, 1, padding, dilation, self.groups)


def _every_nth(x: Tensor, dilation: tuple[int, ...]) -> Tensor:
    """(N, C, H, W) as (N * d * d, C, H / d, W / d), channels last: the maps of each phase, zeros where one is shorter.

    Channels last, a copy moves whole pixels.
    """
    (down, across), (n, c, height, width) = dilation, x.shape
    rows, columns = -(-height // down), -(-width // across)
    pixels = x.permute(0, 2, 3, 1)
    padded = nn.functional.pad(pixels, (0, 0, 0, columns * across - width, 0, rows * down - height))
    split = padded.reshape(n, rows, down, columns, across, c).permute(0, 2, 4, 1, 3, 5)
    return split.reshape(n * down * across, rows, columns, c).permute(0, 3, 1, 2)


def _joined(maps: Tensor, dilation: tuple[int, ...], like: Tensor) -> Tensor:
    """``_every_nth`` undone, with the shape and the layout of ``like``."""
    (down, across), (n, c, height, width), (rows, columns) = dilation, like.shape, maps.shape[2:]
    split = maps.permute(0, 2, 3, 1).reshape(n, down, across, rows, columns, c).permute(0, 3, 1, 4, 2, 5)
    joined = split.reshape(n, rows * down, columns * across, c)[:, :height, :width].permute(0, 3, 1, 2)
    last = like.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of the batch of all processes, on a CPU too (torch's SyncBatchNorm takes
    GPUs only): as many processes as one likes train as one would."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
            mean: Tensor = between.all_reduce(wide.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
            centred = wide - mean.view(1, -1, 1, 1)  # not E[x^2] - mean^2, which cancels
            variance: Tensor = between.all_reduce(centred.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
            self._keep_(mean.detach(), variance.detach() * (count / (count - 1)))
            scale = self.weight * torch.rsqrt(variance + self.eps)
            shift = self.bias - mean * scale
            result: Tensor = (wide * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)
            return result

    def _keep_(self, mean: Tensor, variance: Tensor) -> None:
        """The running statistics, as torch keeps them."""
        momentum = cast(float, self.momentum)
        cast(Tensor, self.num_batches_tracked).add_(1)
        cast(Tensor, self.running_mean).lerp_(mean, momentum)
        cast(Tensor, self.running_var).lerp_(variance, momentum)


class PlannedDropPath(DropPath):
    """Stochastic depth that is told which samples it drops, as the plan of the batch of all processes says."""

    kept: Tensor | None = None  # (N,), 1 or 0

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None or not self.training:
            return x
        return x * (self.kept / (1.0 - self.rate)).view(-1, 1, 1, 1).to(x.dtype)


def make_trainable_(van: VAN) -> VAN:
    """In place, and returned: in train mode, all parameters learning."""
    for parent in list(van.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, DropPath):
                setattr(parent, name, PlannedDropPath(module.rate))
            elif isinstance(module, nn.BatchNorm2d) or _keeps_its_size(module):
                module.__class__ = GlobalBatchNorm2d if isinstance(module, nn.BatchNorm2d) else CroppedConv2d
    return van.train().requires_grad_(True)


def _keeps_its_size(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels > 1
        and module.stride == (1, 1)
        and not isinstance(module.padding, str)
    )


def plan_drop_paths_(van: nn.Module, generator: np.random.Generator, batch: int, part: slice) -> None:
    """In place: which samples of the batch of all processes each block drops; ``part`` are this process's."""
    for module in van.modules():
        if isinstance(module, PlannedDropPath):
            kept = generator.random(batch) >= module.rate
            device = next(van.parameters()).device
            module.kept = None if module.rate == 0.0 else torch.from_numpy(kept[part]).float().to(device)
