"""``edge_van.timing.core_link``: real cores, a real process at the other end."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest

from edge_van.timing import core_link
from edge_van.timing.core_link import CoreLink

needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a single core")


@pytest.fixture(autouse=True)
def virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tests run on a machine of metal."""
    monkeypatch.setattr(core_link, "is_virtual", lambda: True)


def answered(link: CoreLink) -> tuple[float, ...]:
    """A reading; on a busy machine not the first one has to be it."""
    for _ in range(50):
        if (found := link.read()) and all(map(math.isfinite, found)):
            return found
    raise AssertionError("no core answered")


@needs_two_cores
def test_a_round_trip_takes_microseconds_and_leaves_this_process_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    with CoreLink() as link:
        found = [answered(link) for _ in range(3)]
        echo = link._echo
    assert {len(trips) for trips in found} == {min(len(before), core_link.MOST_PARTNERS + 1) - 1}
    assert all(us > 0.02 for trips in found for us in trips)
    assert all(map(math.isfinite, link.least_us))
    assert os.sched_getaffinity(0) == before
    assert echo is not None
    assert echo.poll() is not None  # nothing is left running


@needs_two_cores
def test_an_echo_that_is_gone_is_started_again() -> None:
    with CoreLink() as link:
        answered(link)
        assert link._echo is not None
        link._echo.kill()
        link._echo.wait()
        assert link.read() == ()
        answered(link)


@needs_two_cores
def test_a_core_that_does_not_answer_is_infinitely_far(monkeypatch: pytest.MonkeyPatch) -> None:
    with CoreLink() as link:
        with monkeypatch.context() as patch:
            patch.setattr(core_link, "MOST_POLLS", 0)
            assert set(link.read()) == {math.inf}
        found = answered(link)
        assert max(link.least_us) <= max(found)


@needs_two_cores
def test_an_echo_whose_asker_is_gone_ends() -> None:
    """In the middle of a probe, when no end of the pipe tells it."""
    with CoreLink() as link:
        link._start()
        assert link._echo is not None
        assert link._echo.stdin is not None
        link._echo.stdin.write(bytes([1]))
        assert link._echo.wait(10) == -signal.SIGALRM


@needs_two_cores
def test_an_echo_that_never_says_it_is_there_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(core_link, "ECHO", silent)
    monkeypatch.setattr(core_link, "READY_S", 0.1)
    with CoreLink() as link:
        assert set(link.read()) == {math.inf}
        assert link._echo is None


@needs_two_cores
def test_shared_memory_that_is_full_kills_nobody(monkeypatch: pytest.MonkeyPatch, small_disk: Path) -> None:
    left = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(left.f_bavail * left.f_bsize))
    monkeypatch.setattr(core_link, "SHARED_MEMORY", small_disk)
    with CoreLink() as link:
        assert link.read() == ()
        (small_disk / "filler").unlink()
        answered(link)


@needs_two_cores
def test_a_ctrl_c_is_not_for_the_echo() -> None:
    with CoreLink() as link:
        answered(link)
        assert link._echo is not None
        assert os.getpgid(link._echo.pid) != os.getpgid(0)
        assert link._echo.stderr is None  # and none of its last words reach the terminal
        assert str(Path(f"/proc/{link._echo.pid}/fd/2").readlink()) == os.devnull


def test_nothing_is_read_where_nothing_can_be_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(self: CoreLink) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(CoreLink, "_start", started)
    with CoreLink(watch=False) as link:
        assert link.read() == ()
    with monkeypatch.context() as patch:
        patch.setattr(core_link, "is_virtual", lambda: False)
        with CoreLink() as link:
            assert link.read() == ()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with CoreLink() as link:
        assert link.read() == ()
