"""``edge_van.timing.interference``: shares from readings, a real process beside this one, the kernel's files."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_van.timing import interference
from edge_van.timing.interference import (
    OTHER_CORES,
    OTHER_LOAD,
    STOLEN,
    Interference,
    Reading,
    between,
    not_watched,
    parse_stat,
    reading,
    total,
)

ZERO = Reading(0.0, 0.0, 0.0, 0.0, None, 2, 2)


@pytest.mark.parametrize(
    ("busy_s", "stolen_s", "own_s", "other", "stolen"),
    [
        (20.0, 0.0, 20.0, 0.0, 0.0),  # both cores ours
        (20.0, 0.0, 10.0, 0.5, 0.0),  # one of two is somebody else's
        (10.0, 4.0, 10.0, 0.0, 0.2),
        (9.0, 0.0, 10.0, 0.0, 0.0),  # counters lag
    ],
)
def test_shares_are_of_all_cores(busy_s: float, stolen_s: float, own_s: float, other: float, stolen: float) -> None:
    found = between(ZERO, replace(ZERO, wall_s=10.0, busy_s=busy_s, stolen_s=stolen_s, own_s=own_s))
    assert (found.other_share, found.stolen_share, found.throttles) == (
        pytest.approx(other),
        pytest.approx(stolen),
        None,
    )


def test_under_a_quota_others_count_in_proportion() -> None:
    """Two of 64 cores at a time: four busy cores somewhere on the machine are an eighth of one of ours."""
    after = Reading(1.0, 6.0, 1.6, 2.0, None, 64, 2.0)
    found = between(replace(ZERO, cores=64, usable=2.0), after)
    assert (found.cores, found.other_cores, found.stolen_cores) == (2.0, pytest.approx(0.125), pytest.approx(0.05))
    assert not found.disturbed
    assert between(replace(ZERO, cores=64, usable=64), replace(after, usable=64)).causes == (
        "stolen_time",
        "other_load",
    )


def test_what_is_not_known_disturbs_nothing_and_is_not_known() -> None:
    found = between(ZERO, replace(ZERO, wall_s=1.0, busy_s=None, stolen_s=None))
    assert (found.other_share, found.stolen_share, found.causes) == (None, None, ())
    assert total([found, Interference(1.0, 2, 0.4, 0.2, None)]).other_share == pytest.approx(0.2)
    assert total([found, found]).other_share is None


@pytest.mark.parametrize(
    ("cores", "other", "stolen", "throttles", "causes"),
    [
        (2, 2 * OTHER_LOAD, 2 * STOLEN, 0, ()),
        (2, 2 * OTHER_LOAD + 0.01, 0.0, None, ("other_load",)),
        (2, 0.0, 2 * STOLEN + 0.01, None, ("stolen_time",)),
        (2, 0.0, 0.0, 1, ("throttling",)),
        (2, 1.0, 1.0, 1, ("throttling", "stolen_time", "other_load")),
        (64, OTHER_CORES, 0.0, None, ()),
        (64, 1.0, 0.0, None, ("other_load",)),  # one process that spins, on however many cores
    ],
)
def test_what_counts_as_disturbed(
    cores: int, other: float, stolen: float, throttles: int | None, causes: tuple[str, ...]
) -> None:
    found = Interference(1.0, cores, other, stolen, throttles)
    assert found.causes == causes
    assert found.disturbed is bool(causes)


STAT = """cpu  300 30 90 3000 12 3 6 33 0 0
cpu0 100 10 30 1000 4 1 2 11 50 5
cpu1 200 20 60 2000 8 2 4 22 0 0
intr 12345

ctxt 6789
"""


def test_ticks_are_those_of_the_cores_one_may_use() -> None:
    """The sum's own line is none of them, and guests' time is in user's already; the empty line is nobody's."""
    assert parse_stat(STAT, {0}) == (143, 11)
    assert parse_stat(STAT, {0, 1}) == (429, 33)


@pytest.mark.parametrize("cpus", [{4, 5}, {1, 4}])
def test_cores_that_are_not_listed_are_not_idle(cpus: set[int]) -> None:
    """lxcfs counts a container's CPUs from 0, and the affinity has the host's numbers."""
    assert parse_stat(STAT, cpus) is None


def test_what_this_machine_does_not_tell_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "other processes and the hypervisor" not in not_watched()
    renumbered = tmp_path / "stat"
    renumbered.write_text(STAT.replace("cpu0", "cpu9998").replace("cpu1", "cpu9999"))
    monkeypatch.setattr(interference, "STAT", renumbered)
    monkeypatch.setattr(interference, "heat_throttles", lambda: None)
    monkeypatch.setattr(interference, "quota_throttles", lambda: 0)
    monkeypatch.setattr(interference, "this_cpu", lambda: (None, frozenset()))
    assert not_watched() == ("other processes and the hypervisor", "throttling by heat")
    monkeypatch.setattr(interference, "this_cpu", lambda: (None, {"avx2", "hypervisor"}))
    assert not_watched()[2:] == ("where the hypervisor places the cores",)
    assert (reading().busy_s, reading().stolen_s, reading().throttles) == (None, None, 0)
    assert between(reading(), reading()).other_share is None
    monkeypatch.setattr(interference, "heat_throttles", lambda: 3)
    assert reading().throttles == 3


def test_stretches_are_weighted_by_their_time() -> None:
    found = total([Interference(3.0, 2, 0.0, 0.2, None), Interference(1.0, 2, 0.4, 0.2, 2)])
    assert found == Interference(4.0, 2, pytest.approx(0.1), pytest.approx(0.2), 2)
    assert total([]).throttles is None


@pytest.mark.alone
def test_another_process_is_seen_and_our_own_work_is_not() -> None:
    """A child that spins takes a core; this process spinning takes none from itself."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        before = reading()
        time.sleep(1.0)
        beside = between(before, reading())
    finally:
        child.kill()
        child.wait()
    before = reading()
    stop = time.perf_counter() + 1.0
    while time.perf_counter() < stop:
        pass
    alone = between(before, reading())
    assert beside.other_cores is not None
    assert alone.other_cores is not None
    assert beside.other_cores > 0.6
    assert alone.other_cores < beside.other_cores - 0.3


def test_throttles_are_the_difference() -> None:
    first, second = replace(ZERO, throttles=5), replace(ZERO, wall_s=1.0, throttles=7)
    assert between(first, second).throttles == 2
    assert between(ZERO, second).throttles is None
