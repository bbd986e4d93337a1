"""Latency of all peers in turns, each settled before it is timed, and each alone beside it to show that turns are fair.

In: peers. Out: ``Timed`` runs: every sample, alone and in turns.

Engines of several makers in one process do not leave each other alone: after a run their worker threads spin for a
while in the hope of more work, OpenMP's (PyTorch) and most of all ONNX Runtime's, on the cores that the next engine
needs; ``lingering_cpu_ms`` is how much that is. So before each timed run its engine runs for ``SETTLE_S`` untimed: the
others' threads are asleep by then, and the caches are its own, as they are in a device that runs one model.
``alone_ms`` is the check: timed before and after the turns, with nothing between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Interval
from edge_van.progress import Terminal
from edge_van.runtimes import Session
from edge_van.statistics import paired_ratio
from edge_van.timing.interleave import Stop, sample_rounds
from edge_van.timing.latency import query_turn, random_feed, rounded
from peers.peer import Peer

SETTLE_S = 0.05
ALONE_RUNS = 40
LINGERING_RUNS, LINGERING_S = 5, 0.1
MIN_ROUNDS = 20
DISTURBED = 1.1
"""A median in turns that is so many times the one alone: something disturbs it, and the table says so."""


@dataclass(frozen=True)
class Row:
    """One peer: milliseconds of every run in turns, and of every run alone (first half before, second half after)."""

    name: str
    samples_ms: tuple[float, ...]
    alone_ms: tuple[float, ...]
    lingering_cpu_ms: float  # CPU time that the process takes after a run has returned, waiting for another

    @property
    def in_turns_over_alone(self) -> float:
        return float(np.median(self.samples_ms) / np.median(self.alone_ms))


@dataclass(frozen=True)
class Timed:
    """One run, in which every peer was opened anew."""

    seed: int
    settle_s: float
    rounds: int
    kept_disturbed: int
    other_share: float | None  # of the cores' time that other processes took; None: the system does not tell
    rows: tuple[Row, ...]


def time_peers(
    peers: Sequence[Peer],
    *,
    threads: int,
    rounds: int,
    seed: int,
    settle_s: float = SETTLE_S,
    max_seconds: float = 1800.0,
) -> Timed:
    """Alone, in turns (random order each round), alone again. Batch 1, random pixels."""
    generator = np.random.default_rng(seed)
    with ExitStack() as stack:
        turns: list[Callable[[], float]] = []
        alone: list[Callable[[], list[float]]] = []
        lingering: list[float] = []
        for peer in peers:
            session = stack.enter_context(peer.open(threads))
            feed = random_feed(session, generator)
            turns.append(query_turn(session, feed, 1e3 * settle_s))
            alone.append(_block(session, feed, settle_s))
            lingering.append(_lingering_cpu_ms(session, feed))
        before = [block() for block in alone]
        with Terminal().stage(f"Timing {len(peers)} models in turns", rounds) as advance:
            stop = Stop(rounds=rounds, min_rounds=min(MIN_ROUNDS, rounds), max_seconds=max_seconds)
            found = sample_rounds(turns, stop, generator, advance)
        after = [block() for block in alone]
    rows = tuple(
        Row(peer.name, rounded(found.values[:, i]), rounded(np.array([*before[i], *after[i]])), lingering[i])
        for i, peer in enumerate(peers)
    )
    share = found.interference.other_share
    return Timed(seed, settle_s, len(found.values), found.kept_disturbed, share, rows)


def ratios(runs: Sequence[Timed], baseline: str) -> list[dict[str, Any]]:
    """A row a peer: medians, the paired ratio over all runs, and the ends of the runs' own 95 % intervals."""
    found = []
    for i, row in enumerate(runs[0].rows):
        times = [np.array(run.rows[i].samples_ms) for run in runs]
        base = [np.array(r.samples_ms) for run in runs for r in run.rows if r.name == baseline]
        intervals = [Interval(*paired_ratio(b, t)[1:]) for b, t in zip(base, times, strict=True)]
        found.append(
            {
                "name": row.name,
                "median_ms": float(np.median(np.concatenate(times))),
                "alone_ms": float(np.median(np.concatenate([run.rows[i].alone_ms for run in runs]))),
                "lingering_cpu_ms": float(np.median([run.rows[i].lingering_cpu_ms for run in runs])),
                "in_turns_over_alone": float(np.median([run.rows[i].in_turns_over_alone for run in runs])),
                "ratio": paired_ratio(np.concatenate(base), np.concatenate(times))[0],
                "lowest": min(interval.low for interval in intervals),
                "highest": max(interval.high for interval in intervals),
            }
        )
    return found


def _block(session: Session, feed: dict[str, NDArray[Any]], settle_s: float) -> Callable[[], list[float]]:
    def block() -> list[float]:
        settle(lambda: session.run(feed), 4 * settle_s)
        return [_timed_ms(session, feed) for _ in range(ALONE_RUNS // 2)]

    return block


def _lingering_cpu_ms(session: Session, feed: dict[str, NDArray[Any]]) -> float:
    """Median CPU time of all threads while this one sleeps after a run."""
    found = []
    for _ in range(LINGERING_RUNS):
        session.run(feed)
        start = time.process_time()
        time.sleep(LINGERING_S)
        found.append((time.process_time() - start) * 1e3)
    return float(np.median(found))


def settle(run: Callable[[], object], seconds: float) -> int:
    """Call ``run`` until ``seconds`` have passed, at least once; how often it was called."""
    stop, count = time.perf_counter() + seconds, 0
    while count == 0 or time.perf_counter() < stop:
        run()
        count += 1
    return count


def _timed_ms(session: Session, feed: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter()
    session.run(feed)
    return (time.perf_counter() - start) * 1e3
