"""``evaluation.precision``: which model of a CPU is active, by times and drops that are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundle_samples import ACCURACY

from edge_van.bundle.budget_record import Budget, BudgetRecord
from edge_van.bundle.engine_record import EngineChoice
from edge_van.bundle.records import Accuracy, Interval, Latency, LatencyRow
from edge_van.evaluation.precision import Limits, choose_precision, worth_measuring
from edge_van.statistics import paired_ratio

ROUNDS = 101


def timed(noise: float = 0.01, **medians_ms: float) -> Latency:
    """Times around those medians, of one run."""
    generator = np.random.default_rng(0)
    times = {name: ms * (1.0 + noise * generator.standard_normal(ROUNDS)) for name, ms in medians_ms.items()}
    rows = []
    for name, values in times.items():
        ratio, low, high = paired_ratio(times["fp32"], values)
        figures = (float(np.median(values)), float(values.max()), float(values.max()), ratio, Interval(low, high))
        rows.append(LatencyRow(name, "openvino", *figures, tuple(values.tolist())))
    return Latency(1, 2, 10, ROUNDS, "fp32", tuple(rows), 0.0)


def loses(points: float, half: float = 0.2) -> Accuracy:
    return replace(ACCURACY, drop_points=points, drop_interval=Interval(points - half, points + half))


def chosen(latency: Latency, limits: Limits, **drops: float) -> EngineChoice:
    """As ``edge-van quantize`` does: only what is worth it is measured."""
    accuracy = {"int8": loses(drops["int8"])}
    names = worth_measuring(latency, accuracy["int8"], limits)
    return choose_precision(latency, accuracy | {name: loses(drops[name]) for name in names}, limits)


def active(latency: Latency, limit: float = 1.0, **drops: float) -> str | None:
    return chosen(latency, Limits(limit), **drops).active


FAST = timed(fp32=6.0, bf16=4.0, int8=3.0, int8_bf16=2.8)


def test_the_fastest_within_the_limit() -> None:
    assert active(FAST, bf16=0.0, int8=0.1, int8_bf16=0.2) == "int8_bf16"
    assert active(FAST, bf16=0.0, int8=0.1, int8_bf16=1.2) == "int8"


def test_where_int8_loses_too_much_what_is_faster_than_fp32_counts() -> None:
    assert active(FAST, limit=0.05, bf16=0.0, int8=0.1, int8_bf16=0.2) == "bf16"
    assert active(FAST, limit=0.05, bf16=0.1, int8=0.1, int8_bf16=0.2) == "fp32"
    assert chosen(FAST, Limits(0.05), bf16=0.0, int8=0.1, int8_bf16=0.2).reason.startswith("INT8 does not keep")
    assert active(timed(fp32=6.0, int8=3.0), int8=float("nan")) == "fp32"


def test_what_is_as_fast_and_more_exact_takes_int8s_place() -> None:
    latency = timed(noise=0.02, fp32=3.0, bf16=2.0, int8=2.0)
    choice = chosen(latency, Limits(1.0), bf16=0.0, int8=0.0)
    assert choice.active == "bf16"
    assert "times INT8" in choice.reason


def test_a_noisy_run_changes_nothing() -> None:
    assert active(timed(noise=0.3, fp32=3.0, bf16=2.0, int8=2.0), bf16=0.0, int8=0.0) == "int8"
    assert active(timed(noise=0.3, fp32=2.0, int8=2.0), int8=0.0) == "int8"


def test_what_is_slower_than_int8_need_not_be_measured() -> None:
    int8 = loses(0.0)
    assert worth_measuring(FAST, int8, Limits(1.0)) == ("int8_bf16",)
    assert worth_measuring(timed(fp32=6.0, bf16=2.9, int8=3.0, int8_bf16=4.0), int8, Limits(1.0)) == ("bf16",)
    assert worth_measuring(timed(fp32=6.0, int8=7.0), int8, Limits(1.0)) == ()
    choice = chosen(timed(fp32=6.0, bf16=4.0, int8=3.0), Limits(1.0), int8=0.0)
    assert choice.active == "int8"
    [unknown] = [row for row in choice.table if row.drop_points is None]
    assert (unknown.scheme, unknown.note) == ("bf16", "not as fast: its accuracy was not measured")


@pytest.mark.parametrize("by_interval", [True, False])
def test_a_budget_is_kept_as_its_rungs_are(by_interval: bool) -> None:
    """By the upper end of the interval, 0.2 above the drop; and in time."""
    record = BudgetRecord(Budget(0.1), by_interval, "", "", 0, ())
    kept = "int8" if by_interval else "int8_bf16"
    assert chosen(FAST, Limits(0.1, record), bf16=0.0, int8=-0.2, int8_bf16=0.05).active == kept
    quick = replace(record, budget=Budget(1.0, 2.9))
    assert chosen(FAST, Limits(1.0, quick), bf16=0.0, int8=0.0, int8_bf16=0.0).active == "int8_bf16"
