"""Latency of several models of one network, interleaved in one run, so that a noisy machine cancels out of the ratios.

In: model files and the runtimes to open them with. Out: a ``Latency`` record with every raw sample.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Interval, Latency, LatencyRow
from edge_van.errors import UsageError
from edge_van.machine import load_average
from edge_van.progress import Advance
from edge_van.runtimes import Session
from edge_van.runtimes.model_file import ModelFile
from edge_van.statistics import paired_ratio
from edge_van.timing.interference import Cause
from edge_van.timing.interleave import Rounds, Stop, sample_rounds

MIN_ROUNDS = 100
WARMUP_ROUNDS = 10
WARMUP_SHARE = 0.25
"""Of a bound on the whole, what opening and warming up may take before the rest of the warm-up is left out."""
LEAST_ROUNDS = 6
"""Fewer have no interval of 95 %, see ``paired_ratio``."""
LEAD_MS = 10.0
"""Threads of torch's OpenMP (libgomp) spin for 7 ms after a run, seen on two cores; OpenVINO's and, as they are set
here, ONNX Runtime's for less than one."""
DISTURBED = 1.3
"""A p90 this many times the median: something else ran."""

RATIOS_APART = 0.05
"""How far the ratio of two medians may be from the median of the paired ratios before a reader is told."""

CAUSES: Mapping[Cause, str] = {
    "throttling": "throttling",
    "stolen_time": "the hypervisor's other guests",
    "other_load": "other work on this machine",
}


@dataclass(frozen=True)
class RunLength:
    """A run stops at ``rounds`` and ``min_seconds``, or after ``max_seconds`` once ``MIN_ROUNDS`` are done.

    ``bound_seconds`` are of the whole, opening the models and the warm-up included: then nothing more is begun, however
    few rounds there are. All models are opened and the first round is made nevertheless, however long they take.
    """

    rounds: int = 300
    min_seconds: float = 0.0
    max_seconds: float = 60.0
    bound_seconds: float = math.inf


def measure_latency(
    models: Sequence[ModelFile],
    *,
    baseline: str,
    length: RunLength | None = None,
    threads: int | None = None,
    seed: int = 0,
    lead_ms: float = 0.0,
    progress: Advance | None = None,
) -> Latency:
    """Time every model once per round, in a new random order each round, after a warm-up. Batch 1.

    ``lead_ms`` as in ``query_turn``: ``LEAD_MS`` where the models are of several engines; OpenVINO's threads alone
    need none. ``ratio`` of a row is the median over the rounds of baseline time / its time in the same round, with the
    interval of ``paired_ratio``. Rounds that other work on the machine disturbed are measured again; see
    ``timing.interleave``. The record says how many rounds there were in the end; its first note is that of
    ``cut_short``, where the bound left fewer than ``MIN_ROUNDS``.

    Raises ``UsageError`` for an unknown baseline or repeated names.
    """
    length = length or RunLength()
    names = [model.name for model in models]
    if baseline not in names or len(set(names)) != len(names) or length.rounds < MIN_ROUNDS:
        raise UsageError(
            f"latency needs differing names with the baseline among them and at least {MIN_ROUNDS} rounds; "
            f"got {names}, baseline {baseline!r}, {length.rounds} rounds"
        )
    generator = np.random.default_rng(seed)
    begin = time.perf_counter()
    with ExitStack() as stack:
        sessions: list[Session] = []
        turns: list[Callable[[], float]] = []
        for model in models:
            session = stack.enter_context(model.open(threads=threads))
            turns.append(query_turn(session, random_feed(session, generator), lead_ms))
            sessions.append(session)
        warmups = _warmed_up(turns, begin + WARMUP_SHARE * length.bound_seconds)
        left = length.bound_seconds - (time.perf_counter() - begin)
        stop = Stop(length.rounds, MIN_ROUNDS, min(length.max_seconds, left), length.min_seconds, left)
        rounds = sample_rounds(turns, stop, generator, progress)
        used = threads or sessions[names.index(baseline)].threads or 0
    base = rounds.values[:, names.index(baseline)]
    rows = tuple(_row(model, rounds.values[:, i], base) for i, model in enumerate(models))
    cut = cut_short(len(rounds.values), length)
    notes = (*cut, *_notes(rows, baseline, rounds))
    return Latency(1, used, warmups, len(rounds.values), baseline, rows, load_average(), notes)


