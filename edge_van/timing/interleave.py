"""Several things measured in turns, so that a noisy machine falls on all alike; what was disturbed is measured again.

In: one callable for each thing, which measures it once. Out: ``Rounds``: a row of values a round, and what the machine
did meanwhile.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_van.progress import Advance
from edge_van.timing.core_link import CoreLink
from edge_van.timing.interference import Cause, Interference, between, reading, total

BLOCK_S = 0.25
"""Rounds are kept or thrown away by blocks of this length: the kernel counts CPU time in steps of 10 ms."""
MOST_LOST = 5.0
"""A run gives up on undisturbed rounds once it has lost this many times those it wanted; then it keeps the least
disturbed and says so."""
APART = 2.0
"""Cores are apart where a word between two takes so many times as long as at best in the run. Seen: 0.9 to 1.3 times
where nothing changed, 2.5 to 3 times where a hypervisor moved them."""
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
    core_round_trips_us: tuple[float, ...] = ()
    """The least that were seen, between the first core and each other one."""


@dataclass(frozen=True)
class _Block:
    first: int  # the number of its first round
    rows: list[list[float]]
    interference: Interference
    round_trips_us: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())  # before and after, see ``CoreLink``

    def causes(self, least_us: tuple[float, ...]) -> tuple[Cause, ...]:
        if found := self.interference.causes:
            return found  # other work delays an answer too
        return ("cores_apart",) if is_apart(self.round_trips_us, least_us) else ()


def is_apart(round_trips_us: Iterable[tuple[float, ...]], least_us: tuple[float, ...]) -> bool:
    """Whether in any of these readings of a ``CoreLink`` a core was ``APART`` times as far as its least."""
    pairs = (pair for trips in round_trips_us for pair in zip(trips, least_us, strict=False))
    return any(APART * least < us < math.inf for us, least in pairs)


def least_round_trips_us(runs: Iterable[Rounds]) -> tuple[float, ...]:
    """The least of each pair of cores over several runs; empty where none tells."""
    told = [rounds.core_round_trips_us for rounds in runs if rounds.core_round_trips_us]
    return tuple(min(pair) for pair in zip(*told, strict=False))


class _Blocks:
    """All that were measured, by whether something disturbed them. A block's cores may turn out to have been apart only
    when others are seen nearer to one another."""

    def __init__(self) -> None:
        self.clean: list[_Block] = []
        self.disturbed: list[_Block] = []
        self.least_us: tuple[float, ...] = ()

    def add(self, block: _Block, least_us: tuple[float, ...]) -> None:
        new = [block]
        if least_us != self.least_us:
            new = sorted([*self.clean, *self.disturbed, block], key=lambda b: b.first)
            self.clean, self.disturbed, self.least_us = [], [], least_us
        for each in new:
            (self.disturbed if each.causes(least_us) else self.clean).append(each)


def sample_rounds(
    measure: Sequence[Callable[[], float]],
    *,
    rounds: int,
    min_rounds: int,
    max_seconds: float,
    generator: np.random.Generator,
    min_seconds: float = 0.0,
    progress: Advance | None = None,
    link: CoreLink | None = None,
) -> Rounds:
    """Call every one of ``measure`` once a round, in a new random order each round.

    A fixed order would always have the same one find the caches as the same other one left them. It stops at the end of
    the first block, and so with more rounds than asked for at times, in which

    - ``rounds`` undisturbed rounds and ``min_seconds`` are reached;
    - or ``max_seconds`` are over and ``min_rounds``, of either kind, are there;
    - or it is hopeless: over ``MOST_LOST`` times ``rounds`` were disturbed, and ``min_seconds`` are over;
    - or there are ``MOST_ROUNDS``.

    Where undisturbed rounds are missing then, the least disturbed ones are kept in their place: up to ``rounds``, but
    none for the sake of ``rounds`` once ``max_seconds`` are over and ``min_rounds`` undisturbed ones are there.
    Whether a block of rounds was disturbed is judged by other processes, the hypervisor, throttling and how near the
    cores were to one another (``CoreLink``), never by the values themselves: throwing away slow rounds would flatter
    whatever is slow at times. ``link``: an open one, which remembers how near the cores were in earlier runs.
    """
    blocks = _Blocks()
    begin = time.perf_counter()
    reported = 0
    with nullcontext(link) if link is not None else CoreLink() as link:
        round_trips_us = link.read()
        while True:
            kept, lost = _count(blocks.clean), _count(blocks.disturbed)
            seconds = time.perf_counter() - begin
            enough = kept >= rounds and seconds >= min_seconds
            out_of_time = seconds >= max_seconds and kept + lost >= min_rounds
            hopeless = lost > MOST_LOST * rounds and kept + lost >= rounds and seconds >= min_seconds
            if enough or out_of_time or hopeless or kept + lost >= MOST_ROUNDS:
                break
            # on a machine that stays busy it takes twice the rounds
            share = min(max(kept, (kept + lost) // 2) / rounds, seconds / min_seconds if min_seconds else 1.0, 1.0)
            if progress is not None:  # with nothing new too: it is where an interrupt is noticed
                progress(int(share * rounds) - reported if int(share * rounds) > reported else 0)
                reported = max(int(share * rounds), reported)
            block = _block(measure, generator, kept + lost, link, round_trips_us)
            round_trips_us = block.round_trips_us[1]
            blocks.add(block, link.least_us)
    if progress is not None and reported < rounds:
        progress(rounds - reported)
    # what is disturbed anyway loses nothing by being more of it
    return _chosen(blocks, rounds if kept < min_rounds or seconds < max_seconds else 0)


def _count(blocks: Iterable[_Block]) -> int:
    return sum(len(block.rows) for block in blocks)


def _block(
    measure: Sequence[Callable[[], float]],
    generator: np.random.Generator,
    first: int,
    link: CoreLink,
    round_trips_us: tuple[float, ...],
) -> _Block:
    before = reading()
    stop = time.perf_counter() + BLOCK_S
    rows: list[list[float]] = []
    while not rows or time.perf_counter() < stop:
        row = [0.0] * len(measure)
        for i in generator.permutation(len(measure)):
            row[i] = measure[i]()
        rows.append(row)
    interference = between(before, reading())
    return _Block(first, rows, interference, (round_trips_us, link.read()))


def _chosen(found: _Blocks, wanted: int) -> Rounds:
    """The clean blocks, and of the others the least disturbed until there are ``wanted`` rounds; in their order."""
    least_us = found.least_us
    needed = wanted - _count(found.clean)
    fill: list[_Block] = []
    ranked = sorted(
        found.disturbed,
        key=lambda b: (bool(b.interference.throttles), is_apart(b.round_trips_us, least_us), _cores(b.interference)),
    )
    while ranked and (needed > _count(fill) or not (found.clean or fill)):
        fill.append(ranked.pop(0))
    blocks = sorted([*found.clean, *fill], key=lambda block: block.first)
    return Rounds(
        values=np.array([row for block in blocks for row in block.rows]),
        kept=np.concatenate([block.first + np.arange(len(block.rows)) for block in blocks]),
        discarded=_count(ranked),
        kept_disturbed=_count(fill),
        interference=total(block.interference for block in blocks),
        causes=Counter(cause for block in fill for cause in block.causes(least_us) for _ in block.rows),
        core_round_trips_us=least_us,
    )


def _cores(interference: Interference) -> float:
    return (interference.other_cores or 0.0) + (interference.stolen_cores or 0.0)
