"""What a Jetson's DLA would take of a VAN, layer by layer, by NVIDIA's documented rules.

In: a variant and an input size. Out: one row a layer, and how often the network would change between DLA and GPU. The
rules are those of "DLA Supported Layers and Restrictions" in NVIDIA's TensorRT documentation; TensorRT 10.7 was the
last release for Jetson whose documentation has a DLA, and a Thor has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from edge_van.model.fold import FoldedBlock, FoldedVAN
from edge_van.model.van import VAN
from edge_van.model.variants import get_variant

NO_QDQ = (
    "NVIDIA's TensorRT 8 guide says that a DLA takes no explicit quantisation: of a bundle's graphs only fp16 could be "
    "built for one, and INT8 would need TensorRT's own calibration, which 11 no longer has"
)
MAX_KERNEL, MAX_PADDING, MAX_STRIDE, MAX_CHANNELS, MAX_DILATION = 32, 31, 8, 8192, 32


@dataclass(frozen=True)
class DLALayer:
    """One layer, whether the rules allow it, and the rule that does not."""

    name: str
    operator: str
    allowed: bool
    reason: str


@dataclass(frozen=True)
class DLAReport:
    """All layers in order. ``transitions`` counts the changes between DLA and GPU: each is a copy and a wait."""

    variant: str
    input_size: tuple[int, int]
    layers: tuple[DLALayer, ...]
    allowed: int
    transitions: int
    note: str = NO_QDQ


def dla_report(variant: str, input_size: tuple[int, int], num_classes: int = 1000) -> DLAReport:
    """The report of a folded VAN with the kernels that this input size leaves it."""
    with torch.device("cpu"):
        folded = FoldedVAN(VAN(get_variant(variant), num_classes).eval(), input_size)
    layers = tuple(_network(folded))
    changes = sum(a.allowed != b.allowed for a, b in pairwise(layers))
    return DLAReport(variant, input_size, layers, sum(layer.allowed for layer in layers), changes)


def _network(folded: FoldedVAN) -> Iterator[DLALayer]:
    for s in range(1, 5):
        yield _convolution(f"patch_embed{s}.proj", folded)
        for j, block in enumerate(cast(nn.ModuleList, folded.get_submodule(f"block{s}"))):
            yield from _block(f"block{s}.{j}", cast(FoldedBlock, block), folded)
        for step in ("transpose and flatten", "LayerNorm", "reshape and transpose"):
            yield DLALayer(f"norm{s}", step, False, "not among DLA's layers: runs on the GPU")
    yield DLALayer("mean", "ReduceMean", False, "DLA reduces by maximum only: runs on the GPU")
    yield DLALayer("head", "Gemm", False, "a matrix product of two dimensions: runs on the GPU")


def _block(name: str, block: FoldedBlock, folded: FoldedVAN) -> Iterator[DLALayer]:
    gating = f"{name}.attn.spatial_gating_unit"
    yield _convolution(f"{name}.attn.proj_1", folded)
    yield _gelu(f"{name}.attn.activation")
    for conv in ("conv0", "conv_spatial", "conv1"):
        yield _convolution(f"{gating}.{conv}", folded)
    yield _elementwise(gating, "Mul")
    yield _convolution(f"{name}.attn.proj_2", folded)
    if block.residual_scale is not None:
        yield _elementwise(f"{name}.residual_scale", "Mul")
    yield _elementwise(name, "Add")
    yield _convolution(f"{name}.mlp.fc1", folded)
    yield _convolution(f"{name}.mlp.dwconv.dwconv", folded)
    yield _gelu(f"{name}.mlp.act")
    yield _convolution(f"{name}.mlp.fc2", folded)
    yield _elementwise(name, "Add")


def _gelu(name: str) -> DLALayer:
    return DLALayer(name, "Gelu", False, "DLA has ReLU, sigmoid and tanh, no Gelu or Erf: runs on the GPU")


def _elementwise(name: str, operator: str) -> DLALayer:
    return DLALayer(name, operator, True, "")


def _convolution(name: str, folded: FoldedVAN) -> DLALayer:
    conv = cast(nn.Conv2d, folded.get_submodule(name))
    depthwise = "depthwise " if conv.groups > 1 else ""
    dilation = f" dilation {conv.dilation[0]}" if conv.dilation[0] > 1 and conv.kernel_size[0] > 1 else ""
    operator = f"{depthwise}Conv {conv.kernel_size[0]}x{conv.kernel_size[1]}{dilation}"
    reason = _broken_rule(conv)
    return DLALayer(name, operator, not reason, reason)


def _broken_rule(conv: nn.Conv2d) -> str:
    """The first rule a convolution breaks, '' if none."""
    if isinstance(conv.padding, str):
        return f"padding {conv.padding!r} is not symmetric"
    for kernel, padding, stride, dilation in zip(
        conv.kernel_size, conv.padding, conv.stride, conv.dilation, strict=True
    ):
        if kernel > MAX_KERNEL:
            return f"kernel {kernel} is over {MAX_KERNEL}"
        if padding >= kernel or padding > MAX_PADDING:
            return f"padding {padding} is not under the kernel's {kernel} (and at most {MAX_PADDING})"
        if stride > MAX_STRIDE:
            return f"stride {stride} is over {MAX_STRIDE}"
        if dilation > MAX_DILATION:
            return f"dilation {dilation} is over {MAX_DILATION}"
    if max(conv.in_channels, conv.out_channels, conv.groups) > MAX_CHANNELS:
        return f"{max(conv.in_channels, conv.out_channels)} channels are over {MAX_CHANNELS}"
    return ""
