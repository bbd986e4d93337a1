"""What else the machine did while something was timed, as far as the kernel tells.

In: two ``reading()``s, before and after. Out: an ``Interference``: CPU time of other processes and CPU time that a
hypervisor took, on the cores this process may use, and throttling by heat or by a control group's quota.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

THROTTLE_COUNTS = "cpu[0-9]*/thermal_throttle/core_throttle_count"
CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUP_STAT = Path("/sys/fs/cgroup/cpu.stat")
STAT = Path("/proc/stat")
OTHER_LOAD, OTHER_CORES = 0.10, 0.5
"""What other processes may take before a measurement counts as disturbed: a share of the cores, and never more than
half of one, however many there are: threads that work in step wait for the slowest core."""
STOLEN, STOLEN_CORES = 0.05, 0.25
"""The same for time that the hypervisor gives to other machines."""


@dataclass(frozen=True)
class Reading:
    """Sums since the machine or the process began; seconds of one core."""

    wall_s: float
    busy_s: float  # all processes, on the cores that this one may use
    stolen_s: float
    own_s: float  # this process, all threads, and its children that have ended
    throttles: int | None  # None: the machine does not tell


@dataclass(frozen=True)
class Interference:
    """What went on between two readings; cores are how many were busy with it on average."""

    wall_s: float
    cores: int
    other_cores: float
    stolen_cores: float
    throttles: int | None

    @property
    def disturbed(self) -> bool:
        """Whether a time taken meanwhile should be taken again."""
        return (
            self.other_cores > min(OTHER_LOAD * self.cores, OTHER_CORES)
            or self.stolen_cores > min(STOLEN * self.cores, STOLEN_CORES)
            or bool(self.throttles)
        )

    @property
    def other_share(self) -> float:
        return self.other_cores / self.cores

    @property
    def stolen_share(self) -> float:
        return self.stolen_cores / self.cores


def reading() -> Reading:
    """Where the counters stand now."""
    busy, stolen = parse_stat(STAT.read_text(), os.sched_getaffinity(0))
    hertz = os.sysconf("SC_CLK_TCK")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Reading(
        wall_s=time.perf_counter(),
        busy_s=busy / hertz,
        stolen_s=stolen / hertz,
        own_s=time.process_time() + children.ru_utime + children.ru_stime,
        throttles=throttle_count(),
    )


def parse_stat(text: str, cpus: Iterable[int]) -> tuple[int, int]:
    """(busy, stolen) ticks of these CPUs together, from ``/proc/stat``.

    A line is ``cpuN user nice system idle iowait irq softirq steal guest guest_nice`` (proc(5)); guests' time is in
    user and nice already.
    """
    wanted = {f"cpu{number}" for number in cpus}
    busy = stolen = 0
    for line in text.splitlines():
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _, _, irq, softirq, steal = (int(f) for f in fields[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy, stolen


def between(before: Reading, after: Reading, cores: int | None = None) -> Interference:
    """The difference of two readings; ``cores`` are those this process may use. Counters lag: nothing is under 0."""
    wall = max(after.wall_s - before.wall_s, 1e-9)
    other = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    known = before.throttles is not None and after.throttles is not None
    return Interference(
        wall_s=wall,
        cores=cores or len(os.sched_getaffinity(0)),
        other_cores=max(other / wall, 0.0),
        stolen_cores=max((after.stolen_s - before.stolen_s) / wall, 0.0),
        throttles=max((after.throttles or 0) - (before.throttles or 0), 0) if known else None,
    )


def total(parts: Iterable[Interference]) -> Interference:
    """Several stretches as one, each by its time."""
    stretches = list(parts)
    wall = sum(part.wall_s for part in stretches) or 1e-9
    counts = [part.throttles for part in stretches if part.throttles is not None]
    return Interference(
        wall_s=wall,
        cores=max((part.cores for part in stretches), default=1),
        other_cores=sum(part.other_cores * part.wall_s for part in stretches) / wall,
        stolen_cores=sum(part.stolen_cores * part.wall_s for part in stretches) / wall,
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
