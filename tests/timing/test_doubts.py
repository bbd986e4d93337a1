"""``edge_van.timing.doubts``: a sound run has none; each rule speaks when it is broken, and once."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from benchmark_samples import MEDIANS_MS, query_rows, rate_rows, result
from scipy.stats import binom

from edge_van.bundle.records import Interval
from edge_van.statistics import paired_ratio
from edge_van.timing.doubts import LEAST_QUERIES, doubts_of
from edge_van.timing.interference import Cause, Interference
from edge_van.timing.interleave import Rounds
from edge_van.timing.record import BenchmarkResult, Doubt, Startup
from edge_van.timing.slices import MIN_SLICES

QUIET = Interference(1.0, 2, 0.0, 0.0, 0)


def rounds(interference: Interference = QUIET, causes: dict[Cause, int] | None = None) -> Rounds:
    kept_disturbed = max((causes or {"other_load": 0}).values())
    return Rounds(np.ones((700, 2)), np.arange(700), 0, kept_disturbed, interference, causes or {})


def doubts(found: BenchmarkResult, *single_stream: Rounds) -> tuple[Doubt, ...]:
    return doubts_of(found, {"single_stream": single_stream or (rounds(),)}).doubts


def test_a_sound_run_has_none() -> None:
    sound = result(multi_stream=query_rows(MEDIANS_MS, count=LEAST_QUERIES["p99"], images=8))
    assert doubts(sound) == ()


@pytest.mark.parametrize("scenario", ["single_stream", "multi_stream"])
@pytest.mark.parametrize(
    ("count", "said"),
    [
        (63, "63 queries are few for a p90 or a p99, which MLPerf estimates from at least 64 and 662"),
        (64, "64 queries are few for a p99, which MLPerf estimates from at least 662"),
        (661, "661 queries are few for a p99,"),
        (662, None),
    ],
)
def test_too_few_queries_for_a_percentile_that_is_shown(scenario: str, count: int, said: str | None) -> None:
    found = doubts(result(**{scenario: query_rows(MEDIANS_MS, count=count, images=8)}))
    assert [(doubt.kind, doubt.scenario, doubt.models) for doubt in found] == (
        [("too_few_samples", scenario, ())] if said else []
    )
    assert all(said in doubt.text for doubt in found if said)


@pytest.mark.parametrize(
    ("asked_for", "count", "advice"),
    [
        (100, 100, "give --samples 662"),
        (100, 50, "give --samples 662 and a longer --max-duration"),
        (662, 50, "give a longer --max-duration"),
        (5000, 661, "give a longer --max-duration"),
    ],
)
def test_the_advice_is_what_was_short(asked_for: int, count: int, advice: str) -> None:
    few = result(single_stream=query_rows(MEDIANS_MS, count=count))
    [doubt] = doubts(replace(few, settings=replace(few.settings, samples=asked_for)))
    assert doubt.text.endswith(f": {advice}")


@pytest.mark.parametrize(("metric", "percentile"), [("p90", 0.90), ("p99", 0.99)])
def test_the_least_number_is_that_of_its_formula(metric: str, percentile: float) -> None:
    least = LEAST_QUERIES[metric]
    assert binom.cdf(1, least, 1 - percentile) <= 0.01 < binom.cdf(1, least - 1, 1 - percentile)


def test_few_slices_are_named_by_their_batch() -> None:
    few = result(offline=(*rate_rows(MEDIANS_MS, 4, slices=MIN_SLICES - 1), *rate_rows(MEDIANS_MS, 8, MIN_SLICES)))
    [doubt] = doubts(few)
    assert doubt.kind == "too_few_samples"
    assert "batch 4:" in doubt.text


def test_the_fewest_slices_have_an_interval_of_95_percent() -> None:
    """From the lowest to the highest of n, which leave out the median with a chance of 2 / 2^n."""
    assert 2 / 2**MIN_SLICES <= 0.05 < 2 / 2 ** (MIN_SLICES - 1)
    ratios = np.arange(1.0, MIN_SLICES + 1)
    _, *ends = paired_ratio(ratios, np.ones(MIN_SLICES))
    interval = Interval(*ends)
    assert (interval.low, interval.high) == (1.0, MIN_SLICES)


def test_times_that_vary_name_one_model_or_count_several() -> None:
    rows = result().single_stream
    one = result(single_stream=(rows[0], replace(rows[1], coefficient_of_variation=0.5)))
    [doubt] = doubts(one)
    assert (doubt.kind, doubt.scenario, doubt.models) == ("variation", "single_stream", ("openvino-int8",))
    assert "50 %" in doubt.text
    both = result(
        single_stream=tuple(replace(r, coefficient_of_variation=c) for r, c in zip(rows, (0.3, 0.4), strict=True))
    )
    [doubt] = doubts(both)
    assert doubt.models == ("openvino-fp32", "openvino-int8")
    assert "of openvino-fp32, openvino-int8 vary by 30 to 40 %" in doubt.text


def test_a_machine_that_changed_its_speed() -> None:
    rows = tuple(
        replace(r, samples_ms=r.samples_ms[:350] + tuple(2 * t for t in r.samples_ms[350:]))
        for r in result().single_stream
    )
    kinds = [d.kind for d in doubts(result(single_stream=rows))]
    assert kinds == ["drift"]


def test_rates_that_vary() -> None:
    rates = tuple(replace(r, coefficient_of_variation=0.4) for r in result().offline)
    [doubt] = doubts(result(offline=rates))
    assert doubt.kind == "variation"
    assert "Offline, batch 8" in doubt.text


@pytest.mark.parametrize(
    ("interference", "cause", "words"),
    [
        (Interference(1.0, 2, 0.0, 0.0, 3), "throttling", "the machine was throttled 3 times"),
        (Interference(1.0, 2, None, None, 3), "throttling", "the machine was throttled 3 times"),
        (Interference(1.0, 2, 0.8, 0.1, 0), "other_load", "other processes took 40 %"),
        (Interference(1.0, 2, 0.1, 0.6, None), "stolen_time", "the hypervisor gave 30 %"),
    ],
)
def test_what_the_machine_did(interference: Interference, cause: Cause, words: str) -> None:
    [doubt] = doubts(result(), rounds(interference, {cause: 100}))
    assert (doubt.kind, doubt.scenario, doubt.models) == (cause, "single_stream", ())
    assert doubt.text.startswith(f"SingleStream: 100 of 700 rounds could not be had undisturbed: {words}")


def test_each_cause_has_its_own_rounds() -> None:
    one, other = rounds(Interference(1.0, 2, 0.8, 0.0, 5), {"throttling": 7, "other_load": 90}), rounds()
    found = doubts(result(), one, other)
    assert [doubt.kind for doubt in found] == ["throttling", "other_load"]
    assert [re.search(r"(\d+) of 1400 rounds", doubt.text)[1] for doubt in found] == ["7", "90"]  # type: ignore[index]


def test_load_that_was_measured_around_is_no_doubt() -> None:
    assert doubts(result(), rounds(Interference(1.0, 2, 0.15, 0.0, 0))) == ()


def test_a_start_that_was_disturbed_every_time() -> None:
    start = Startup("openvino-int8", 100.0, 5.0, None, None, 150.0, 50.0, disturbed=True)
    [doubt] = doubts(result(startup=(start, replace(start, model="openvino-fp32", disturbed=False))))
    assert (doubt.scenario, doubt.models) == ("startup", ("openvino-int8",))
