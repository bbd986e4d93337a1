"""Device memory and streams through ``cuda-python``, in the few words the TensorRT runtimes need.

In: sizes and numpy arrays. Out: pointers and copies; every failing call is a ``MissingRuntimeError`` that says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from edge_van.errors import MissingRuntimeError


@dataclass(frozen=True)
class Device:
    """The GPU in use: its name, and its compute capability as "8.7"."""

    name: str
    compute_capability: str


def load_cuda() -> ModuleType:
    """``cuda.bindings.runtime``, or ``cuda.cudart`` of cuda-python before 12.6 (JetPack 5 and 6)."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime
        except ImportError as error:
            raise MissingRuntimeError(
                "cuda-python is not installed: pip install cuda-python of the version of your CUDA"
            ) from error
    module: ModuleType = runtime
    return module


def checked(cuda: ModuleType, what: str, result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; ``MissingRuntimeError`` with the error's name where it failed."""
    status, *values = result
    if int(status) != 0:
        name = getattr(status, "name", str(status))
        advice = ""
        if name in ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError"):
            advice = ": no NVIDIA GPU with a driver for this CUDA is here"
        raise MissingRuntimeError(f"{what} failed with {name}{advice}")
    return values[0] if len(values) == 1 else tuple(values)


def device() -> Device:
    """The current GPU; ``MissingRuntimeError`` without one."""
    cuda = load_cuda()
    if checked(cuda, "counting GPUs", cuda.cudaGetDeviceCount()) < 1:
        raise MissingRuntimeError("no NVIDIA GPU is here")
    index = checked(cuda, "asking for the current GPU", cuda.cudaGetDevice())
    properties = checked(cuda, "reading the GPU's properties", cuda.cudaGetDeviceProperties(index))
    name = properties.name
    return Device(
        name.decode() if isinstance(name, bytes) else str(name).strip("\x00"), f"{properties.major}.{properties.minor}"
    )


class Buffers:
    """One stream, and a device buffer per tensor that grows when a larger array comes."""

    def __init__(self) -> None:
        self._cuda = load_cuda()
        self.stream = checked(self._cuda, "making a stream", self._cuda.cudaStreamCreate())
        self._pointers: dict[str, tuple[int, int]] = {}  # name: (address, bytes)

    def pointer(self, name: str, size_bytes: int) -> int:
        """The address of at least ``size_bytes`` for ``name``."""
        address, size = self._pointers.get(name, (0, 0))
        if size < size_bytes:
            if address:
                del self._pointers[name]  # first: a failure below must not leave an address that is freed
                checked(self._cuda, "freeing device memory", self._cuda.cudaFree(address))
            address = int(checked(self._cuda, f"allocating {size_bytes} bytes", self._cuda.cudaMalloc(size_bytes)))
            self._pointers[name] = (address, size_bytes)
        return address

    def to_device(self, name: str, array: np.ndarray) -> int:
        """Copy a contiguous array; the address it lies at."""
        address = self.pointer(name, array.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        call = self._cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self.stream)
        checked(self._cuda, f"copying {name} to the GPU", call)
        return address

    def to_host(self, name: str, array: np.ndarray) -> None:
        """Fill ``array`` from the buffer of ``name``; complete after ``synchronize``."""
        address, _ = self._pointers[name]
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call = self._cuda.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self.stream)
        checked(self._cuda, f"copying {name} from the GPU", call)

    def synchronize(self) -> None:
        checked(self._cuda, "waiting for the GPU", self._cuda.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        for address, _ in self._pointers.values():
            self._cuda.cudaFree(address)
        self._pointers = {}
        if self.stream is not None:
            self._cuda.cudaStreamDestroy(self.stream)
            self.stream = None
