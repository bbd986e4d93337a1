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
from typing import Literal

from edge_van.machine import this_cpu
from edge_van.timing.throttling import cpu_quota, heat_throttles, quota_throttles

STAT = Path("/proc/stat")
OTHER_LOAD, OTHER_CORES = 0.10, 0.5
"""What other processes may take before a measurement counts as disturbed: a share of the cores, and never more than
half of one, however many there are: threads that work in step wait for the slowest core."""
STOLEN, STOLEN_CORES = 0.05, 0.25
"""What the hypervisor may give to other machines before a measurement counts as disturbed, in the same two measures."""

Cause = Literal["throttling", "stolen_time", "other_load"]


@dataclass(frozen=True)
class Reading:
    """Sums since the machine or the process began; seconds of one core."""

    wall_s: float
    busy_s: float | None  # all processes, on the cores that this one may use; None: the machine does not tell
    stolen_s: float | None
    own_s: float  # this process, all threads, and its children that have ended
    throttles: int | None
    cores: int  # that this process may run on
    usable: float  # how many of them at once: fewer where a control group's quota says so


@dataclass(frozen=True)
class Interference:
    """What went on between two readings; None where the machine does not tell.

    ``cores`` are those this process may use at once, the others how many of them were busy with it on average.
    """

    wall_s: float
    cores: float
    other_cores: float | None
    stolen_cores: float | None
    throttles: int | None

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Why a time taken meanwhile should be taken again."""
        exceeded: dict[Cause, bool] = {
            "throttling": bool(self.throttles),
            "stolen_time": (self.stolen_cores or 0.0) > min(STOLEN * self.cores, STOLEN_CORES),
            "other_load": (self.other_cores or 0.0) > min(OTHER_LOAD * self.cores, OTHER_CORES),
        }
        return tuple(cause for cause, there in exceeded.items() if there)

    @property
    def disturbed(self) -> bool:
        return bool(self.causes)

    @property
    def other_share(self) -> float | None:
        return None if self.other_cores is None else self.other_cores / self.cores

    @property
    def stolen_share(self) -> float | None:
        return None if self.stolen_cores is None else self.stolen_cores / self.cores


def reading() -> Reading:
    """Where the counters stand now."""
    cpus = os.sched_getaffinity(0)
    ticks = parse_stat(STAT.read_text(), cpus)
    hertz = os.sysconf("SC_CLK_TCK")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Reading(
        wall_s=time.perf_counter(),
        busy_s=None if ticks is None else ticks[0] / hertz,
        stolen_s=None if ticks is None else ticks[1] / hertz,
        own_s=time.process_time() + children.ru_utime + children.ru_stime,
        throttles=_sum([heat_throttles(), quota_throttles()]),
        cores=len(cpus),
        usable=min(len(cpus), cpu_quota() or len(cpus)),
    )


def not_watched() -> tuple[str, ...]:
    """What of all this the machine does not tell: nothing can be said against a figure for it."""
    told = {
        "other processes and the hypervisor": reading().busy_s is not None,
        "throttling by heat": heat_throttles() is not None,
        "throttling by a CPU quota": quota_throttles() is not None,
        "where the hypervisor places the cores": "hypervisor" not in this_cpu()[1],
    }
    return tuple(what for what, there in told.items() if not there)


def parse_stat(text: str, cpus: Iterable[int]) -> tuple[int, int] | None:
    """(busy, stolen) ticks of these CPUs together, from ``/proc/stat``; None where it does not list every one of them,
    as in containers whose own ``/proc/stat`` counts CPUs from 0.

    A line is ``cpuN user nice system idle iowait irq softirq steal guest guest_nice`` (proc(5)); guests' time is in
    user's already, and the hypervisor's is no process's.
    """
    wanted = {f"cpu{number}" for number in cpus}
    busy = stolen = 0
    for line in text.splitlines():
        name, *fields = line.split() or [""]
        if name in wanted:
            wanted.remove(name)
            user, nice, system, _, _, irq, softirq, steal = (int(f) for f in fields[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return None if wanted else (busy, stolen)


def between(before: Reading, after: Reading) -> Interference:
    """The difference of two readings. Counters lag: nothing is under 0.

    Under a quota a process has some of the cores at a time, and what others did on all is taken in proportion.
    """
    wall = max(after.wall_s - before.wall_s, 1e-9)
    busy = _difference(before.busy_s, after.busy_s)
    stolen = _difference(before.stolen_s, after.stolen_s)
    throttles = _difference(before.throttles, after.throttles)
    other = None if busy is None else busy - (after.own_s - before.own_s)
    scale = after.usable / after.cores / wall
    return Interference(
        wall_s=wall,
        cores=after.usable,
        other_cores=None if other is None else max(other * scale, 0.0),
        stolen_cores=None if stolen is None else max(stolen * scale, 0.0),
        throttles=None if throttles is None else max(int(throttles), 0),
    )


def total(parts: Iterable[Interference]) -> Interference:
    """Several stretches as one, each by its time."""
    stretches = list(parts)
    return Interference(
        wall_s=sum(part.wall_s for part in stretches) or 1e-9,
        cores=max((part.cores for part in stretches), default=1),
        other_cores=_mean((part.other_cores, part.wall_s) for part in stretches),
        stolen_cores=_mean((part.stolen_cores, part.wall_s) for part in stretches),
        throttles=_sum(part.throttles for part in stretches),
    )


def _difference(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _mean(weighted: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in weighted if value is not None]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
