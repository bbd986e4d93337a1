"""``edge_van.timing.throttling`` on made trees of the kernel's files: cores and packages, both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_van.timing.throttling import cpu_quota, heat_throttles, quota_throttles


def cpu(folder: Path, number: int, core: str, core_count: str, package_count: str) -> None:
    counts, topology = folder / f"cpu{number}" / "thermal_throttle", folder / f"cpu{number}" / "topology"
    counts.mkdir(parents=True)
    topology.mkdir()
    (counts / "core_throttle_count").write_text(core_count)
    (counts / "package_throttle_count").write_text(package_count)
    (topology / "thread_siblings_list").write_text(f"{core}\n")
    (topology / "core_siblings_list").write_text("0-3\n")


def test_each_core_and_each_package_counts_once(tmp_path: Path) -> None:
    """Two cores of two threads in one package: 3 + 4 of the cores and 10 of the package."""
    for number, core, count in ((0, "0,2", "3\n"), (1, "1,3", "4\n"), (2, "0,2", "3\n"), (3, "1,3", "4\n")):
        cpu(tmp_path, number, core, count, "10\n")
    assert heat_throttles(tmp_path) == 17


def test_counts_go_on_and_a_core_that_went_offline_counts_no_more(tmp_path: Path) -> None:
    cpu(tmp_path, 0, "0", "3\n", "0\n")
    cpu(tmp_path, 11, "11", "4\n", "0\n")
    assert heat_throttles(tmp_path) == 7
    (tmp_path / "cpu0" / "thermal_throttle" / "core_throttle_count").write_text("9\n")
    assert heat_throttles(tmp_path) == 13
    (tmp_path / "cpu11" / "thermal_throttle" / "core_throttle_count").unlink()
    assert heat_throttles(tmp_path) == 9


def test_a_machine_without_the_counters_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "cpu0" / "topology").mkdir(parents=True)
    assert heat_throttles(tmp_path) is None


def group(folder: Path, throttled: int | None = None, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limited = "" if throttled is None else f"nr_periods 9\nnr_throttled {throttled}\nthrottled_usec 77\n"
    (folder / "cpu.stat").write_text(f"usage_usec 12\n{limited}")
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    return tmp_path / "self"


def test_version_2_counts_the_own_group_and_those_above_it(tmp_path: Path, cgroups: Path) -> None:
    mount = tmp_path / "fs"
    cgroups.write_text("0::/user.slice/run.scope\n")
    group(mount)  # the root has no quota
    group(mount / "user.slice", 5, cpu_max="150000 100000\n")
    group(mount / "user.slice" / "run.scope", 2, cpu_max="max 100000\n")
    group(mount / "system.slice", 100, cpu_max="1000 100000\n")  # another's
    assert quota_throttles(cgroups, mount) == 7
    assert cpu_quota(cgroups, mount) == 1.5


def test_version_1_has_a_folder_for_the_controller(tmp_path: Path, cgroups: Path) -> None:
    """Beside version 2 without controllers, as systemd has it; ``cpu`` is a link."""
    mount = tmp_path / "fs"
    cgroups.write_text("4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/job\n")
    group(mount / "unified" / "job")
    group(mount / "cpu,cpuacct" / "job", 6, cpu_cfs_quota_us="50000\n", cpu_cfs_period_us="100000\n")
    group(mount / "cpu,cpuacct", 0, cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n")
    (mount / "cpu").symlink_to(mount / "cpu,cpuacct")
    assert quota_throttles(cgroups, mount) == 6
    assert cpu_quota(cgroups, mount) == 0.5


@pytest.mark.parametrize("path", ["/docker/0123", "/../../pod", "/"])
def test_a_containers_own_group_is_the_top_of_what_it_sees(tmp_path: Path, cgroups: Path, path: str) -> None:
    mount = tmp_path / "a" / "b" / "fs"
    cgroups.write_text(f"0::{path}\n")
    group(mount, 3, cpu_max="200000 100000\n")
    group(tmp_path / "a", 100, cpu_max="1000 100000\n")  # no group at all
    assert quota_throttles(cgroups, mount) == 3
    assert cpu_quota(cgroups, mount) == 2.0


def test_a_group_without_a_quota_was_never_stopped(tmp_path: Path, cgroups: Path) -> None:
    cgroups.write_text("0::/\n")
    group(tmp_path / "fs")
    assert quota_throttles(cgroups, tmp_path / "fs") == 0
    assert cpu_quota(cgroups, tmp_path / "fs") is None


def test_no_groups_do_not_tell(tmp_path: Path, cgroups: Path) -> None:
    assert quota_throttles(cgroups, tmp_path / "fs") is None
    assert cpu_quota(cgroups, tmp_path / "fs") is None
