"""``edge_van.timing.doubts``: a sound run has none; each rule speaks when it is broken, and once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmark_samples import MEDIANS_MS, query_rows, rate_rows, result
from scipy.stats import binom

from edge_van.benchmark_record import BenchmarkResult, Conditions, Doubt
from edge_van.timing.doubts import LEAST_QUERIES, doubts_of


def doubts(found: BenchmarkResult, kept_disturbed: int = 0) -> tuple[Doubt, ...]:
    return doubts_of(found, kept_disturbed).doubts


def test_a_sound_run_has_none() -> None:
    sound = result(multi_stream=query_rows(MEDIANS_MS, count=LEAST_QUERIES["multi_stream"], images=8))
    assert doubts(sound) == ()


@pytest.mark.parametrize(("scenario", "metric"), [("single_stream", "p90"), ("multi_stream", "p99")])
def test_too_few_queries_for_the_scenarios_percentile(scenario: str, metric: str) -> None:
    least = LEAST_QUERIES[scenario]
    few: dict[str, Any] = {scenario: query_rows(MEDIANS_MS, count=least - 1, images=8)}
    [doubt] = doubts(result(**few))
    assert (doubt.kind, doubt.model) == ("too_few_samples", None)
    assert f"{least - 1} queries are few for a {metric}" in doubt.text
    assert doubts(result(**{scenario: query_rows(MEDIANS_MS, count=least, images=8)})) == ()


@pytest.mark.parametrize(("scenario", "percentile"), [("single_stream", 0.90), ("multi_stream", 0.99)])
def test_the_least_number_is_that_of_its_formula(scenario: str, percentile: float) -> None:
    least = LEAST_QUERIES[scenario]
    assert binom.cdf(1, least, 1 - percentile) <= 0.01 < binom.cdf(1, least - 1, 1 - percentile)


def test_few_slices_are_named_by_their_batch() -> None:
    few = result(offline=(*rate_rows(MEDIANS_MS, 4, slices=3), *rate_rows(MEDIANS_MS, 8)))
    [doubt] = doubts(few)
    assert doubt.kind == "too_few_samples"
    assert "batch 4:" in doubt.text


def test_times_that_vary_name_one_model_or_count_several() -> None:
    rows = result().single_stream
    one = result(single_stream=(rows[0], replace(rows[1], coefficient_of_variation=0.5)))
    [doubt] = doubts(one)
    assert (doubt.kind, doubt.model) == ("variation", "openvino-int8")
    assert "50 %" in doubt.text
    both = result(
        single_stream=tuple(replace(r, coefficient_of_variation=c) for r, c in zip(rows, (0.3, 0.4), strict=True))
    )
    [doubt] = doubts(both)
    assert doubt.model is None
    assert "2 of 2 models vary by 30 to 40 %" in doubt.text


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
    ("conditions", "kept_disturbed", "kind"),
    [
        (Conditions(700, 0, 0.0, 0.0, 3, 0.1), 0, "throttling"),
        (Conditions(700, 700, 40.0, 1.0, 0, 3.0), 100, "other_load"),
        (Conditions(700, 700, 1.0, 30.0, None, 3.0), 100, "stolen_time"),
    ],
)
def test_what_the_machine_did(conditions: Conditions, kept_disturbed: int, kind: str) -> None:
    [doubt] = doubts(result(conditions=conditions), kept_disturbed)
    assert doubt.kind == kind


def test_load_that_was_measured_around_is_no_doubt() -> None:
    assert doubts(result(conditions=Conditions(700, 300, 2.0, 0.0, 0, 2.0))) == ()
