"""``edge_van.timing.energy`` on the kernel's documented files: no machine here has either meter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_van.timing.energy import NoMeter, RailMeter, RaplMeter, open_meter

pytestmark = pytest.mark.alone


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
        meter.start()
        assert meter.joules() == 0.0
        (first / "energy_uj").write_text("950000")
        (second / "energy_uj").write_text("150100")
        assert meter.joules() == pytest.approx(0.2)
        meter.start()
        (first / "energy_uj").write_text("30000")  # 50,000 to the end, 30,000 after it
        assert meter.joules() == pytest.approx(0.08)


def test_a_counter_that_cannot_be_read_gives_no_energy_and_no_turn_of_the_counter(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    with open_meter(tmp_path, tmp_path / "none") as meter:
        assert isinstance(meter, RaplMeter)
        meter.start()
        (package / "energy_uj").unlink()
        assert meter.joules() is None
        meter.start()
        (package / "energy_uj").write_text("910000")
        assert meter.joules() is None  # from where is not known
        meter.start()
        (package / "energy_uj").write_text("960000")
        assert meter.joules() == pytest.approx(0.05)
        (package / "max_energy_range_uj").unlink()
        (package / "energy_uj").write_text("1000")
        assert meter.joules() is None  # turned, and nobody knows where it does


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
    assert_watts(tmp_path, 10.0)  # 6 + 2 + 2


def assert_watts(hwmon: Path, watts: float) -> None:
    """A machine whose rails do not change takes ``watts``, however long this process is kept waiting meanwhile."""
    with open_meter(hwmon / "none", hwmon) as meter:
        assert isinstance(meter, RailMeter)
        before = time.perf_counter()
        meter.start()
        started = time.perf_counter()
        time.sleep(0.1)
        stopping = time.perf_counter()
        joules = meter.joules()
        after = time.perf_counter()
    assert joules is not None
    assert watts * (stopping - started) * (1 - 1e-9) <= joules <= watts * (after - before) * (1 + 1e-9)


def test_the_whole_modules_rail_stands_for_all(tmp_path: Path) -> None:
    rail(tmp_path / "hwmon1", 1, "VDD_IN", 5_000, 1_000)
    rail(tmp_path / "hwmon1", 2, "VDD_CPU_GPU_CV", 5_000, 600)
    assert_watts(tmp_path, 5.0)


def test_a_rail_that_is_fed_from_another_is_not_counted_twice(tmp_path: Path) -> None:
    """AGX Orin; what is not connected reads whatever it likes."""
    rail(tmp_path / "hwmon3", 1, "VDD_GPU_SOC", 20_000, 300)
    rail(tmp_path / "hwmon3", 2, "VDD_CPU_CV", 20_000, 100)
    rail(tmp_path / "hwmon3", 3, "VIN_SYS_5V0", 5_000, 400)
    rail(tmp_path / "hwmon4", 1, "NC", 5_000, 900)
    rail(tmp_path / "hwmon4", 2, "VDDQ_VDD2_1V8AO", 5_000, 200)
    assert_watts(tmp_path, 10.0)
    (tmp_path / "hwmon3" / "in3_label").unlink()
    assert_watts(tmp_path, 9.0)


def test_a_current_has_a_sign(tmp_path: Path) -> None:
    rail(tmp_path / "hwmon1", 1, "VDD_GPU_SOC", 5_000, 1_000)
    rail(tmp_path / "hwmon1", 2, "VDD_CPU_CV", 5_000, -400)
    assert_watts(tmp_path, 3.0)  # 5 with the second left out, 7 without its sign


@pytest.mark.parametrize("others", [(), ("VDD_CPU_CV",)])
def test_a_rail_that_cannot_be_read_gives_no_sum_without_it(tmp_path: Path, others: tuple[str, ...]) -> None:
    for number, label in enumerate(("VDD_GPU_SOC", *others), start=1):
        rail(tmp_path / "hwmon1", number, label, 5_000, 1_000)
    (tmp_path / "hwmon1" / "curr1_input").unlink()
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, NoMeter)
        assert "VDD_GPU_SOC cannot be read" in meter.reason


def test_a_rails_failed_reading_gives_no_energy_until_the_next_start(tmp_path: Path) -> None:
    chip = tmp_path / "hwmon1"
    rail(chip, 1, "VDD_IN", 5_000, 1_000)
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, RailMeter)
        meter.start()
        (chip / "curr1_input").rename(chip / "away")
        time.sleep(0.1)  # the thread meets it
        (chip / "away").rename(chip / "curr1_input")
        assert meter.joules() is None
        meter.start()
        time.sleep(0.05)
        assert (meter.joules() or 0.0) > 0.1


def test_a_rail_that_changes_is_followed_by_the_thread(tmp_path: Path) -> None:
    chip = tmp_path / "hwmon1"
    rail(chip, 1, "VDD_IN", 5_000, 0)
    with open_meter(tmp_path / "none", tmp_path) as meter:
        assert isinstance(meter, RailMeter)
        meter.start()
        replace_text(chip / "curr1_input", "2000")
        time.sleep(0.15)
        replace_text(chip / "curr1_input", "0")
        time.sleep(0.15)
        assert 0.5 < (meter.joules() or 0.0) < 2.5  # 10 watts for 0.15 of 0.3 s; two readings alone would say 0


def replace_text(path: Path, text: str) -> None:
    """At once, as in the kernel: a reader beside it never finds the file empty."""
    (path.parent / "new").write_text(text)
    (path.parent / "new").rename(path)
