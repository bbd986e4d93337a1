"""What a user allows a model to cost, and what was tried to keep within it.

In: limits, measured rungs. Out: frozen records; no engine, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_van.bundle.interval import Interval
from edge_van.errors import UsageError

Missed = Literal["", "accuracy", "latency"]


@dataclass(frozen=True)
class Budget:
    """Points that OpenVINO's INT8 model may lose against FP32, and its median latency at batch 1 on this machine."""

    max_drop_points: float
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_drop_points <= 100.0:
            raise UsageError(f"a budget's drop is a number of points from 0 to 100; got {self.max_drop_points!r}")
        if self.max_latency_ms is not None and not 0.0 < self.max_latency_ms <= 1e6:
            raise UsageError(
                f"a budget's latency is a number of milliseconds over 0 and up to 1e6; got {self.max_latency_ms!r}"
            )


@dataclass(frozen=True)
class Rung:
    """One candidate: what was changed, what it is worth, and what it took.

    The drop is that of the gated metric whose interval reaches furthest, ``largest_drop_points`` that of the one that
    fell most: of one metric they are the same. ``seconds`` are of making and measuring it when it was first tried.
    """

    name: str
    method: str
    ranges: str
    samples: int
    float_layers: tuple[str, ...]
    metric: str
    int8_percent: float
    drop_points: float
    drop_interval: Interval
    largest_drop_points: float
    agreement_percent: float
    logit_sqnr_db: float
    median_ms: float
    speedup: float
    speedup_interval: Interval
    seconds: float
    activation: str = "gelu"
    activation_places: tuple[str, ...] = ()  # where it stands; none: everywhere

    def is_worth_it(self, asked_float_layers: tuple[str, ...]) -> bool:
        """Nobody wants more layers in float than asked for that make INT8 slower than FP32, which loses nothing."""
        return self.speedup > 1.0 or self.float_layers == asked_float_layers

    def loses_at_most(self, points: float, *, by_interval: bool) -> bool:
        return (self.drop_interval.high if by_interval else self.largest_drop_points) <= points

    def within(self, budget: Budget, *, by_interval: bool) -> bool:
        fast = budget.max_latency_ms is None or self.median_ms <= budget.max_latency_ms
        return fast and self.loses_at_most(budget.max_drop_points, by_interval=by_interval)


@dataclass(frozen=True)
class BudgetRecord:
    """The rungs in the order they were tried, and the one that the bundle is made by.

    ``missed`` is which limit no rung keeps, "" where one does.
    ``by_interval``: a rung is inside where the upper end of the drop's 95 % interval is. False where the images are so
    few that not even FP32 against itself would be: then the drop itself decides. ``failed`` are rungs that could not be
    made, each with its reason.
    """

    budget: Budget
    by_interval: bool
    missed: Missed
    reason: str
    chosen: int
    rungs: tuple[Rung, ...]
    failed: tuple[str, ...] = ()

    def verdict(self, rung: Rung) -> str:
        """Whether it might have been taken: "yes", "no", or "no faster than FP32"."""
        if not rung.within(self.budget, by_interval=self.by_interval):
            return "no"
        return "yes" if rung.is_worth_it(self.rungs[0].float_layers) else "no faster than FP32"
