"""What machine a number comes from.

In: nothing. Out: a ``Machine`` record: CPU, the flags that decide which kernels run, cores, memory, load, versions.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge_van.nvml import gpu_name

CPU_INFO = Path("/proc/cpuinfo")

_FLAG_PREFIXES = ("avx", "amx", "asimd", "sve", "i8mm", "bf16", "fp16", "f16c", "fma", "sse4")
_PACKAGES = ("edge-van", "numpy", "pillow", "openvino", "onnxruntime", "torch", "torchao", "nncf", "onnx")


@dataclass(frozen=True)
class Machine:
    """The machine a number comes from."""

    cpu: str
    architecture: str
    physical_cores: int
    logical_cores: int
    memory_gib: float
    flags: tuple[str, ...]  # only those that decide which kernels run: avx2, avx512*, *vnni*, amx*, bf16
    system: str
    python: str
    versions: dict[str, str]
    load_average_1min: float
    gpu: str | None = None  # the first NVIDIA one, with its driver, where NVML is installed to tell

    @property
    def card(self) -> str | None:
        """The GPU without its driver."""
        return None if self.gpu is None else self.gpu.partition(" (")[0]


def describe_machine() -> Machine:
    """The machine this runs on, with its load of the last minute."""
    import psutil

    return Machine(
        cpu=_cpu_name(),
        architecture=platform.machine(),
        physical_cores=psutil.cpu_count(logical=False) or 0,
        logical_cores=psutil.cpu_count() or 0,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        flags=_kernel_flags(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=versions(),
        load_average_1min=load_average(),
        gpu=gpu_name(),
    )


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def load_average() -> float:
    """Processes that wanted a core, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def parse_cpu_info(text: str) -> tuple[str | None, frozenset[str]]:
    """(model name, what the CPU can do) from the text of ``/proc/cpuinfo``, x86 or Arm; empty where it does not say."""
    model, flags = None, set()
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("flags", "Features"):
            flags |= set(value.split())
        elif key == "model name":
            model = value
    return model, frozenset(flags)


def this_cpu() -> tuple[str | None, frozenset[str]]:
    """``parse_cpu_info`` of the machine this runs on."""
    return parse_cpu_info(CPU_INFO.read_text(errors="replace") if CPU_INFO.is_file() else "")


def is_this_cpu(machine: Machine) -> bool:
    """Whether what was measured on ``machine`` holds here: the same x86 CPU, as many cores, the same OpenVINO.

    Reads what ``describe_machine`` takes a second for from the kernel; False where that does not say.
    """
    same = machine.cpu == _name_by_kernel() and machine.flags == _kernel_flags()
    here = os.cpu_count() or 0, versions().get("openvino")
    return same and here == (machine.logical_cores, machine.versions.get("openvino"))


def _name_by_kernel() -> str | None:
    """As ``_cpu_name`` has it, of an x86 CPU."""
    text = CPU_INFO.read_text(errors="replace") if CPU_INFO.is_file() else ""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        found.setdefault(key, value)
    if not {"model name", "cpu family", "model"} <= found.keys():
        return None
    return f"{found['model name']} (family {found['cpu family']}, model {found['model']})"


def _kernel_flags() -> tuple[str, ...]:
    return tuple(sorted(flag for flag in this_cpu()[1] if flag.startswith(_FLAG_PREFIXES)))


def is_arm() -> bool:
    """Whether this is a 64-bit ARM CPU, for which OpenVINO has other integer kernels than for x86."""
    return platform.machine() in ("aarch64", "arm64")


def has_vnni(flags: Collection[str] | None = None) -> bool:
    """Whether a CPU with these flags (None: this one) multiplies int8 without an intermediate 16-bit sum.

    That is VNNI or AMX on x86, the dot product or matrix multiplication instructions on Arm.
    """
    flags = this_cpu()[1] if flags is None else flags
    return any("vnni" in flag or flag in ("amx_int8", "asimddp", "i8mm") for flag in flags)


@functools.cache
def _cpu_name() -> str:
    """The CPU's name, family and model; asked once, it takes a second."""
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    brand = info.get("brand_raw", platform.processor() or "unknown")
    return f"{brand} (family {info.get('family', '?')}, model {info.get('model', '?')})"
