"""Latency of several models of one network, interleaved in one run, so that a noisy machine cancels out of the ratios.

In: model files and the runtimes to open them with. Out: a ``Latency`` record with every raw sample.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import UsageError
from edge_van.machine import load_average
from edge_van.progress import Advance
from edge_van.records import Interval, Latency, LatencyRow
from edge_van.runtimes import Session, open_model

MIN_ROUNDS = 100
WARMUP_ROUNDS = 10
DISTURBED = 1.3
"""A p90 this many times the median: something else ran."""


RATIOS_APART = 0.05
"""How far the ratio of two medians may be from the median of the paired ratios before a reader is told."""


@dataclass(frozen=True)
class Candidate:
    """One model to time: its name in the table, the runtime, the file, the runtime's options."""

    name: str
    runtime: str
    path: Path
    options: dict[str, Any] = field(default_factory=dict)


def measure_latency(
    candidates: Sequence[Candidate],
    *,
    baseline: str,
    rounds: int = 300,
    threads: int | None = None,
    max_seconds: float = 60.0,
    seed: int = 0,
    progress: Advance | None = None,
) -> Latency:
    """Time every candidate once per round, in a new random order each round, after a warm-up. Batch 1.

    ``ratio`` of a row is the median over the rounds of baseline time / its time in the same round; its interval is a
    bootstrap's. Stops at ``rounds``, or after ``max_seconds`` once 100 rounds are done (the record says how many).
    Raises ``UsageError`` for an unknown baseline or repeated names.
    """
    names = [c.name for c in candidates]
    if baseline not in names or len(set(names)) != len(names) or rounds < MIN_ROUNDS:
        raise UsageError(
            f"latency needs differing names with the baseline among them and at least {MIN_ROUNDS} rounds; "
            f"got {names}, baseline {baseline!r}, {rounds} rounds"
        )
    generator = np.random.default_rng(seed)
    with ExitStack() as stack:
        sessions: list[tuple[Session, dict[str, NDArray[Any]]]] = []
        for c in candidates:
            session = stack.enter_context(open_model(c.runtime, c.path, threads=threads, **c.options))
            sessions.append((session, _feed(session, generator)))
        for session, feed in sessions:
            for _ in range(WARMUP_ROUNDS):
                session.run(feed)
        samples = _sample(sessions, rounds, max_seconds, generator, progress)
        used = threads or sessions[names.index(baseline)][0].threads or 0
    base = samples[:, names.index(baseline)]
    rows = tuple(_row(c, samples[:, i], base) for i, c in enumerate(candidates))
    load = load_average()
    return Latency(1, used, WARMUP_ROUNDS, len(samples), baseline, rows, load, _notes(rows, baseline, load))


def _sample(
    sessions: list[tuple[Session, dict[str, NDArray[Any]]]],
    rounds: int,
    max_seconds: float,
    generator: np.random.Generator,
    progress: Advance | None,
) -> NDArray[np.float64]:
    """(rounds, candidates) milliseconds. A model finds the caches as the one before it left them: in a fixed order it
    would always be the same one."""
    samples: list[list[float]] = []
    stop = time.perf_counter() + max_seconds
    while len(samples) < rounds and (len(samples) < MIN_ROUNDS or time.perf_counter() < stop):
        row = [0.0] * len(sessions)
        for i in generator.permutation(len(sessions)):
            session, feed = sessions[i]
            start = time.perf_counter()
            session.run(feed)
            row[i] = (time.perf_counter() - start) * 1e3
        samples.append(row)
        if progress is not None:
            progress(1)
    return np.array(samples)


def _feed(session: Session, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Random pixels in the shape and dtype of every input, batch 1."""
    feed = {}
    for info in session.inputs:
        shape = tuple(1 if d is None else d for d in info.shape)
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        feed[info.name] = pixels if info.dtype == np.uint8 else (pixels / 127.5 - 1.0).astype(info.dtype)
    return feed


def paired_ratio(base: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, Interval]:
    """The median of base / times over the rounds (both (rounds,), milliseconds), and a bootstrap's 95 % interval."""
    ratios = base / times
    middle = float(np.median(ratios))
    if float(ratios.std()) == 0.0:
        return middle, Interval(middle, middle)
    from scipy.stats import bootstrap  # a device that times one model needs no scipy

    found = bootstrap((ratios,), np.median, n_resamples=999, rng=0, method="percentile").confidence_interval
    return middle, Interval(float(found.low), float(found.high))


def _row(candidate: Candidate, times: NDArray[np.float64], base: NDArray[np.float64]) -> LatencyRow:
    middle, interval = paired_ratio(base, times)
    median, p90, p99 = (float(v) for v in np.percentile(times, [50, 90, 99]))
    raw = tuple(round(float(t), 4) for t in times)
    return LatencyRow(candidate.name, candidate.runtime, median, p90, p99, middle, interval, raw)


def _notes(rows: Sequence[LatencyRow], baseline: str, load: float) -> tuple[str, ...]:
    """What a reader should know before believing the absolute times."""
    notes = [
        f"{row.name}: p90 is {row.p90_ms / row.median_ms:.1f} times the median: the machine was disturbed, trust the "
        f"ratio rather than the milliseconds"
        for row in rows
        if row.p90_ms > DISTURBED * row.median_ms
    ]
    base_ms = next((row.median_ms for row in rows if row.name == baseline), 0.0)
    notes += [
        f"{row.name}: its paired ratio is {row.ratio:.2f}, that of the medians {base_ms / row.median_ms:.2f}: the "
        f"machine changed its speed during the run, measure again on an idle one"
        for row in rows
        if base_ms and abs(base_ms / row.median_ms / row.ratio - 1.0) > RATIOS_APART
    ]
    if load > 2 * (os.cpu_count() or 1):
        notes.append(f"load average {load}: more work than cores")
    return tuple(notes)
