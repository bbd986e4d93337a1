"""``edge_van.timing.interleave``: random order; disturbed rounds are measured again, never chosen by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from edge_van.timing import interleave
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds, Stop, sample_rounds

CLEAN, LOADED, WORSE = (Interference(1.0, 2, cores, 0.0, None) for cores in (0.0, 0.6, 1.2))
HOT = Interference(1.0, 2, 0.0, 0.0, 1)
UNKNOWN = Interference(1.0, 2, None, None, None)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Interference]], None]:
    """A block is one round, and what disturbed it comes from a list, whose last entry repeats."""

    def use(what: list[Interference]) -> None:
        def parts() -> Iterator[Interference]:
            yield from what
            while True:
                yield what[-1]

        left = parts()
        monkeypatch.setattr(interleave, "BLOCK_S", 0.0)
        monkeypatch.setattr(interleave, "between", lambda *_: next(left))

    return use


def count_up(
    rounds: int = 5,
    min_rounds: int = 1,
    max_seconds: float = 1e9,
    progress: Callable[[int], None] | None = None,
    **limits: float,
) -> Rounds:
    """Each thing returns how often it was measured, so that a row's value is the number of its round."""
    calls = [0, 0]

    def measure(i: int) -> float:
        calls[i] += 1
        return float(calls[i])

    return sample_rounds(
        [lambda: measure(0), lambda: measure(1)],
        Stop(rounds, min_rounds, max_seconds, **limits),
        np.random.default_rng(0),
        progress,
    )


def test_a_quiet_machine_needs_no_repeats(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([CLEAN])
    found = count_up()
    assert found.values.tolist() == [[i, i] for i in (1, 2, 3, 4, 5)]
    assert (found.discarded, found.kept_disturbed) == (0, 0)


def test_disturbed_rounds_are_measured_again(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([CLEAN, LOADED, LOADED, CLEAN])
    found = count_up()
    assert found.values[:, 0].tolist() == [1, 4, 5, 6, 7]
    assert (found.discarded, found.kept_disturbed, found.interference.other_share) == (2, 0, 0.0)


def test_a_machine_that_stays_busy_gives_the_least_disturbed(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([WORSE, WORSE, LOADED, LOADED, CLEAN, LOADED, WORSE])
    found = count_up(rounds=4)
    assert found.values[:, 0].tolist() == [3, 4, 5, 6]  # in the order of the clock
    assert found.kept.tolist() == [2, 3, 4, 5]
    assert found.kept_disturbed == 3
    assert found.discarded > 0
    assert 0.0 < found.interference.other_share < 0.3


def test_time_over_keeps_the_clean_rounds_that_are_there(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([LOADED, CLEAN, LOADED])
    found = count_up(rounds=100, min_rounds=1, max_seconds=0.0)
    assert len(found.values) == 1  # stopped at once, with what the first block gave
    assert found.kept_disturbed == 1


def test_time_over_before_enough_clean_ones_keeps_all(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([LOADED, CLEAN, LOADED])
    found = count_up(rounds=100, min_rounds=6, max_seconds=0.0)
    assert (len(found.values), found.kept_disturbed, found.discarded) == (6, 5, 0)


def test_a_machine_that_is_never_quiet_is_given_up_on(blocks: Callable[[list[Interference]], None]) -> None:
    """Once more than ``MOST_LOST`` times the rounds are lost; and what was wanted is told as done."""
    blocks([WORSE, LOADED, LOADED, WORSE])
    told: list[int] = []
    found = count_up(rounds=4, progress=told.append)
    measured = len(found.values) + found.discarded
    assert measured == interleave.MOST_LOST * 4 + 1
    assert found.values[:, 0].tolist() == [1, 2, 3, 4]  # the two least disturbed, and of equal ones the first
    assert (found.kept_disturbed, dict(found.causes)) == (4, {"other_load": 4})
    assert sum(told) == 4


def test_giving_up_waits_for_the_least_duration(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([WORSE])
    found = count_up(rounds=1, min_seconds=0.5)
    assert len(found.values) + found.discarded > interleave.MOST_LOST + 1


@pytest.mark.parametrize("what", [CLEAN, LOADED])
def test_no_run_has_more_rounds_than_a_record_keeps(
    blocks: Callable[[list[Interference]], None], monkeypatch: pytest.MonkeyPatch, what: Interference
) -> None:
    blocks([what])
    monkeypatch.setattr(interleave, "MOST_ROUNDS", 8)
    assert len(count_up(rounds=100, min_seconds=1e9).values) == 8


def test_why_rounds_were_disturbed_is_counted_by_cause(blocks: Callable[[list[Interference]], None]) -> None:
    both = Interference(1.0, 2, 0.9, 0.0, 2)
    blocks([HOT, LOADED, CLEAN, both, HOT])
    found = count_up(rounds=100, min_rounds=4, max_seconds=0.0)
    assert found.kept_disturbed == 3
    assert dict(found.causes) == {"throttling": 2, "other_load": 2}


def test_what_is_not_watched_counts_as_quiet(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([UNKNOWN])
    found = count_up()
    assert (len(found.values), found.kept_disturbed, found.interference.other_share) == (5, 0, None)


def test_the_least_duration_goes_on_beyond_the_rounds(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([CLEAN])
    assert len(count_up(rounds=2, min_seconds=0.05).values) > 2


def test_a_bound_leaves_what_is_there_also_where_that_is_little(blocks: Callable[[list[Interference]], None]) -> None:
    """It outweighs the least number of rounds and the least duration; of what there is everything is kept."""
    blocks([LOADED, CLEAN])
    told: list[int] = []
    found = count_up(rounds=100, min_rounds=50, min_seconds=1e9, bound_seconds=0.0, progress=told.append)
    assert found.values.tolist() == [[1, 1]]
    assert (found.kept_disturbed, found.discarded, sum(told)) == (1, 0, 100)


@pytest.mark.parametrize("block_s", [0.0, 100.0])
def test_a_round_that_the_bound_breaks_off_is_not_kept(monkeypatch: pytest.MonkeyPatch, block_s: float) -> None:
    now = [0.0]

    def measure() -> float:
        now[0] += 4.0
        return 1.0

    monkeypatch.setattr(interleave, "BLOCK_S", block_s)
    monkeypatch.setattr(interleave.time, "perf_counter", lambda: now[0])
    stop = Stop(100, 50, 1e9, bound_seconds=19.0)
    found = sample_rounds([measure] * 3, stop, np.random.default_rng(0))
    assert found.values.shape == (1, 3)  # 12 s a round: the third turn of the second would begin at 20 s
    found = sample_rounds([measure] * 3, replace(stop, bound_seconds=21.0), np.random.default_rng(0))
    assert found.values.shape == (2, 3)


@pytest.mark.alone
def test_a_real_run_reports_every_wanted_round_once() -> None:
    done: list[int] = []
    found = sample_rounds([lambda: 1.0], Stop(50, 1, 5.0), np.random.default_rng(0), done.append)
    assert len(found.values) >= 50
    assert sum(done) == 50
