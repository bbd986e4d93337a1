"""Why a benchmark's figures should not be believed, by rules that are written here and nowhere else.

In: a ``BenchmarkResult``, and the rounds it was taken from. Out: the same with its ``Doubt`` records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from edge_van.timing.interference import Cause, total
from edge_van.timing.interleave import Rounds
from edge_van.timing.record import (
    SCENARIO_TITLES,
    BenchmarkResult,
    BenchmarkSettings,
    Doubt,
    QueryLatency,
    Scenario,
)
from edge_van.timing.slices import MIN_SLICES
from edge_van.timing.startup import TRIES

LEAST_QUERIES = {"p90": 64, "p99": 662}
"""The fewest queries from which MLPerf Inference's early stopping estimates a percentile: the least n for which at most
one of n queries over the p-th percentile has a chance of 1 % or less, P(Binomial(n, 1 - p) <= 1) <= 0.01. What is shown
here is the percentile of the samples themselves; of fewer it is about their largest."""
LARGEST_VARIATION = 0.25
"""Standard deviation over mean. Rows of ``benchmarks/results`` that nothing else disturbed have 0.02 to 0.22. Over 0.25
single runs took about three times the median and more, or the machine had two speeds, one under 0.6 of the other:
then no single figure describes the times."""
NAMED = 2
"""More models than these are counted in a sentence instead of named."""
LARGEST_DRIFT = 0.10
"""How far the medians of the first and the second half may be apart."""


def doubts_of(result: BenchmarkResult, rounds: Mapping[Scenario, Sequence[Rounds]]) -> BenchmarkResult:
    """``result`` with what to doubt of it; ``rounds`` are what its scenarios were taken from."""
    doubts = [*_samples(result), *_variation(result), *_machine(rounds), *_starts(result)]
    return replace(result, doubts=tuple(doubts))


def _queries(result: BenchmarkResult) -> tuple[tuple[Scenario, Sequence[QueryLatency]], ...]:
    return ("single_stream", result.single_stream), ("multi_stream", result.multi_stream)


def _samples(result: BenchmarkResult) -> Iterator[Doubt]:
    for scenario, rows in _queries(result):
        count = len(rows[0].samples_ms) if rows else 0
        least = {metric: n for metric, n in LEAST_QUERIES.items() if count < n}
        if rows and least:
            metrics, numbers = " or ".join(f"a {m}" for m in least), " and ".join(map(str, least.values()))
            yield Doubt(
                "too_few_samples",
                scenario,
                (),
                f"{SCENARIO_TITLES[scenario]}: {count} queries are few for {metrics}, which MLPerf estimates from at "
                f"least {numbers}: give {_advice(result.settings, count, max(least.values()))}",
            )
    few = {row.batch for row in result.offline if len(row.slices) < MIN_SLICES}
    if few:
        sizes = ", ".join(map(str, sorted(few)))
        yield Doubt(
            "too_few_samples",
            "offline",
            (),
            f"Offline, batch {sizes}: under {MIN_SLICES} slices of each model are few for a 95 % interval: give a "
            f"longer --max-duration",
        )


def _advice(settings: BenchmarkSettings, count: int, least: int) -> str:
    """What kept ``count`` under ``least``: too few were asked for, the time was over before them, or both."""
    advice = [f"--samples {least}"] if settings.samples < least else []
    return " and ".join(advice + (["a longer --max-duration"] if count < settings.samples else []))


def _variation(result: BenchmarkResult) -> Iterator[Doubt]:
    for scenario, rows in _queries(result):
        title = SCENARIO_TITLES[scenario]
        yield from _of_models(
            "variation",
            scenario,
            {row.model: row.coefficient_of_variation for row in rows},
            LARGEST_VARIATION,
            f"{title}: the times of {{models}} vary by {{percent}} % (standard deviation over mean): trust the ratios "
            f"rather than the milliseconds",
        )
        yield from _of_models(
            "drift",
            scenario,
            {row.model: _drift(row.samples_ms) for row in rows},
            LARGEST_DRIFT,
            f"{title}: the median of {{models}} moved by {{percent}} % between the first and the second half of the "
            f"run: the machine changed its speed, trust the ratios rather than the milliseconds",
        )
    for batch in sorted({row.batch for row in result.offline}):
        yield from _of_models(
            "variation",
            "offline",
            {row.model: row.coefficient_of_variation for row in result.offline if row.batch == batch},
            LARGEST_VARIATION,
            f"Offline, batch {batch}: the images per second of {{models}} vary by {{percent}} %: measure again on an "
            f"idle machine",
        )


def _of_models(
    kind: Literal["variation", "drift"], scenario: Scenario, values: Mapping[str, float], limit: float, sentence: str
) -> Iterator[Doubt]:
    """One doubt for all models over the limit: a disturbed machine disturbs every one of them."""
    over = {model: value for model, value in values.items() if value > limit}
    if not over:
        return
    low, high = (f"{100 * v:.0f}" for v in (min(over.values()), max(over.values())))
    models = ", ".join(over) if len(over) <= NAMED else f"{len(over)} of {len(values)} models"
    percent = low if low == high else f"{low} to {high}"
    yield Doubt(kind, scenario, tuple(over), sentence.format(models=models, percent=percent))


def _drift(samples: Sequence[float]) -> float:
    half = len(samples) // 2
    if half < 10:
        return 0.0
    first, second = np.median(samples[:half]), np.median(samples[half:])
    return float(abs(first - second) / min(first, second))


def _machine(rounds: Mapping[Scenario, Sequence[Rounds]]) -> Iterator[Doubt]:
    for scenario, sampled in rounds.items():
        meanwhile = total(r.interference for r in sampled)
        kept = Counter[Cause]()
        for r in sampled:
            kept.update(r.causes)
        said: dict[Cause, str] = {
            "throttling": f"the machine was throttled {meanwhile.throttles} times, by heat or by a control group's CPU "
            f"quota: cool it, or give it the cores it was promised",
            "stolen_time": f"the hypervisor gave {_percent(meanwhile.stolen_share)} of this machine's CPU time to "
            f"others: measure again, neither milliseconds nor ratios are to be trusted",
            "other_load": f"other processes took {_percent(meanwhile.other_share)} of the CPU time: stop them and "
            f"measure again, neither milliseconds nor ratios are to be trusted",
        }
        count = sum(len(r.values) for r in sampled)
        for cause, text in said.items():
            if kept[cause]:
                share = f"{SCENARIO_TITLES[scenario]}: {kept[cause]} of {count} rounds could not be had undisturbed"
                yield Doubt(cause, scenario, (), f"{share}: {text}")


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"


def _starts(result: BenchmarkResult) -> Iterator[Doubt]:
    models = tuple(start.model for start in result.startup if start.disturbed)
    if models:
        shown = ", ".join(models) if len(models) <= NAMED else f"{len(models)} models"
        yield Doubt(
            "other_load",
            "startup",
            models,
            f"start-up of {shown}: disturbed by other work or throttling in every try (up to {TRIES}; one of "
            f"torch.compile's first start, which takes minutes)",
        )
