"""Why a benchmark's figures should not be believed, by rules that are written here and nowhere else.

In: a ``BenchmarkResult``. Out: the same with its ``Doubt`` records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from edge_van.benchmark_record import BenchmarkResult, Doubt, QueryLatency

LEAST_QUERIES = {"single_stream": 64, "multi_stream": 662}
"""The fewest queries that a 90th (SingleStream) and a 99th percentile (MultiStream) can be claimed from, as in MLPerf
Inference's early stopping: the least n for which at most one of n queries over the p-th percentile has a chance of 1 %
or less, P(Binomial(n, 1 - p) <= 1) <= 0.01."""
LEAST_SLICES = 5
LARGEST_VARIATION = 0.25
"""Standard deviation over mean. Undisturbed runs stay under 0.1; where something else ran it is over 0.3."""
LARGEST_DRIFT = 0.10
"""How far the medians of the first and the second half may be apart."""


def doubts_of(result: BenchmarkResult, kept_disturbed: int) -> BenchmarkResult:
    """``result`` with what to doubt of it; ``kept_disturbed`` rounds could not be had undisturbed."""
    found = [*_samples(result), *_variation(result), *_machine(result, kept_disturbed)]
    return replace(result, doubts=tuple(found))


def _samples(result: BenchmarkResult) -> Iterator[Doubt]:
    titles = (("single_stream", "SingleStream", "p90"), ("multi_stream", "MultiStream", "p99"))
    for scenario, title, metric in titles:
        rows: Sequence[QueryLatency] = getattr(result, scenario)
        count, least = len(rows[0].samples_ms) if rows else 0, LEAST_QUERIES[scenario]
        if rows and count < least:
            yield Doubt(
                "too_few_samples",
                None,
                f"{title}: {count} queries are few for a {metric}, {least} are the least that MLPerf takes: give "
                f"--samples {least} and a longer --max-duration",
            )
    few = {row.batch for row in result.offline if len(row.slices) < LEAST_SLICES}
    if few:
        sizes = ", ".join(map(str, sorted(few)))
        yield Doubt(
            "too_few_samples",
            None,
            f"Offline, batch {sizes}: under {LEAST_SLICES} slices of each model: give a longer --max-duration",
        )


def _variation(result: BenchmarkResult) -> Iterator[Doubt]:
    for title, rows in (("SingleStream", result.single_stream), ("MultiStream", result.multi_stream)):
        yield from _of_models(
            "variation",
            {row.model: row.coefficient_of_variation for row in rows},
            LARGEST_VARIATION,
            f"{title}: the times of {{models}} vary by {{percent}} % (standard deviation over mean): trust the ratios "
            f"rather than the milliseconds",
        )
        yield from _of_models(
            "drift",
            {row.model: _drift(row.samples_ms) for row in rows},
            LARGEST_DRIFT,
            f"{title}: the median of {{models}} moved by {{percent}} % between the first and the second half of the "
            f"run: the machine changed its speed, trust the ratios rather than the milliseconds",
        )
    for batch in sorted({row.batch for row in result.offline}):
        yield from _of_models(
            "variation",
            {row.model: row.coefficient_of_variation for row in result.offline if row.batch == batch},
            LARGEST_VARIATION,
            f"Offline, batch {batch}: the images per second of {{models}} vary by {{percent}} %: measure again on an "
            f"idle machine",
        )


def _of_models(
    kind: Literal["variation", "drift"], values: Mapping[str, float], limit: float, sentence: str
) -> Iterator[Doubt]:
    """One doubt for all models over the limit: a disturbed machine disturbs every one of them."""
    over = {model: value for model, value in values.items() if value > limit}
    if not over:
        return
    low, high = (f"{100 * v:.0f}" for v in (min(over.values()), max(over.values())))
    models = next(iter(over)) if len(over) == 1 else f"{len(over)} of {len(values)} models"
    percent = low if low == high else f"{low} to {high}"
    yield Doubt(kind, next(iter(over)) if len(over) == 1 else None, sentence.format(models=models, percent=percent))


def _drift(samples: Sequence[float]) -> float:
    half = len(samples) // 2
    if half < 10:
        return 0.0
    first, second = np.median(samples[:half]), np.median(samples[half:])
    return float(abs(first - second) / min(first, second))


def _machine(result: BenchmarkResult, kept_disturbed: int) -> Iterator[Doubt]:
    c = result.conditions
    if c.throttle_events:
        yield Doubt(
            "throttling",
            None,
            f"the machine was throttled {c.throttle_events} times meanwhile (heat, or a control group's CPU quota): "
            f"cool it, or give it the cores it was promised",
        )
    if not kept_disturbed:
        return
    share = f"{kept_disturbed} of {c.rounds} rounds"
    if (stolen := c.stolen_cpu_percent or 0.0) > (other := c.other_cpu_percent or 0.0):
        yield Doubt(
            "stolen_time",
            None,
            f"{share} could not be had undisturbed: the hypervisor gave {stolen:.0f} % of this machine's CPU time to "
            f"others: trust the ratios rather than the milliseconds",
        )
    else:
        yield Doubt(
            "other_load",
            None,
            f"{share} could not be had undisturbed: other processes took {other:.0f} % of the CPU time: stop them and "
            f"measure again, or trust the ratios rather than the milliseconds",
        )
