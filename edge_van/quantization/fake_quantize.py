"""Grids that are trained: what stands in for torchao's observers while a quantised network learns.

In: an observer that has seen calibration images. Out: a module that rounds as the converted graph will, and lets
gradients through; ``convert_pt2e`` reads its scale and zero point as it reads an observer's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import FakeQuantizeBase, ObserverBase

from edge_van.quantization.observers import EPS, HalfScales, half_scale, weight_limits


class _RoundToGrid(torch.autograd.Function):
    """Learned step size quantisation (Esser et al., 2020, equations 1 to 3): the gradient passes where the grid holds
    the value (not at its very ends); the step's is the rounding error inside and the grid's end outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor, scale: Tensor, ends: tuple[int, int]) -> Tensor:
        # as torch.fake_quantize_per_tensor_affine, whose CPU kernel is slower than these four
        rounded = (x * (1.0 / scale)).round_().clamp_(*ends).mul_(scale)
        ctx.save_for_backward(x, rounded, scale)
        ctx.ends = ends
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, rounded, scale = ctx.saved_tensors
        low, high = (end * scale for end in ctx.ends)
        if x.device.type == "cpu":  # 0 outside, in one pass; on a GPU reading the ends would wait for all it has to do
            passed = torch.ops.aten.hardtanh_backward(gradient, x, float(low), float(high))
        else:
            passed = gradient * ((x > low) & (x < high))
        # d(rounded) / d(log scale) is rounded - x inside and rounded outside
        step = _dot(gradient, rounded) - _dot(passed, x)
        return passed, step, None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products, without a copy where both are stored alike."""
    if a.dim() == 4 and a.is_contiguous(memory_format=torch.channels_last):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    return a.reshape(-1).dot(b.reshape(-1))


class ActivationGrid(FakeQuantizeBase):  # type: ignore[misc]
    """One scale for a tensor, learned as its logarithm; the zero point stays where calibration put it."""

    def __init__(self, observer: Any) -> None:
        super().__init__()
        self.dtype, self.qscheme = observer.dtype, observer.qscheme
        self.quant_min, self.quant_max = int(observer.quant_min), int(observer.quant_max)
        scale, zero_point = observer.calculate_qparams()
        self.halves = isinstance(observer, HalfScales)
        self.log_scale = nn.Parameter(scale.detach().clone().log().reshape(()))
        self.register_buffer("zero_point", zero_point.detach().clone().to(torch.int32).reshape(()))
        self._ends = (self.quant_min - int(zero_point), self.quant_max - int(zero_point))  # around what 0 becomes

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale = self.log_scale.detach().exp().clamp_min(EPS)
        return half_scale(scale) if self.halves else scale, self.zero_point

    def forward(self, x: Tensor) -> Tensor:
        scale, _ = self.calculate_qparams()
        result: Tensor = _RoundToGrid.apply(x, self.log_scale, scale, self._ends)  # type: ignore[no-untyped-call]
        return result


class WeightGrid(FakeQuantizeBase):  # type: ignore[misc]
    """One scale a channel: its ``weight_limits`` are at the grid's end, until it is ``frozen``."""

    def __init__(self, observer: Any) -> None:
        super().__init__()
        self.dtype, self.qscheme, self.ch_axis = observer.dtype, observer.qscheme, int(observer.ch_axis)
        self.quant_min, self.quant_max = int(observer.quant_min), int(observer.quant_max)
        scale, zero_point = observer.calculate_qparams()
        self.halves, self.pairs = observer.halves, observer.pairs
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("zero_point", zero_point.detach().clone().to(torch.int32))
        self.frozen = False

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero_point

    @torch.no_grad()
    def _follow_(self, weight: Tensor) -> None:
        scale = (weight_limits(weight, pairs=self.pairs) / self.quant_max).clamp_min(EPS)
        self.scale.copy_(half_scale(scale) if self.halves else scale)

    def forward(self, weight: Tensor) -> Tensor:
        if not self.frozen:
            self._follow_(weight)
        ends = (self.quant_min, self.quant_max)
        return torch.fake_quantize_per_channel_affine(weight, self.scale, self.zero_point, self.ch_axis, *ends)


def put_grids_(observed: torch.fx.GraphModule) -> None:
    """In place: every observer of a prepared and calibrated graph becomes a grid that starts from its range."""
    called = {str(n.target) for n in observed.graph.nodes if n.op == "call_module"}
    for name in sorted(called):
        observer = observed.get_submodule(name)
        if not isinstance(observer, ObserverBase):  # torch's check of the input's shape
            continue
        kind = WeightGrid if observer.qscheme is torch.per_channel_symmetric else ActivationGrid
        owner, _, leaf = name.rpartition(".")
        setattr(observed.get_submodule(owner), leaf, kind(observer))
