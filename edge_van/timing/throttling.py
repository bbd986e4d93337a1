"""How often this machine was throttled so far, by heat or by a control group's CPU quota, and what that quota is.

In: the kernel's files. Out: counts, None where it does not tell.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath

CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUPS = Path("/proc/self/cgroup")
CGROUP_MOUNT = Path("/sys/fs/cgroup")
HEAT_COUNTS = {"core": "thread_siblings_list", "package": "core_siblings_list"}
"""What is counted, and the file that is the same for all CPUs that share the counter."""


def heat_throttles(cpu_folder: Path = CPU_FOLDER) -> int | None:
    """How often a core or a package was slowed by heat, each counted once however many CPUs it has.

    From the kernel's ``thermal_throttle`` counters, which Intel's processors have.
    """
    counts = [int(text) for path in _heat_files(cpu_folder) if (text := _text(path)).isdecimal()]
    return sum(counts) if counts else None


@cache  # hundreds of files on a large machine
def _heat_files(cpu_folder: Path) -> tuple[Path, ...]:
    counters: dict[tuple[str, str], Path] = {}
    for what, siblings in HEAT_COUNTS.items():
        for path in sorted(cpu_folder.glob(f"cpu[0-9]*/thermal_throttle/{what}_throttle_count")):
            cpu = path.parent.parent
            counters.setdefault((what, _text(cpu / "topology" / siblings) or cpu.name), path)
    return tuple(counters.values())


def quota_throttles(cgroups: Path = CGROUPS, mount: Path = CGROUP_MOUNT) -> int | None:
    """How often this process's control groups, and those they are part of, were stopped for having used their quota.

    A group without a quota was never stopped. None where the groups' files are not there.
    """
    texts = _of_groups("cpu.stat", cgroups, mount)
    lines = [line.split() for text in texts for line in text.splitlines()]
    return sum(int(line[1]) for line in lines if line[0] == "nr_throttled") if texts else None


def cpu_quota(cgroups: Path = CGROUPS, mount: Path = CGROUP_MOUNT) -> float | None:
    """How many cores this process's control groups let it use at a time; None without such a limit."""
    limits = [text.split() for text in _of_groups("cpu.max", cgroups, mount)]  # version 2: "quota period", in us
    quotas = _of_groups("cpu.cfs_quota_us", cgroups, mount)
    limits += [list(pair) for pair in zip(quotas, _of_groups("cpu.cfs_period_us", cgroups, mount), strict=True)]
    cores = [int(quota) / int(period) for quota, period in limits if quota.isdecimal()]  # "max" and -1: no limit
    return min(cores) if cores else None


def _of_groups(name: str, cgroups: Path, mount: Path) -> list[str]:
    """What the files of that name say in this process's group and in every one above it.

    A line of ``/proc/self/cgroup`` is ``number:controllers:path``, in version 2 ``0::path`` (cgroups(7)). In a
    container the path may be the host's and lead nowhere here: its own group is then the top of what is mounted.
    """
    texts = []
    for line in _text(cgroups).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            tops = {mount, mount / "unified"}
        elif "cpu" in controllers.split(","):
            tops = {(mount / "cpu").resolve(), (mount / controllers).resolve()}  # one is often a link to the other
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        folders = {top / part for top in tops for part in (inside, *inside.parents) if ".." not in part.parts}
        texts += [text for folder in sorted(folders) if (text := _text(folder / name))]
    return texts


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not there, or of a core that went offline meanwhile
        return ""
