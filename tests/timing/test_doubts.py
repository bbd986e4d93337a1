"""``edge_van.timing.doubts``: a sound run has none; each rule speaks when it is broken, and once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmark_samples import MEDIANS_MS, query_rows, rate_rows, result
from scipy.stats import binom

from edge_van.benchmark_record import BenchmarkResult, Doubt, Startup
from edge_van.timing.doubts import LEAST_QUERIES, doubts_of
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds

QUIET = Interference(1.0, 2, 0.0, 0.0, 0)


def rounds(interference: Interference = QUIET, kept_disturbed: int = 0) -> Rounds:
    return Rounds(np.ones((700, 2)), np.arange(700), 0, kept_disturbed, interference)


def doubts(found: BenchmarkResult, *single_stream: Rounds) -> tuple[Doubt, ...]:
    return doubts_of(found, {"single_stream": single_stream or (rounds(),)}).doubts


def test_a_sound_run_has_none() -> None:
    sound = result(multi_stream=query_rows(MEDIANS_MS, count=LEAST_QUERIES["multi_stream"], images=8))
    assert doubts(sound) == ()


@pytest.mark.parametrize(("scenario", "metric"), [("single_stream", "p90"), ("multi_stream", "p99")])
def test_too_few_queries_for_the_scenarios_percentile(scenario: str, metric: str) -> None:
    least = LEAST_QUERIES[scenario]
    few: dict[str, Any] = {scenario: query_rows(MEDIANS_MS, count=least - 1, images=8)}
    [doubt] = doubts(result(**few))
    assert (doubt.kind, doubt.scenario, doubt.models) == ("too_few_samples", scenario, ())
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
    ("interference", "kept_disturbed", "kind", "words"),
    [
        (Interference(1.0, 2, 0.0, 0.0, 3), 0, "throttling", "throttled 3 times"),
        (Interference(1.0, 2, 0.8, 0.1, 0), 100, "other_load", "100 of 700 rounds .* other processes took 40 %"),
        (Interference(1.0, 2, 0.1, 0.6, None), 100, "stolen_time", "hypervisor gave 30 %"),
    ],
)
def test_what_the_machine_did(interference: Interference, kept_disturbed: int, kind: str, words: str) -> None:
    [doubt] = doubts(result(), rounds(interference, kept_disturbed))
    assert (doubt.kind, doubt.scenario, doubt.models) == (kind, "single_stream", ())
    assert re.search(words, doubt.text)


def test_load_that_was_measured_around_is_no_doubt() -> None:
    assert doubts(result(), rounds(Interference(1.0, 2, 0.15, 0.0, 0))) == ()


def test_a_start_that_was_disturbed_every_time() -> None:
    start = Startup("openvino-int8", 100.0, 5.0, None, None, 150.0, 50.0, disturbed=True)
    [doubt] = doubts(result(startup=(start, replace(start, model="openvino-fp32", disturbed=False))))
    assert (doubt.scenario, doubt.models) == ("startup", ("openvino-int8",))
