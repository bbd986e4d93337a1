"""In which precision OpenVINO runs a network on this CPU: chosen by what was measured, not assumed.

In: times of one interleaved run, accuracies of the same models. Out: an ``EngineChoice`` among ``PRECISIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_van.bundle.budget_record import BudgetRecord
from edge_van.bundle.engine_record import EngineChoice, SchemeTiming
from edge_van.bundle.layout import PRECISIONS
from edge_van.bundle.records import Accuracy, Latency, LatencyRow
from edge_van.statistics import paired_ratio
from edge_van.text import precision_words

BY_LOSS = tuple(PRECISIONS)
SLOWER_FOR_EXACTNESS = 0.98
"""A model that changes the network less takes INT8's place if it is shown to be at least so many times as fast."""
TIMED_BY = "OpenVINO, medians of one image at a time"


@dataclass(frozen=True)
class Limits:
    """What a model may cost: the recipe's drop, or the budget that was given, judged as its rungs were."""

    max_drop_points: float
    budget: BudgetRecord | None = None

    def keeps(self, accuracy: Accuracy, median_ms: float) -> bool:
        if self.budget is None:
            return accuracy.worst.drop_points <= self.max_drop_points
        points, most_ms = self.budget.budget.max_drop_points, self.budget.budget.max_latency_ms
        if self.budget.by_interval:
            inside = max(metric.drop_interval.high for metric in accuracy.gated) <= points
        else:
            inside = accuracy.worst.drop_points <= points
        return inside and (most_ms is None or median_ms <= most_ms)


def worth_measuring(latency: Latency, int8: Accuracy, limits: Limits) -> tuple[str, ...]:
    """The models whose accuracy decides: those that might take INT8's place, or FP32's where INT8 keeps no limit."""
    rows = {row.name: row for row in latency.rows}
    incumbent = rows["int8" if limits.keeps(int8, rows["int8"].median_ms) else latency.baseline]
    others = [name for name in BY_LOSS if name in rows and name not in (latency.baseline, "int8")]
    return tuple(name for name in others if _takes_the_place(rows[name], incumbent))


def choose_precision(latency: Latency, accuracy: Mapping[str, Accuracy], limits: Limits) -> EngineChoice:
    """INT8, unless another model within the limits is shown to be faster, or as fast and changes the network less.

    ``accuracy`` is of INT8 and of ``worth_measuring``. Where INT8 is not within the limits FP32, which loses nothing,
    stands in its place. A noisy run shows little, and changes nothing.
    """
    rows = {row.name: row for row in latency.rows}
    table, fit = [], []
    for name in (name for name in BY_LOSS if name in rows):
        row, known = rows[name], accuracy.get(name)
        drop = 0.0 if name == latency.baseline else None if known is None else known.worst.drop_points
        note = "not as fast: its accuracy was not measured" if drop is None else ""
        table.append(SchemeTiming(name, drop, row.median_ms, row.p99_ms, note))
        if name == latency.baseline or (known is not None and limits.keeps(known, row.median_ms)):
            fit.append(name)
    active = "int8" if "int8" in fit else latency.baseline
    # what loses most comes first: each may then give way to one that loses less and is as fast
    for name in reversed(fit):
        if name != active and _takes_the_place(rows[name], rows[active]):
            active = name
    reason = _reason(active, fit, rows, limits.max_drop_points)
    return EngineChoice(active, limits.max_drop_points, reason, tuple(table), TIMED_BY)


def _takes_the_place(row: LatencyRow, other: LatencyRow) -> bool:
    exact = BY_LOSS.index(row.name) < BY_LOSS.index(other.name)
    return _times_as_fast(row, other)[1] > (SLOWER_FOR_EXACTNESS if exact else 1.0)


def _reason(active: str, fit: list[str], rows: Mapping[str, LatencyRow], points: float) -> str:
    limit = f"the limit of {points:g} point{'' if points == 1 else 's'}"
    if "int8" not in fit:
        start = f"INT8 does not keep {limit}"
    elif active == "int8":
        start = "no other model is shown to be faster, or as fast and more exact"
    else:
        start = f"within {limit}"
    others = [name for name in fit if name != active]
    compared = [_as_fast(rows[active], rows[name]) for name in others]
    return f"{start}; {', '.join(compared)}" if compared else start


def _as_fast(row: LatencyRow, other: LatencyRow) -> str:
    ratio, low, high = _times_as_fast(row, other)
    return f"{ratio:.2f} ({low:.2f} to {high:.2f}) times {precision_words(other.name)}"


def _times_as_fast(row: LatencyRow, other: LatencyRow) -> tuple[float, float, float]:
    """(ratio, the ends of its 95 % interval), paired by the rounds."""
    return paired_ratio(np.array(other.samples_ms), np.array(row.samples_ms))
