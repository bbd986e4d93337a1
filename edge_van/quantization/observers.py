"""What watches tensors while a network is calibrated, and turns what it saw into scales.

In: tensors. Out: torchao's observers, with ranges as this package's schemes want them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver

EPS = 2.0**-24
"""The smallest scale: a dead channel would get 0, which no engine takes."""


def weight_limits(weight: Tensor, *, pairs: bool) -> Tensor:
    """(output channels,) what the end of each one's grid stands for: its largest weight, or with ``pairs`` the largest
    sum of two neighbouring input channels' weights of one sign, where that is more.

    The neighbours are channels 2i and 2i + 1: oneDNN's int8 kernels keep four input channels together and multiply
    two at a time (its "4i" layouts).
    """
    taps = weight.flatten(2) if weight.dim() > 2 else weight.unsqueeze(2)  # (out, in, taps)
    limits = taps.abs().amax((1, 2))
    if not pairs:
        return limits
    if taps.shape[1] % 2:
        taps = torch.nn.functional.pad(taps, (0, 0, 0, 1))
    for part in (taps.clamp_min(0.0), -taps.clamp_max(0.0)):
        limits = torch.maximum(limits, (part[:, 0::2] + part[:, 1::2]).amax((1, 2)))
    return limits


def half_scale(scale: Tensor) -> Tensor:
    """Rounded up to float16, subnormals included, so that a graph in float16 has the same grid, and clips no more."""
    half = scale.half()
    step = torch.nextafter(half, torch.full_like(half, torch.inf))
    return torch.where(half.float() < scale, step, half).float()


class RangeObserver(HistogramObserver):  # type: ignore[misc]
    """torchao's, but what its search found is kept until more is observed: ``convert`` asks again for every scheme."""

    _range: tuple[Tensor, Tensor] | None = None

    def forward(self, x_orig: Tensor) -> Tensor:
        self._range = None
        return cast(Tensor, super().forward(x_orig))

    def take(self, seen: HistogramObserver) -> None:
        """As if this had seen what the other has."""
        self._range = None
        for own, other in (
            (self.histogram, seen.histogram),
            (self.min_val, seen.min_val),
            (self.max_val, seen.max_val),
        ):
            own.copy_(other)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        if self._range is None:
            self._range = super().calculate_qparams()
        return self._range


class MinMaxRangeObserver(RangeObserver):
    """The range of all that was seen: one outlier widens it for every value, which is why it is not the default."""

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        return self.min_val, self.max_val


class HalfScales(RangeObserver):
    """With a scale that float16 holds exactly."""

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero_point = super().calculate_qparams()
        return half_scale(scale), zero_point


class HalfScaleRangeObserver(HalfScales):
    """``RangeObserver`` in scales of float16."""


class HalfScaleMinMaxRangeObserver(HalfScales, MinMaxRangeObserver):
    """``MinMaxRangeObserver`` in scales of float16."""


def range_observer(ranges: str, *, halves: bool) -> type[RangeObserver]:
    """The observer of a recipe's ``ranges``, "squared_error" or "minmax"; with ``halves`` in scales of float16."""
    if ranges == "minmax":
        return HalfScaleMinMaxRangeObserver if halves else MinMaxRangeObserver
    return HalfScaleRangeObserver if halves else RangeObserver


class WeightObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """torchao's, whose ranges are of ``weight_limits``; with ``halves`` in scales that float16 holds exactly."""

    def __init__(self, *args: Any, halves: bool = False, pairs: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.halves, self.pairs = halves, pairs

    def forward(self, weight: Tensor) -> Tensor:
        limits = weight_limits(weight.detach(), pairs=self.pairs)
        self.min_val, self.max_val = -limits, limits
        return weight

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero_point = super().calculate_qparams()
        return half_scale(scale) if self.halves else scale, zero_point
