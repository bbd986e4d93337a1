"""Several things measured in turns, so that a noisy machine falls on all alike; what was disturbed is measured again.

In: one callable for each thing, which measures it once. Out: ``Rounds``: a row of values a round, and what the machine
did meanwhile.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_van.progress import Advance
from edge_van.timing.interference import Cause, Interference, between, reading, total

BLOCK_S = 0.25
"""Rounds are kept or thrown away by blocks of this length: the kernel counts CPU time in steps of 10 ms."""
MOST_LOST = 5.0
"""A run gives up on undisturbed rounds once it has lost this many times those it wanted; then it keeps the least
disturbed and says so."""
MOST_ROUNDS = 100_000
"""However long a run may last: a record keeps every sample."""


@dataclass(frozen=True)
class Rounds:
    """``values`` is (rounds, things), in the order they were measured."""

    values: NDArray[np.float64]
    kept: NDArray[np.int64]
    """Of each row, its number among all rounds that were measured."""
    discarded: int
    """Rounds that were disturbed and thrown away."""
    kept_disturbed: int
    """Rounds that were disturbed and had to be kept."""
    interference: Interference
    """Of what was kept."""
    causes: Mapping[Cause, int] = field(default_factory=dict)
    """Of ``kept_disturbed``, how many rounds had each cause; one may have several."""


@dataclass(frozen=True)
class Stop:
    """When ``sample_rounds`` ends: at the end of the first block, and so with more rounds than asked for at times, in
    which

    - ``rounds`` undisturbed rounds and ``min_seconds`` are reached;
    - or ``max_seconds`` are over and ``min_rounds``, of either kind, are there;
    - or it is hopeless: over ``MOST_LOST`` times ``rounds`` were disturbed, and ``min_seconds`` are over;
    - or there are ``MOST_ROUNDS``.

    Whatever is there, nothing is begun any more once ``bound_seconds`` are over; only the first round is always made
    whole, however long it takes.
    """

    rounds: int
    min_rounds: int
    max_seconds: float
    min_seconds: float = 0.0
    bound_seconds: float = math.inf


@dataclass(frozen=True)
class _Block:
    first: int  # the number of its first round
    rows: list[list[float]]
    interference: Interference


def sample_rounds(
    measure: Sequence[Callable[[], float]],
    stop: Stop,
    generator: np.random.Generator,
    progress: Advance | None = None,
) -> Rounds:
    """Call every one of ``measure`` once a round, in a new random order each round, until ``stop`` says so.

    A fixed order would always have the same one find the caches as the same other one left them.

    Where undisturbed rounds are missing at the end, the least disturbed ones are kept in their place: up to ``rounds``,
    but none for the sake of ``rounds`` once ``max_seconds`` are over and ``min_rounds`` undisturbed ones are there.
    Whether a block of rounds was disturbed is judged by other processes, the hypervisor and throttling, never by the
    values themselves: throwing away slow rounds would flatter whatever is slow at times.
    """
    clean: list[_Block] = []
    disturbed: list[_Block] = []
    begin = time.perf_counter()
    deadline = begin + stop.bound_seconds
    rounds, min_seconds, reported = stop.rounds, stop.min_seconds, 0
    while True:
        kept, lost = _count(clean), _count(disturbed)
        seconds = time.perf_counter() - begin
        enough = kept >= rounds and seconds >= min_seconds
        out_of_time = seconds >= stop.max_seconds and kept + lost >= stop.min_rounds
        at_bound = seconds >= stop.bound_seconds and kept + lost > 0
        hopeless = lost > MOST_LOST * rounds and kept + lost >= rounds and seconds >= min_seconds
        if enough or out_of_time or at_bound or hopeless or kept + lost >= MOST_ROUNDS:
            break
        # on a machine that stays busy it takes twice the rounds
        share = min(max(kept, (kept + lost) // 2) / rounds, seconds / min_seconds if min_seconds else 1.0, 1.0)
        if progress is not None:  # with nothing new too: it is where an interrupt is noticed
            progress(int(share * rounds) - reported if int(share * rounds) > reported else 0)
            reported = max(int(share * rounds), reported)
        block = _block(measure, generator, kept + lost, deadline)
        (disturbed if block.interference.disturbed else clean).append(block)
    if progress is not None and reported < rounds:
        progress(rounds - reported)
    # what is disturbed anyway loses nothing by being more of it
    return _chosen(clean, disturbed, rounds if kept < stop.min_rounds or seconds < stop.max_seconds else 0)


def _count(blocks: Iterable[_Block]) -> int:
    return sum(len(block.rows) for block in blocks)


def _block(
    measure: Sequence[Callable[[], float]], generator: np.random.Generator, first: int, deadline: float
) -> _Block:
    """A round that the deadline breaks off is not kept: of the block there may be none then, unless it is the first."""
    before = reading()
    stop = time.perf_counter() + BLOCK_S
    rows: list[list[float]] = []
    while not rows or time.perf_counter() < min(stop, deadline):
        row = [0.0] * len(measure)
        for i in generator.permutation(len(measure)):
            if (first or rows) and time.perf_counter() >= deadline:
                return _Block(first, rows, between(before, reading()))
            row[i] = measure[i]()
        rows.append(row)
    return _Block(first, rows, between(before, reading()))


def _chosen(clean: Sequence[_Block], disturbed: Sequence[_Block], wanted: int) -> Rounds:
    """The clean blocks, and of the others the least disturbed until there are ``wanted`` rounds; in their order."""
    needed = wanted - _count(clean)
    fill: list[_Block] = []
    ranked = sorted(disturbed, key=lambda b: (bool(b.interference.throttles), _cores(b.interference)))
    while ranked and (needed > _count(fill) or not (clean or fill)):
        fill.append(ranked.pop(0))
    blocks = sorted([*clean, *fill], key=lambda block: block.first)
    return Rounds(
        values=np.array([row for block in blocks for row in block.rows]),
        kept=np.concatenate([block.first + np.arange(len(block.rows)) for block in blocks]),
        discarded=_count(ranked),
        kept_disturbed=_count(fill),
        interference=total(block.interference for block in blocks),
        causes=Counter(cause for block in fill for cause in block.interference.causes for _ in block.rows),
    )


def _cores(interference: Interference) -> float:
    return (interference.other_cores or 0.0) + (interference.stolen_cores or 0.0)
