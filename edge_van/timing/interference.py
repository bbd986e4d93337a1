"""What else the machine did while something was timed, as far as the operating system tells.

In: two ``reading()``s, before and after. Out: an ``Interference``: CPU time of other processes, CPU time that a
hypervisor took, and throttling by heat or by a control group's quota.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

THROTTLE_COUNTS = "cpu[0-9]*/thermal_throttle/core_throttle_count"
CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUP_STAT = Path("/sys/fs/cgroup/cpu.stat")
OTHER_LOAD = 0.10
"""Share of the machine's cores that other processes may take before a measurement counts as disturbed."""
STOLEN = 0.05
"""The same for time that the hypervisor gives to other machines."""


@dataclass(frozen=True)
class Reading:
    """Sums since the machine or the process began; seconds of one core."""

    wall_s: float
    busy_s: float  # all processes
    stolen_s: float
    own_s: float  # this process, all threads
    throttles: int | None  # None: the machine does not tell


@dataclass(frozen=True)
class Interference:
    """What went on between two readings. Shares are of all the machine's cores."""

    wall_s: float
    other_share: float
    stolen_share: float
    throttles: int | None

    @property
    def disturbed(self) -> bool:
        """Whether a time taken meanwhile should be taken again."""
        return self.other_share > OTHER_LOAD or self.stolen_share > STOLEN or bool(self.throttles)


def reading() -> Reading:
    """Where the counters stand now."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "steal", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # Linux counts these in user and nice too
    return Reading(
        wall_s=time.perf_counter(),
        busy_s=sum(times) - idle - stolen - guest,
        stolen_s=stolen,
        own_s=time.process_time(),
        throttles=throttle_count(),
    )


def between(before: Reading, after: Reading, cores: int) -> Interference:
    """The difference of two readings on a machine of so many cores. Counters of 10 ms can lag: shares are held >= 0."""
    wall = max(after.wall_s - before.wall_s, 1e-9)
    other = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    known = before.throttles is not None and after.throttles is not None
    return Interference(
        wall_s=wall,
        other_share=max(other / wall / cores, 0.0),
        stolen_share=max((after.stolen_s - before.stolen_s) / wall / cores, 0.0),
        throttles=max((after.throttles or 0) - (before.throttles or 0), 0) if known else None,
    )


def total(parts: Iterable[Interference]) -> Interference:
    """Several stretches as one; shares are weighted by their time."""
    stretches = list(parts)
    wall = sum(part.wall_s for part in stretches) or 1e-9
    counts = [part.throttles for part in stretches if part.throttles is not None]
    return Interference(
        wall_s=wall,
        other_share=sum(part.other_share * part.wall_s for part in stretches) / wall,
        stolen_share=sum(part.stolen_share * part.wall_s for part in stretches) / wall,
        throttles=sum(counts) if counts else None,
    )


def throttle_count(cpu_folder: Path = CPU_FOLDER, cgroup_stat: Path = CGROUP_STAT) -> int | None:
    """How often a core was slowed by heat or this control group by its quota, so far; None where neither is told.

    Files: the kernel's ``thermal_throttle`` counters (x86) and ``nr_throttled`` of control group version 2.
    """
    counts = []
    for path in cpu_folder.glob(THROTTLE_COUNTS):
        counts += _numbers(path)
    if cgroup_stat.is_file():
        for line in cgroup_stat.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "nr_throttled" and value.isdecimal():
                counts.append(int(value))
    return sum(counts) if counts else None


def _numbers(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:  # a core that went offline meanwhile
        return []
    return [int(text)] if text.isdecimal() else []
