"""``edge_van.timing.core_link``: real cores, a real process at the other end."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest

from edge_van.timing import core_link
from edge_van.timing.core_link import CoreLink

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a single core")


@needs_two_cores
def test_a_round_trip_takes_microseconds_and_leaves_this_process_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    with CoreLink() as link:
        found = [link.read() for _ in range(3)]
        echo = link._echo
    assert {len(trips) for trips in found} == {min(len(before), core_link.MOST_PARTNERS + 1) - 1}
    assert all(0.02 < us < 100 for trips in found for us in trips)
    assert link.least_us == tuple(map(min, *found))
    assert os.sched_getaffinity(0) == before
    assert echo is not None
    assert echo.poll() is not None  # nothing is left running


@needs_two_cores
def test_an_echo_that_is_gone_is_started_again() -> None:
    with CoreLink() as link:
        link.read()
        assert link._echo is not None
        link._echo.kill()
        link._echo.wait()
        assert link.read() == ()
        assert link.read() != ()


@needs_two_cores
def test_a_core_that_does_not_answer_is_infinitely_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_link, "MOST_POLLS", 0)
    with CoreLink() as link:
        assert set(link.read()) == {math.inf}
        monkeypatch.undo()
        assert max(link.read()) < 100
        assert max(link.least_us) < 100


@needs_two_cores
def test_an_echo_whose_asker_is_gone_ends() -> None:
    """In the middle of a probe, when no end of the pipe tells it."""
    with CoreLink() as link:
        link._start()
        assert link._echo is not None
        assert link._echo.stdin is not None
        link._echo.stdin.write(bytes([1]))
        assert link._echo.wait(10) == -signal.SIGALRM


def test_a_single_core_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    start = time.perf_counter()
    with CoreLink() as link:
        assert link.read() == ()
    assert time.perf_counter() - start < 0.005