def cut_short(rounds: int, length: RunLength) -> tuple[str, ...]:
    """What to say of a run of so few ``rounds`` that only its bound can have ended it; nothing of any other."""
    if rounds >= MIN_ROUNDS:
        return ()
    interval = f", too few for an interval of 95 % ({LEAST_ROUNDS} have one)" if rounds < LEAST_ROUNDS else ""
    return (
        f"latency is of {rounds} of {length.rounds} rounds{interval}: more did not fit into the "
        f"{length.bound_seconds:g} s that it may take, the machine is slow or busy. edge-van benchmark measures it "
        f"properly",
    )


def _warmed_up(turns: Sequence[Callable[[], float]], deadline: float) -> int:
    """How often every one of ``turns`` was run: ``WARMUP_ROUNDS``, fewer where the clock passes ``deadline``."""
    for done in range(WARMUP_ROUNDS):
        for turn in turns:
            if time.perf_counter() >= deadline:
                return done
            turn()
    return WARMUP_ROUNDS


def query_turn(session: Session, feed: dict[str, NDArray[Any]], lead_ms: float) -> Callable[[], float]:
    """A callable that runs ``feed`` at least twice and returns the last run's milliseconds.

    The runs before take the turn over from another model: the weights come back into the caches, and within ``lead_ms``
    another engine's threads stop spinning. What is timed is a query after a query, as a single stream sends them.
    """

    def turn() -> float:
        stop = time.perf_counter() + lead_ms / 1e3
        session.run(feed)
        while time.perf_counter() < stop:
            session.run(feed)
        start = time.perf_counter()
        session.run(feed)
        return (time.perf_counter() - start) * 1e3

    return turn


def random_feed(session: Session, generator: np.random.Generator, batch: int = 1) -> dict[str, NDArray[Any]]:
    """Random pixels in the shape and dtype of every input; ``batch`` images where the model leaves that free."""
    feed = {}
    for info in session.inputs:
        shape = tuple(batch if d is None else d for d in info.shape)
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        feed[info.name] = pixels if info.dtype == np.uint8 else (pixels / 127.5 - 1.0).astype(info.dtype)
    return feed


def percentiles_ms(times: NDArray[np.float64]) -> tuple[float, float, float]:
    """(p50, p90, p99) of ``times``, (rounds,), in their own unit."""
    median, p90, p99 = (float(v) for v in np.percentile(times, [50, 90, 99]))
    return median, p90, p99


def rounded(times: NDArray[np.float64]) -> tuple[float, ...]:
    """Samples as they go into a record: to a tenth of a microsecond where they are milliseconds."""
    return tuple(round(float(t), 4) for t in times)


def _row(model: ModelFile, times: NDArray[np.float64], base: NDArray[np.float64]) -> LatencyRow:
    ratio, low, high = paired_ratio(base, times)
    return LatencyRow(model.name, model.runtime, *percentiles_ms(times), ratio, Interval(low, high), rounded(times))


def _notes(rows: Sequence[LatencyRow], baseline: str, rounds: Rounds) -> tuple[str, ...]:
    """What a reader should know before believing the figures.

    Pairing holds where the machine is slower or faster for both of a round. It does not where other work takes the
    cores by turns: the shorter run more often fits into a turn, and gains.
    """
    advice = "measure again on an idle one" if rounds.kept_disturbed else "trust the ratio rather than the milliseconds"
    notes = [
        f"{row.name}: p90 is {row.p90_ms / row.median_ms:.1f} times the median: the machine was disturbed, {advice}"
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
    if rounds.kept_disturbed:
        causes = " and ".join(CAUSES[cause] for cause in rounds.causes) or CAUSES["other_load"]
        notes.append(
            f"{rounds.kept_disturbed} of {len(rows[0].samples_ms)} rounds were disturbed by {causes} and could not be "
            f"had without: neither milliseconds nor ratios are to be trusted, measure again"
        )
    return tuple(notes)
