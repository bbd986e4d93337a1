"""``benchmarks/core_link.py``: real cores, a real process at the other end."""

from __future__ import annotations

import math
import os
import signal
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import BENCHMARKS, script

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no checkout: benchmarks/ is not here"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a single core"),
]


@pytest.fixture
def core_link(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """On a machine of metal it would read nothing."""
    module = script("core_link")
    monkeypatch.setattr(module, "is_virtual", lambda: True)
    return module


def answered(link: Any) -> tuple[float, ...]:
    """A reading; on a busy machine not the first one has to be it."""
    for _ in range(50):
        if (found := link.read()) and all(map(math.isfinite, found)):
            return found
    raise AssertionError("no core answered")


def test_a_round_trip_takes_microseconds_and_leaves_this_process_as_it_was(core_link: ModuleType) -> None:
    before = os.sched_getaffinity(0)
    with core_link.CoreLink() as link:
        found = [answered(link) for _ in range(3)]
        echo = link._echo
    assert {len(trips) for trips in found} == {min(len(before), core_link.MOST_PARTNERS + 1) - 1}
    assert all(us > 0.02 for trips in found for us in trips)
    assert all(map(math.isfinite, link.least_us))
    assert os.sched_getaffinity(0) == before
    assert echo.poll() is not None  # nothing is left running


def test_an_echo_that_is_gone_is_started_again(core_link: ModuleType) -> None:
    with core_link.CoreLink() as link:
        answered(link)
        link._echo.kill()
        link._echo.wait()
        assert link.read() == ()
        answered(link)


def test_an_echo_whose_asker_is_gone_ends(core_link: ModuleType) -> None:
    """In the middle of a probe, when no end of the pipe tells it."""
    with core_link.CoreLink() as link:
        link._start()
        link._echo.stdin.write(bytes([1]))
        assert link._echo.wait(10) == -signal.SIGALRM


def test_a_core_that_does_not_answer_is_infinitely_far_and_not_apart(
    core_link: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core_link.CoreLink() as link:
        monkeypatch.setattr(core_link, "MOST_POLLS", 0)
        found = link.read()
    assert set(found) == {math.inf}
    assert not core_link.is_apart([found], (0.2,) * len(found))
    assert core_link.is_apart([(0.2, 0.2), (0.2, 0.5)], (0.2, 0.2))
    assert not core_link.is_apart([(0.2, 0.3), ()], (0.2, 0.2))
