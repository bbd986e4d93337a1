"""The regression gate: has a model become slower than in an earlier run, measured against the same baseline?

In: two ``BenchmarkResult``s and a limit. Out: nothing, or a ``LatencyGateError`` that names each figure over it.
Absolute times of two runs are never compared: the machine may have had another speed. A ratio is what was paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_van.benchmark_record import (
    BenchmarkBundle,
    BenchmarkResult,
    BenchmarkSettings,
    QueryLatency,
    Throughput,
)
from edge_van.errors import LatencyGateError, UsageError
from edge_van.records import Interval, Machine


@dataclass(frozen=True)
class Slowdown:
    """One figure then and now, both as times faster than the baseline of its own run."""

    figure: str
    then: float
    now: float
    now_interval: Interval

    @property
    def factor(self) -> float:
        """Over 1: slower than then."""
        return self.then / self.now


def slowdown_gate(before: BenchmarkResult, now: BenchmarkResult, max_slowdown: float) -> tuple[Slowdown, ...]:
    """Every figure that both runs have; ``LatencyGateError`` where one is over ``max_slowdown`` times slower.

    A model that was measured before and is not any more is one too. ``UsageError`` for runs that cannot be compared:
    another CPU, variant, size, baseline or other threads, or no figure beside the baseline.
    """
    require_comparable(before, now)
    earlier, later = dict(_figures(before)), dict(_figures(now))
    if missing := [figure for figure in earlier if figure not in later]:
        raise LatencyGateError(
            f"{missing[0]} was measured in the baseline and is not now"
            f"{f' (nor are {len(missing) - 1} more)' if len(missing) > 1 else ''}: measure the same models, "
            f"scenarios and batch sizes, or make a new baseline"
        )
    found = tuple(Slowdown(f, earlier[f].ratio, later[f].ratio, later[f].ratio_interval) for f in earlier)
    over = sorted((s for s in found if s.factor > max_slowdown), key=lambda s: -s.factor)
    if over:
        worst = "; ".join(
            f"{s.figure} is {s.factor:.2f} times as slow as then: {s.now:.2f} times {now.baseline} now (95 % interval "
            f"{s.now_interval.low:.2f} to {s.now_interval.high:.2f}), {s.then:.2f} in the baseline"
            for s in over[:3]
        )
        more = f"; and {len(over) - 3} more" if len(over) > 3 else ""
        raise LatencyGateError(f"{worst}{more}; {max_slowdown:g} is allowed")
    return found


def _figures(result: BenchmarkResult) -> Iterator[tuple[str, QueryLatency | Throughput]]:
    """By a name of its own; the baseline itself is 1 by definition and left out."""
    for row in result.single_stream:
        if row.model != result.baseline:
            yield f"SingleStream latency of {row.model}", row
    for row in result.multi_stream:
        if row.model != result.baseline:
            yield f"MultiStream latency of {row.model} with {row.images_per_query} images", row
    for rate in result.offline:
        if rate.model != result.baseline:
            yield f"Offline throughput of {rate.model} at batch {rate.batch}", rate


def require_comparable(before: BenchmarkResult, now: BenchmarkResult) -> None:
    """``UsageError`` for runs whose ratios do not mean the same."""
    both = [model.name for model in before.models if model.name in {m.name for m in now.models}]
    pairs = {
        "the baseline model": (before.baseline, now.baseline),
        "the number of threads": tuple([m.threads for m in r.models if m.name in both] for r in (before, now)),
    }
    require_same_conditions(before, now.bundles, now.settings, now.machine)
    _require_same(pairs)
    if not any(True for _ in _figures(before)):
        raise UsageError("--baseline has no figure beside its own baseline model: measure at least two models")


def require_same_conditions(
    before: BenchmarkResult, bundles: Sequence[BenchmarkBundle], settings: BenchmarkSettings, machine: Machine
) -> None:
    """The part of ``require_comparable`` that is known before anything is measured."""
    _require_same(
        {
            "the CPU": (before.machine.cpu, machine.cpu),
            "the number of cores": (before.machine.logical_cores, machine.logical_cores),
            "the variant": ([b.variant for b in before.bundles], [b.variant for b in bundles]),
            "the input size": ([b.input_size for b in before.bundles], [b.input_size for b in bundles]),
            "the number of threads": (before.settings.threads, settings.threads),
            "the number of streams": (before.settings.streams, settings.streams),
        }
    )


def _require_same(pairs: Mapping[str, tuple[object, ...]]) -> None:
    for what, (then, here) in pairs.items():
        if then != here:
            raise UsageError(
                f"--baseline cannot be compared with this run, {what} differs ({then} then, {here} now): measure a "
                f"baseline the same way on this machine"
            )
