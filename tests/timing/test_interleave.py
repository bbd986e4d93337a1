"""``edge_van.timing.interleave``: random order; disturbed rounds are measured again, never chosen by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_van.timing import interleave
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds, sample_rounds

CLEAN, LOADED, WORSE = (Interference(1.0, 2, cores, 0.0, None) for cores in (0.0, 0.6, 1.2))


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


def count_up(rounds: int = 5, min_rounds: int = 1, max_seconds: float = 1e9, **options: float) -> Rounds:
    """Each thing returns how often it was measured, so that a row's value is the number of its round."""
    calls = [0, 0]

    def measure(i: int) -> float:
        calls[i] += 1
        return float(calls[i])

    return sample_rounds(
        [lambda: measure(0), lambda: measure(1)],
        rounds=rounds,
        min_rounds=min_rounds,
        max_seconds=max_seconds,
        generator=np.random.default_rng(0),
        **options,
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


def test_the_least_duration_goes_on_beyond_the_rounds(blocks: Callable[[list[Interference]], None]) -> None:
    blocks([CLEAN])
    assert len(count_up(rounds=2, min_seconds=0.05).values) > 2


def test_a_real_run_reports_every_wanted_round_once() -> None:
    done: list[int] = []
    found = sample_rounds(
        [lambda: 1.0],
        rounds=50,
        min_rounds=1,
        max_seconds=5.0,
        generator=np.random.default_rng(0),
        progress=done.append,
    )
    assert len(found.values) >= 50
    assert sum(done) == 50
