"""Energy, where the machine tells it: of the processor packages, of a Jetson's module, or of an NVIDIA GPU.

In: the counters of the kernel or of the GPU. Out: a meter of joules, or ``NoMeter`` with the reason. Intel's and AMD's
RAPL counts by itself (``/sys/class/powercap``), as a GPU does; a Jetson's INA3221 rails tell volts and amperes, which
are summed up by a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edge_van.nvml import GPU, open_nvml
from edge_van.runtimes.torch_device import torch_uuid

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
RAIL_INTERVAL_S = 0.02
WHOLE_MODULE = "VDD_IN"
"""The rail before all others on Xavier NX, Orin NX and Orin Nano; modules without it (AGX) have the rails to add up."""
FED_FROM = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""A rail that is fed from another one of the same module (AGX Orin) and in its figure already."""
NO_RAILS = ("sum of shunt voltages", "NC")


class EnergyMeter(Protocol):
    """Joules from ``start`` on; None where a reading failed meanwhile, rather than a figure without what it missed."""

    source: Literal["rapl", "rails", "nvml"]

    def start(self) -> None: ...

    def joules(self) -> float | None: ...


@dataclass(frozen=True)
class NoMeter:
    """Why there is no figure."""

    reason: str


@contextmanager
def open_meter(powercap: Path = POWERCAP, hwmon: Path = HWMON, *, gpu: bool = False) -> Iterator[EnergyMeter | NoMeter]:
    """The machine's meter; a Jetson's rails first, since they are the whole module. With ``gpu`` the own one of the
    NVIDIA GPU that torch computes on."""
    rails = _rails(hwmon)
    if gpu and not rails:
        with open_nvml(torch_uuid()) as device:
            yield NVMLMeter(device) if isinstance(device, GPU) else NoMeter(device)
        return
    if silent := [name for name, (volts, amperes) in rails.items() if None in (_number(volts), _number(amperes))]:
        yield NoMeter(f"the power rail {silent[0]} cannot be read, and a sum without it would be too low")
        return
    if rails:
        meter = RailMeter(list(rails.values()))
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


class NVMLMeter:
    """The GPU's own counter of millijoules since its driver was loaded (Volta and later)."""

    source: Literal["rapl", "rails", "nvml"] = "nvml"

    def __init__(self, device: GPU) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        self._first = self._device.energy_mj()

    def joules(self) -> float | None:
        now = self._device.energy_mj()
        return None if now is None or self._first is None else (now - self._first) / 1e3


class RaplMeter:
    """The packages' energy counters; each starts again at 0 after ``max_energy_range_uj``.

    They are read for a slice of some tenths of a second, and run full after many: no turn is missed.
    """

    source: Literal["rapl", "rails", "nvml"] = "rapl"

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._first = self._read("energy_uj")

    def start(self) -> None:
        self._first = self._read("energy_uj")

    def joules(self) -> float | None:
        microjoules = 0
        ranges = self._read("max_energy_range_uj")
        for first, now, size in zip(self._first, self._read("energy_uj"), ranges, strict=True):
            if first is None or now is None:
                return None
            taken = now - first
            if taken < 0:
                if size is None:
                    return None
                taken += size
            microjoules += taken
        return microjoules / 1e6

    def _read(self, name: str) -> list[int | None]:
        return [_number(zone / name) for zone in self._zones]


class RailMeter:
    """Volts times amperes of every rail, read each 20 ms and summed over time by the trapezoid rule."""

    source: Literal["rapl", "rails", "nvml"] = "rails"

    def __init__(self, rails: list[tuple[Path, Path]], interval_s: float = RAIL_INTERVAL_S) -> None:
        self._rails = rails
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.start()
        self._thread = threading.Thread(target=self._watch, args=(interval_s,), daemon=True)
        self._thread.start()

    def start(self) -> None:
        with self._lock:
            self._joules: float | None = 0.0
            self._at, self._watts = time.perf_counter(), self._read()

    def joules(self) -> float | None:
        with self._lock:
            now, watts = time.perf_counter(), self._read()
            if self._joules is None or watts is None or self._watts is None:
                self._joules = None
            else:
                self._joules += (now - self._at) * (watts + self._watts) / 2.0
            self._at, self._watts = now, watts
            return self._joules

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.joules()

    def _read(self) -> float | None:
        """Watts of all rails together: the files hold millivolts and milliamperes. None where one cannot be read."""
        watts = 0.0
        for files in self._rails:
            volts, amperes = map(_number, files)
            if volts is None or amperes is None:
                return None
            watts += volts * amperes / 1e6
        return watts


def _rails(hwmon: Path) -> dict[str, tuple[Path, Path]]:
    """(voltage file, current file) of every rail that counts once, by the labels of the kernel's ina3221 driver."""
    rails: dict[str, tuple[Path, Path]] = {}
    for chip in sorted(hwmon.glob("hwmon*")):
        if _text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            name = _text(label)
            if name and name not in NO_RAILS:
                rails[name] = (chip / f"in{number}_input", chip / f"curr{number}_input")
    if WHOLE_MODULE in rails:
        return {WHOLE_MODULE: rails[WHOLE_MODULE]}
    return {name: files for name, files in rails.items() if FED_FROM.get(name) not in rails}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Currents have a sign: a rail at rest may read a few milliamperes under 0."""
    try:
        return int(_text(path))
    except ValueError:
        return None
