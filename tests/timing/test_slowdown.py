"""``edge_van.timing.slowdown``: ratios to each run's own baseline are compared, never milliseconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmark_samples import MEDIANS_MS, SETTINGS, query_rows, rate_rows, result
from bundle_samples import one_line

from edge_van.benchmark_record import BenchmarkResult
from edge_van.errors import LatencyGateError, UsageError
from edge_van.timing.slowdown import slowdown_gate


def slower_int8(factor: float, machine: float = 1.0) -> BenchmarkResult:
    """INT8 slower by ``factor``, everything by ``machine``."""
    fp32, int8 = MEDIANS_MS.values()
    return result({"openvino-fp32": machine * fp32, "openvino-int8": machine * factor * int8})


@pytest.mark.parametrize("machine", [0.5, 1.0, 2.0])
def test_a_slower_or_faster_machine_is_no_regression(machine: float) -> None:
    found = slowdown_gate(result(), slower_int8(1.0, machine), 1.02)
    assert [s.figure for s in found] == [
        "SingleStream latency of openvino-int8",
        "Offline throughput of openvino-int8 at batch 8",
    ]
    assert all(s.factor == pytest.approx(1.0, abs=0.01) for s in found)


def test_a_slowdown_over_the_limit_says_which_and_by_how_much() -> None:
    with pytest.raises(LatencyGateError) as caught:
        slowdown_gate(result(), slower_int8(1.25, machine=0.5), 1.10)
    one_line(
        caught,
        "SingleStream latency of openvino-int8 is 1.25 times as slow",
        "1.60 times openvino-fp32 now (95 % interval 1.60 to 1.60)",
        "2.00 in the baseline",
        "Offline throughput of openvino-int8 at batch 8",
        "1.1 is allowed",
    )
    assert caught.value.exit_code == 4


def test_just_within_the_limit_and_faster_pass() -> None:
    slowdown_gate(result(), slower_int8(1.09), 1.10)
    assert all(s.factor < 1 for s in slowdown_gate(result(), slower_int8(0.5), 1.0))


def test_a_figure_that_is_gone_is_a_regression() -> None:
    with pytest.raises(LatencyGateError, match=r"SingleStream latency of openvino-int8 was measured .* not now"):
        slowdown_gate(result(), result(single_stream=()), 1.10)
    both = result(offline=(*rate_rows(MEDIANS_MS, 8), *rate_rows(MEDIANS_MS, 16)))
    with pytest.raises(LatencyGateError, match="batch 16"):
        slowdown_gate(both, result(), 1.10)


def test_a_new_figure_is_none() -> None:
    more = result(multi_stream=query_rows(MEDIANS_MS, images=8))
    assert len(slowdown_gate(result(), more, 1.10)) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": replace(result().machine, cpu="another cpu")}, "the CPU differs (a cpu then, another cpu now)"),
        ({"settings": replace(SETTINGS, threads=4)}, "the number of threads differs (2 then, 4 now)"),
        ({"bundles": (replace(result().bundles[0], input_size=(64, 64)),)}, "the input size differs"),
        ({"bundles": (replace(result().bundles[0], variant="b2"),)}, "the variant differs"),
        ({"settings": replace(SETTINGS, streams=4)}, "the number of streams differs"),
        ({"machine": replace(result().machine, logical_cores=16)}, "the number of cores differs (4 then, 16 now)"),
        ({"models": tuple(replace(m, threads=8) for m in result().models)}, "the number of threads differs"),
        ({"baseline": "openvino-int8"}, "the baseline model differs"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(changes: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        slowdown_gate(result(), result(**changes), 1.10)
    one_line(caught, words)


def test_a_baseline_of_one_model_says_nothing() -> None:
    alone = result({"openvino-fp32": 4.0})
    with pytest.raises(UsageError, match="at least two models"):
        slowdown_gate(alone, alone, 1.10)
