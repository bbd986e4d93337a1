"""``edge_van.timing.energy`` on the kernel's documented files: no machine here has either meter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_van.timing.energy import NoMeter, RailMeter, RaplMeter, open_meter


def zone(powercap: Path, name: str, label: str, energy_uj: int, size: int = 1_000_000) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{size}\n")
    return folder


def rail(chip: Path, number: int, label: str, millivolts: int, milliamperes: int) -> None:
    chip.mkdir(parents=True, exist_ok=True)
    (chip / "name").write_text("ina3221\n")
    (chip / f"in{number}_label").write_text(f"{label}\n")
    (chip / f"in{number}_input").write_text(f"{millivolts}\n")
    (chip / f"curr{number}_input").write_text(f"{milliamperes}\n")


def test_rapl_adds_the_packages_and_counts_on_over_the_end(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)  # part of the package, not beside it
    zone(tmp_path, "intel-rapl:2", "psys", 5)
    with open_meter(tmp_path, tmp_path / "none") as meter:
        assert isinstance(meter, RaplMeter)
        assert meter.joules() == 0.0
        (first / "energy_uj").write_text("950000")
        (second / "energy_uj").write_text("150100")
        assert meter.joules() == pytest.approx(0.2)
        (first / "energy_uj").write_text("30000")  # 50,000 to the end, 30,000 after it
        assert meter.joules() == pytest.approx(0.28)


def test_a_machine_without_a_meter_says_why(tmp_path: Path) -> None:
    with open_meter(tmp_path, tmp_path) as meter:
        assert isinstance(meter, NoMeter)
        assert "neither" in meter.reason
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()  # not even root's to read
    with open_meter(tmp_path, tmp_path) as meter:
        assert isinstance(meter, NoMeter)
        assert "root" in meter.reason


def test_rails_are_volts_times_amperes_over_time(tmp_path: Path) -> None:
    rail(tmp_path / "hwmon3", 1, "VDD_GPU_SOC", 20_000, 300)
    rail(tmp_path / "hwmon3", 2, "VDD_CPU_CV", 20_000, 100)
    rail(tmp_path / "hwmon3", 4, "sum of shunt voltages", 9, 9)
    rail(tmp_path / "hwmon4", 1, "VIN_SYS_5V0", 5_000, 400)
    (tmp_path / "hwmon0").mkdir()
    (tmp_path / "hwmon0" / "name").write_text("coretemp\n")
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, RailMeter)
        before, start = meter.joules(), time.perf_counter()
        time.sleep(0.2)
        taken, seconds = meter.joules() - before, time.perf_counter() - start
    assert taken == pytest.approx(10.0 * seconds, rel=0.05)  # 6 + 2 + 2 watts


def test_the_whole_boards_rail_stands_for_all(tmp_path: Path) -> None:
    rail(tmp_path / "hwmon1", 1, "VDD_IN", 5_000, 1_000)
    rail(tmp_path / "hwmon1", 2, "VDD_CPU_GPU_CV", 5_000, 600)
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, RailMeter)
        before, start = meter.joules(), time.perf_counter()
        time.sleep(0.1)
        taken, seconds = meter.joules() - before, time.perf_counter() - start
    assert taken == pytest.approx(5.0 * seconds, rel=0.05)


def test_a_rail_that_changes_is_followed_by_the_thread(tmp_path: Path) -> None:
    chip = tmp_path / "hwmon1"
    rail(chip, 1, "VDD_IN", 5_000, 0)
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, RailMeter)
        (chip / "curr1_input").write_text("2000")
        time.sleep(0.15)
        (chip / "curr1_input").write_text("0")
        time.sleep(0.15)
        assert 0.5 < meter.joules() < 2.5  # 10 watts for 0.15 of 0.3 s; two readings alone would say 0
