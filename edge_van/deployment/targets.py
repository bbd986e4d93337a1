"""What a target is: a kind of device, as a TOML file says it. ``deploy/targets`` has the known ones.

In: a name or a path. Out: a checked ``Target``, or a ``UsageError`` in one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from edge_van.assets import asset
from edge_van.errors import EdgeVanError, UsageError
from edge_van.recipe_file import read_recipe_file

FOLDER = "deploy/targets"
NAMES = (
    *("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-xavier", "jetson-thor"),
    *("desktop-gpu", "desktop-rtx", "cpu-x86", "cpu-arm"),
)
OPENVINO_CANDIDATES = ("fp32", "bf16", "fp16", "openvino", "openvino_arm")
TENSORRT_CANDIDATES = ("int8", "int8_pointwise", "fp16", "fp32")
CANDIDATES = {
    "openvino": OPENVINO_CANDIDATES,
    "tensorrt": TENSORRT_CANDIDATES,
    "tensorrt_rtx": TENSORRT_CANDIDATES,
}
"""What a target may try, by its runtime."""
VERSIONED = ("l4t", "tensorrt", "tensorrt_rtx", "openvino", "python")
PROGRAMS = ("trtexec", "tegrastats", "nvpmodel", "jetson_clocks", "tegra_release", "cuda")


@dataclass(frozen=True)
class Target:
    """A kind of device.

    title          what it is called
    runtime        "openvino", "tensorrt" through trtexec, or "tensorrt_rtx" through edge-van itself
    architecture   of the CPU, as ``uname -m`` has it
    candidates     what is tried there, of what the bundle has
    root           where the agent keeps everything; ~ is the device's
    python         the command that runs the agent, Python 3.8 or later
    runtime_python  the command of the Python that has OpenVINO, or edge-van with TensorRT for RTX; empty: ``python``
    versions       accepted ones (PEP 440) of l4t, tensorrt, tensorrt_rtx, openvino, python
    paths          of programs and files on the device
    module         a part of what the device tree calls the board; a device that says another is only warned of
    rounds, seconds, warm_up_s   how each candidate is timed: so often, each time so long
    """

    title: str
    runtime: str
    architecture: str
    candidates: tuple[str, ...]
    root: str = "~/.local/share/edge-van"
    python: tuple[str, ...] = ("python3",)
    runtime_python: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    module: str = ""
    rounds: int = 2
    seconds: float = 5.0
    warm_up_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("title", "architecture", "root"):
            _check(isinstance(getattr(self, name), str) and getattr(self, name), f"{name} is a text")
        _check(self.runtime in CANDIDATES, f"runtime is one of {', '.join(CANDIDATES)}; got {self.runtime!r}")
        known = CANDIDATES[self.runtime]
        names = self.candidates
        _check(
            _is_texts(names) and names and set(names) <= set(known) and len(set(names)) == len(names),
            f"candidates is a list of {', '.join(known)}, each at most once; got {names!r}",
        )
        for name in ("python", "runtime_python"):
            _check(_is_texts(getattr(self, name)), f"{name} is a list of words, a command and its arguments")
        _check(bool(self.python), "python is a command: it runs the agent")
        for table, keys in (("versions", VERSIONED), ("paths", PROGRAMS)):
            value = getattr(self, table)
            fits = isinstance(value, dict) and set(value) <= set(keys) and _is_texts(tuple(value.values()))
            _check(fits, f"{table} is a table of texts for {', '.join(keys)}; got {value!r}")
        for name, wanted in self.versions.items():
            try:
                SpecifierSet(wanted)
            except InvalidSpecifier:
                raise UsageError(f"versions.{name} is none: {wanted!r}; write it like >=10.3,<11") from None
        _check(self.runtime != "tensorrt" or "trtexec" in self.paths, "paths.trtexec is where trtexec is")
        for name, low, high in (("rounds", 1, 1000), ("seconds", 0.1, 3600), ("warm_up_s", 0, 3600)):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _check(number and low <= value <= high, f"{name} is a number from {low} to {high}; got {value!r}")
        _check(isinstance(self.module, str), f"module is a text; got {self.module!r}")
        _check(isinstance(self.rounds, int), f"rounds is a whole number; got {self.rounds!r}")

    def refusal(self, probe: dict[str, Any]) -> str | None:
        """Why a device is none of this kind; None where it is one."""
        if probe["architecture"] != self.architecture:
            return f"it is {probe['architecture']}, {self.title} is {self.architecture}"
        there = {**probe, **{name: (probe[name] or {}).get("version") for name in ("openvino", "tensorrt_rtx")}}
        needed = {**self.versions, **({} if self.runtime in self.versions else {self.runtime: ">=0"})}
        for name, wanted in needed.items():
            if there[name] is None:
                because = probe["errors"].get(name)
                reason = f" ({because})" if because else ""
                return f"it has no {_TITLES[name]} that runs{reason}: {_ADVICE[name]}"
            try:
                fits = Version(there[name]) in SpecifierSet(wanted, prereleases=True)
            except InvalidVersion:
                fits = False
            if not fits:
                return f"it has {_TITLES[name]} {there[name]}, {self.title} takes {wanted}"
        return None


_TITLES = {
    "l4t": "L4T",
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT for RTX",
    "openvino": "OpenVINO",
    "python": "Python",
}
_ADVICE = {
    "l4t": "/etc/nv_tegra_release is not there, so it is no Jetson",
    "openvino": "install it there, pip install openvino in a virtual environment, and name its Python with "
    "--runtime-python",
    "tensorrt_rtx": "it takes NVIDIA's driver, and edge-van[tensorrt-rtx] of this version in a virtual environment: "
    "name its Python with --runtime-python",
    "tensorrt": "install libnvinfer-bin there, or say in paths.trtexec of the target where it is",
}


def load_target(given: str | Path) -> Target:
    """A known one by its name, or a TOML file of one's own by its path; ``UsageError`` for what is neither."""
    if str(given) in NAMES:
        path = asset(f"{FOLDER}/{given}.toml")
    elif str(given).endswith(".toml"):
        path = Path(given)
    else:
        raise UsageError(f"no target is called {str(given)!r}; known: {', '.join(NAMES)}, or give a TOML file")
    values = read_recipe_file(path, advice=f"give one of {', '.join(NAMES)}", called="target")
    known = [f.name for f in fields(Target)]
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(f"target {path} has unknown keys: {', '.join(unknown)}; known: {', '.join(known)}")
    needed = ("title", "runtime", "architecture", "candidates")
    if missing := [name for name in needed if name not in values]:
        raise UsageError(f"target {path} has no {', '.join(missing)}: see {FOLDER} for examples")
    given_values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return Target(**given_values)
    except EdgeVanError as error:
        raise UsageError(f"target {path}: {error}") from None


def _check(fits: object, text: str) -> None:
    if not fits:
        raise UsageError(text)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(word, str) and word for word in value)
