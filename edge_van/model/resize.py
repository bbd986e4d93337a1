"""A folded network at another input size: which sizes its cropped kernels allow, and the network at one of them.

In: a ``FoldedVAN`` and a size. Out: a ``FoldedVAN`` of the same weights, or a ``UsageError`` with the sizes there are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from edge_van.errors import UsageError, VerificationError
from edge_van.model.fold import RELATIVE_TOLERANCE, FoldedVAN, crop_kernel_, relative_error
from edge_van.model.van import stage_sizes

STRIDES = (4, 8, 16, 32)
"""Of the stages' maps, in pixels of the input."""
PUBLISHED_KERNELS = {"conv0": 5, "conv_spatial": 7, "dwconv": 3}
"""Sides of the depthwise kernels, uncropped, of every variant that was published."""


@dataclass(frozen=True)
class _Kernel:
    """A depthwise kernel that keeps its map's size, along one side of it."""

    kind: str  # "conv0", "conv_spatial" or "dwconv"
    layer: str
    axis: int  # 0: height, 1: width
    taps: int
    reach: int  # pixels between its centre and the first ring that is not there
    side: int  # of the map that it was folded for
    stride: int  # pixels of the input for one of the map

    @property
    def is_whole(self) -> bool:
        """Whether one ring more would have met the map: the fold, which crops what does not, had none to crop."""
        return self.reach <= self.side - 1


@torch.no_grad()
def resized(folded: FoldedVAN, size: tuple[int, int], *, published: bool) -> FoldedVAN:
    """``folded`` for images of ``size`` (height, width), its kernels cropped further where that is exact.

    ``published`` says that the kernels had the published sides before the fold cropped them. ``folded`` is left as it
    was. Raises ``UsageError`` where ``size`` would need taps that the fold for its present size has dropped,
    ``VerificationError`` if cropping changed the logits by over 1e-4 relative.
    """
    limits = largest_size(folded, published=published)
    if any(limit is not None and side > limit for side, limit in zip(size, limits, strict=True)):
        (height, width), (old_height, old_width) = size, folded.input_size
        most = " and ".join(
            f"any {name}" if limit is None else f"{name}s up to {limit}"
            for name, limit in zip(("height", "width"), limits, strict=True)
        )
        raise UsageError(
            f"{height}x{width} px needs weights that are not here: kernels were cropped to what {old_height}x"
            f"{old_width} px can reach, and serve {most}. Give such a size, or make this one from the checkpoint: "
            f"edge-van quantize --input-size {height}x{width}"
        )
    network = copy.deepcopy(folded).eval().requires_grad_(False)
    network.input_size = size
    images = torch.randn(2, network.in_channels, *size, generator=torch.Generator().manual_seed(0))
    expected = network(images)
    for s, side in enumerate(stage_sizes(*size), 1):
        for module in network.get_submodule(f"block{s}").modules():
            if isinstance(module, nn.Conv2d):
                crop_kernel_(module, side)
    largest = {kernel.kind: kernel.taps for kernel in sorted(_kernels(folded), key=lambda kernel: kernel.taps)}
    network.kernels_cropped = _cropped(network, largest | _whole_taps(folded, published=published))
    if not (error := relative_error(network(images), expected)) <= RELATIVE_TOLERANCE:  # a NaN fails too
        raise VerificationError(
            f"cropped for {size[0]}x{size[1]} px the network differs by {error:.1e} relative, {RELATIVE_TOLERANCE:.0e} "
            f"is allowed: its weights are too extreme for float32"
        )
    return network


def largest_size(folded: FoldedVAN, *, published: bool) -> tuple[int | None, int | None]:
    """(height, width) of the largest images whose maps the kernels still cover; None: as large as one likes."""
    limits: list[int | None] = [None, None]
    whole = _whole_taps(folded, published=published)
    for kernel in _kernels(folded):
        if kernel.taps != whole.get(kernel.kind):
            # the ring that is not there may meet no pixel: reach >= side
            most, limit = kernel.reach * kernel.stride, limits[kernel.axis]
            limits[kernel.axis] = most if limit is None else min(limit, most)
    return limits[0], limits[1]


def _whole_taps(folded: FoldedVAN, *, published: bool) -> dict[str, int]:
    """Taps along a side before anything was cropped, by the kind of layer, as far as they are known."""
    known = dict(PUBLISHED_KERNELS) if published else {}
    return known | {kernel.kind: kernel.taps for kernel in _kernels(folded) if kernel.is_whole}


def _kernels(folded: FoldedVAN) -> Iterator[_Kernel]:
    for s, (stride, sides) in enumerate(zip(STRIDES, stage_sizes(*folded.input_size), strict=True), 1):
        for name, module in folded.get_submodule(f"block{s}").named_modules():
            kind = name.rpartition(".")[2]
            if kind in PUBLISHED_KERNELS and isinstance(module, nn.Conv2d):
                padding = cast(tuple[int, int], module.padding)
                for axis in (0, 1):
                    reach = padding[axis] + module.dilation[axis]
                    yield _Kernel(kind, f"block{s}.{name}", axis, module.kernel_size[axis], reach, sides[axis], stride)


def _cropped(folded: FoldedVAN, whole: dict[str, int]) -> int:
    return len({kernel.layer for kernel in _kernels(folded) if kernel.taps < whole[kernel.kind]})
