"""What machine a number comes from.

In: nothing. Out: a ``Machine`` record: CPU, the flags that decide which kernels run, cores, memory, load, versions.
"""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata

from edge_van.records import Machine

_FLAG_PREFIXES = ("avx", "amx", "asimd", "sve", "i8mm", "bf16", "fp16", "f16c", "fma", "sse4")
_PACKAGES = ("edge-van", "numpy", "pillow", "openvino", "onnxruntime", "torch", "torchao", "nncf", "onnx", "onnxscript")


def describe_machine() -> Machine:
    """The machine this runs on, with its load of the last minute."""
    import psutil

    name, flags = _cpu()
    return Machine(
        cpu=name,
        architecture=platform.machine(),
        physical_cores=psutil.cpu_count(logical=False) or 0,
        logical_cores=psutil.cpu_count() or 0,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        flags=flags,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=versions(),
        load_average_1min=load_average(),
    )


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def load_average() -> float:
    """Processes that wanted a core, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def has_vnni() -> bool:
    """Whether this CPU multiplies int8 without an intermediate 16-bit sum (VNNI, or Arm's dot product)."""
    return any("vnni" in f or f in ("asimddp", "i8mm") or f.startswith("amx_int8") for f in _cpu()[1])


@functools.cache
def _cpu() -> tuple[str, tuple[str, ...]]:
    """The CPU's name, family and model, and its relevant flags; asked once, it takes a second."""
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    brand = info.get("brand_raw", platform.processor() or "unknown")
    name = f"{brand} (family {info.get('family', '?')}, model {info.get('model', '?')})"
    return name, tuple(sorted(f for f in info.get("flags", []) if f.startswith(_FLAG_PREFIXES)))
