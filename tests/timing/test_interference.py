"""``edge_van.timing.interference``: shares from readings, a real process beside this one, the kernel's files."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_van.timing.interference import (
    OTHER_CORES,
    OTHER_LOAD,
    STOLEN,
    Interference,
    Reading,
    between,
    parse_stat,
    reading,
    throttle_count,
    total,
)

ZERO = Reading(0.0, 0.0, 0.0, 0.0, None)


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
    found = between(ZERO, Reading(10.0, busy_s, stolen_s, own_s, None), 2)
    assert (found.other_share, found.stolen_share, found.throttles) == (
        pytest.approx(other),
        pytest.approx(stolen),
        None,
    )


@pytest.mark.parametrize(
    ("cores", "other", "stolen", "throttles", "disturbed"),
    [
        (2, 2 * OTHER_LOAD, 2 * STOLEN, 0, False),
        (2, 2 * OTHER_LOAD + 0.01, 0.0, None, True),
        (2, 0.0, 2 * STOLEN + 0.01, None, True),
        (2, 0.0, 0.0, 1, True),
        (64, OTHER_CORES, 0.0, None, False),
        (64, 1.0, 0.0, None, True),  # one process that spins, on however many cores
    ],
)
def test_what_counts_as_disturbed(
    cores: int, other: float, stolen: float, throttles: int | None, disturbed: bool
) -> None:
    assert Interference(1.0, cores, other, stolen, throttles).disturbed is disturbed


STAT = """cpu  300 30 90 3000 12 3 6 33 0 0
cpu0 100 10 30 1000 4 1 2 11 50 5
cpu1 200 20 60 2000 8 2 4 22 0 0
intr 12345
ctxt 6789
"""


def test_ticks_are_those_of_the_cores_one_may_use() -> None:
    """The sum's own line is none of them, and guests' time is in user's already."""
    assert parse_stat(STAT, {0}) == (143, 11)
    assert parse_stat(STAT, {0, 1}) == (429, 33)
    assert parse_stat(STAT, ()) == (0, 0)


def test_stretches_are_weighted_by_their_time() -> None:
    found = total([Interference(3.0, 2, 0.0, 0.2, None), Interference(1.0, 2, 0.4, 0.2, 2)])
    assert found == Interference(4.0, 2, pytest.approx(0.1), pytest.approx(0.2), 2)
    assert total([]).throttles is None


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
    assert beside.other_cores > 0.6
    assert alone.other_cores < beside.other_cores - 0.3


def test_throttling_is_counted_from_heat_and_quota(tmp_path: Path) -> None:
    assert throttle_count(tmp_path, tmp_path / "absent") is None
    for core, count in ((0, "3\n"), (11, "4\n"), (12, "no number")):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(count)
    assert throttle_count(tmp_path, tmp_path / "absent") == 7
    stat = tmp_path / "cpu.stat"
    stat.write_text("usage_usec 12\nnr_periods 9\nnr_throttled 5\nthrottled_usec 77\n")
    assert throttle_count(tmp_path, stat) == 12


def test_throttles_are_the_difference() -> None:
    first, second = replace(ZERO, throttles=5), replace(ZERO, wall_s=1.0, throttles=7)
    assert between(first, second, 2).throttles == 2
    assert between(ZERO, second, 2).throttles is None
