"""Why a benchmark's figures should not be believed, by rules that are written here and nowhere else.

In: a ``BenchmarkResult``, and the rounds it was taken from. Out: the same with its ``Doubt`` records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from edge_van.benchmark_record import BenchmarkResult, Doubt, QueryLatency, Scenario
from edge_van.timing.interference import total
from edge_van.timing.interleave import Rounds

LEAST_QUERIES = {"single_stream": 64, "multi_stream": 662}
"""The fewest queries that a 90th (SingleStream) and a 99th percentile (MultiStream) can be claimed from, as in MLPerf
Inference's early stopping: the least n for which at most one of n queries over the p-th percentile has a chance of 1 %
or less, P(Binomial(n, 1 - p) <= 1) <= 0.01."""
LEAST_SLICES = 5
LARGEST_VARIATION = 0.25
"""Standard deviation over mean. Undisturbed runs stay under 0.1; where something else ran it is over 0.3."""
NAMED = 2
"""More models than these are counted in a sentence instead of named."""
LARGEST_DRIFT = 0.10
"""How far the medians of the first and the second half may be apart."""


def doubts_of(result: BenchmarkResult, rounds: Mapping[Scenario, Sequence[Rounds]]) -> BenchmarkResult:
    """``result`` with what to doubt of it; ``rounds`` are what its scenarios were taken from."""
    found = [*_samples(result), *_variation(result), *_machine(rounds), *_starts(result)]
    return replace(result, doubts=tuple(found))


def _samples(result: BenchmarkResult) -> Iterator[Doubt]:
    titles: tuple[tuple[Scenario, str, str], ...] = (
        ("single_stream", "SingleStream", "p90"),
        ("multi_stream", "MultiStream", "p99"),
    )
    for scenario, title, metric in titles:
        rows: Sequence[QueryLatency] = getattr(result, scenario)
        count, least = len(rows[0].samples_ms) if rows else 0, LEAST_QUERIES[scenario]
        if rows and count < least:
            yield Doubt(
                "too_few_samples",
                scenario,
                (),
                f"{title}: {count} queries are few for a {metric}, {least} are the least that MLPerf takes: give "
                f"--samples {least} and a longer --max-duration",
            )
    few = {row.batch for row in result.offline if len(row.slices) < LEAST_SLICES}
    if few:
        sizes = ", ".join(map(str, sorted(few)))
        yield Doubt(
            "too_few_samples",
            "offline",
            (),
            f"Offline, batch {sizes}: under {LEAST_SLICES} slices of each model: give a longer --max-duration",
        )


def _variation(result: BenchmarkResult) -> Iterator[Doubt]:
    scenarios: tuple[tuple[Scenario, str, Sequence[QueryLatency]], ...] = (
        ("single_stream", "SingleStream", result.single_stream),
        ("multi_stream", "MultiStream", result.multi_stream),
    )
    for scenario, title, rows in scenarios:
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
    for scenario, found in rounds.items():
        title = scenario.replace("_", "-")
        meanwhile = total(r.interference for r in found)
        if meanwhile.throttles:
            yield Doubt(
                "throttling",
                scenario,
                (),
                f"{title}: the machine was throttled {meanwhile.throttles} times meanwhile (heat, or a control group's "
                f"CPU quota): cool it, or give it the cores it was promised",
            )
        kept, count = sum(r.kept_disturbed for r in found), sum(len(r.values) for r in found)
        if not kept:
            continue
        share = f"{title}: {kept} of {count} rounds could not be had undisturbed"
        if meanwhile.stolen_cores > meanwhile.other_cores:
            yield Doubt(
                "stolen_time",
                scenario,
                (),
                f"{share}: the hypervisor gave {100 * meanwhile.stolen_share:.0f} % of this machine's CPU time to "
                f"others: trust the ratios rather than the milliseconds",
            )
        else:
            yield Doubt(
                "other_load",
                scenario,
                (),
                f"{share}: other processes took {100 * meanwhile.other_share:.0f} % of the CPU time: stop them and "
                f"measure again, or trust the ratios rather than the milliseconds",
            )


def _starts(result: BenchmarkResult) -> Iterator[Doubt]:
    models = tuple(start.model for start in result.startup if start.disturbed)
    if models:
        shown = ", ".join(models) if len(models) <= NAMED else f"{len(models)} models"
        yield Doubt("other_load", "startup", models, f"start-up of {shown}: other work went on, also when repeated")
