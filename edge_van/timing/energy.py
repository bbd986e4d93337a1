"""Energy, where the machine tells it: of the processor packages, or of a whole Jetson.

In: the counters of the kernel. Out: a meter of joules so far, or None with the reason. Intel's and AMD's RAPL counts by
itself (``/sys/class/powercap``); a Jetson's INA3221 rails tell volts and amperes, which are summed up by a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
RAIL_INTERVAL_S = 0.02
WHOLE_BOARD = "VDD_IN"
"""The rail before all others on Xavier NX, Orin NX and Orin Nano; boards without it (AGX) have the rails to add up."""
NOT_A_RAIL = "sum of shunt voltages"


class EnergyMeter(Protocol):
    """Joules since it was opened."""

    source: Literal["rapl", "rails"]

    def joules(self) -> float: ...


@dataclass(frozen=True)
class NoMeter:
    """Why there is no figure."""

    reason: str


@contextmanager
def open_meter(powercap: Path = POWERCAP, hwmon: Path = HWMON) -> Iterator[EnergyMeter | NoMeter]:
    """The machine's meter; a Jetson's rails first, since they are the whole board."""
    rails = _rails(hwmon)
    if rails:
        meter = RailMeter(rails)
        try:
            yield meter
        finally:
            meter.close()
        return
    zones = [z for z in sorted(powercap.glob("intel-rapl:*")) if _text(z / "name").startswith("package")]
    if not zones:
        yield NoMeter("this machine has neither RAPL counters nor a Jetson's power rails")
    elif any(_number(zone / "energy_uj") is None for zone in zones):
        yield NoMeter("its RAPL counters are readable by root only: run as root for the energy")
    else:
        yield RaplMeter(zones)


class RaplMeter:
    """The packages' energy counters; each starts again at 0 after ``max_energy_range_uj``.

    They are read at least once a slice of some tenths of a second, and run full after many: no turn is missed.
    """

    source: Literal["rapl", "rails"] = "rapl"

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._ranges = [_number(zone / "max_energy_range_uj") or 2**32 for zone in zones]
        self._last = self._read()
        self._microjoules = 0

    def joules(self) -> float:
        now = self._read()
        for last, current, size in zip(self._last, now, self._ranges, strict=True):
            self._microjoules += current - last if current >= last else current + size - last
        self._last = now
        return self._microjoules / 1e6

    def _read(self) -> list[int]:
        return [_number(zone / "energy_uj") or 0 for zone in self._zones]


class RailMeter:
    """Volts times amperes of every rail, read each 20 ms and summed over time by the trapezoid rule."""

    source: Literal["rapl", "rails"] = "rails"

    def __init__(self, rails: list[tuple[Path, Path]], interval_s: float = RAIL_INTERVAL_S) -> None:
        self._rails = rails
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._joules = 0.0
        self._at, self._watts = time.perf_counter(), self._read()
        self._thread = threading.Thread(target=self._watch, args=(interval_s,), daemon=True)
        self._thread.start()

    def joules(self) -> float:
        with self._lock:
            now, watts = time.perf_counter(), self._read()
            self._joules += (now - self._at) * (watts + self._watts) / 2.0
            self._at, self._watts = now, watts
            return self._joules

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.joules()

    def _read(self) -> float:
        """Watts of all rails together: the files hold millivolts and milliamperes."""
        return sum((_number(volts) or 0) * (_number(amperes) or 0) for volts, amperes in self._rails) / 1e6


def _rails(hwmon: Path) -> list[tuple[Path, Path]]:
    """(voltage file, current file) of every rail that counts once, by the labels of the kernel's ina3221 driver."""
    found: dict[str, tuple[Path, Path]] = {}
    for chip in sorted(hwmon.glob("hwmon*")):
        if _text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
            name = _text(label)
            if name and name != NOT_A_RAIL and None not in (_number(volts), _number(amperes)):
                found[name] = (volts, amperes)
    return [found[WHOLE_BOARD]] if WHOLE_BOARD in found else list(found.values())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
