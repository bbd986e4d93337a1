"""What the driver tells of the NVIDIA GPU, through NVIDIA's own ``pynvml``.

In: nothing. Out: the first GPU's name and driver, and its energy counter; or the reason why nobody tells.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class GPU:
    """The first GPU, or the one of that ``uuid``, while NVML is open. Its order is that of the bus, CUDA's another."""

    def __init__(self, pynvml: Any, uuid: str | None = None) -> None:
        self._nvml = pynvml
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(0) if uuid is None else pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def describe(self) -> str | None:
        """Such as "NVIDIA H200 (compute capability 9.0, driver 580.65.06)"; None where the driver does not tell."""
        try:
            major, minor = self._nvml.nvmlDeviceGetCudaComputeCapability(self._handle)
            name, driver = self._nvml.nvmlDeviceGetName(self._handle), self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return f"{name} (compute capability {major}.{minor}, driver {driver})"

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded; None where the GPU does not count them (before Volta)."""
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None


@contextmanager
def open_nvml(uuid: str | None = None) -> Iterator[GPU | str]:
    """The GPU, or why it cannot be asked."""
    try:
        import pynvml
    except ImportError:
        yield "the GPU's driver is asked through nvidia-ml-py, which is not installed: pip install 'edge-van[gpu]'"
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield f"no NVIDIA GPU with a driver is here ({error})"
        return
    try:
        try:
            gpu: GPU | str = GPU(pynvml, uuid)
        except pynvml.NVMLError as error:
            gpu = f"no NVIDIA GPU with a driver is here ({error})"
        yield gpu
    finally:
        pynvml.nvmlShutdown()


@functools.cache
def gpu_name() -> str | None:
    """None where there is none, or nobody to ask."""
    with open_nvml() as gpu:
        return gpu.describe() if isinstance(gpu, GPU) else None
