"""TensorRT engines on the NVIDIA GPU they were built for; ``tensorrt_rtx`` is the same with another library.

In: an engine's plan (``model.engine``), its record beside it. Out: a ``Session``. Not yet run on hardware.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edge_van.bundle.engine_record import EngineRecord, read_engine_record
from edge_van.bundle.layout import RECORD_NAME
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.runtimes.base import Session, TensorInfo
from edge_van.runtimes.cuda import Buffers, Device, device, load_cuda

_HOW = {
    "tensorrt": "on a Jetson it comes with JetPack 6 and later (apt install python3-libnvinfer, and a virtual "
    "environment of the system's Python with --system-site-packages)",
    "tensorrt_rtx": "pip install 'edge-van[tensorrt-rtx]'",
}


def load_tensorrt(runtime: str) -> ModuleType:
    """``tensorrt`` or ``tensorrt_rtx``; ``MissingRuntimeError`` says how to get it, or what in it is broken."""
    try:
        module = import_module(runtime)
        if not hasattr(module, "__version__"):  # a folder of that name on the path: every bundle with engines has one
            raise ModuleNotFoundError(name=runtime)
        return module
    except ModuleNotFoundError as error:
        if error.name != runtime:
            raise MissingRuntimeError(f"{runtime} is installed but lacks {error.name}: install it again") from error
        raise MissingRuntimeError(f"{runtime} is not installed: {_HOW[runtime]}") from error
    except (ImportError, OSError) as error:
        raise MissingRuntimeError(f"{runtime} is installed but does not load: {error}") from error


def check_fits(record: EngineRecord, plan: Path, version: str, gpu: Device) -> None:
    """``BundleError`` where the engine was built by another version or for another GPU: it must be built again."""
    # trtexec prints three parts where the library says four
    here, there = (re.findall(r"\d+", v) for v in (version, record.version))
    parts = max(3, min(len(here), len(there)))
    if here[:parts] != there[:parts]:
        raise BundleError(
            f"{plan} was built by {record.runtime} {record.version}, here is {version}: an engine runs on the version "
            f"that built it; build it again with edge-van build"
        )
    if record.compute_capabilities and gpu.compute_capability not in record.compute_capabilities:
        raise BundleError(
            f"{plan} was built for compute capability {', '.join(record.compute_capabilities)}, this GPU ({gpu.name}) "
            f"has {gpu.compute_capability}: build it again with edge-van build"
        )


class TensorRTSession(Session):
    """An engine with its execution context; a free batch dimension takes what the feed has, up to the engine's."""

    runtime = "tensorrt"

    @classmethod
    def preload(cls, **options: Any) -> None:
        load_tensorrt(cls.runtime)
        load_cuda()

    def __init__(self, path: Path, *, threads: int | None = None, stage_map: int | None = None) -> None:
        if stage_map is not None:
            raise UsageError(
                f"{self.runtime}: an engine shows no inner maps, its layers are fused: ask OpenVINO or ONNX Runtime "
                f"for the map of stage {stage_map}, which run the same network"
            )
        if threads is not None:
            raise UsageError(f"{self.runtime} runs on the GPU and takes no number of threads")
        if not path.is_file():
            raise BundleError(f"{path} is not there: build the engine with edge-van build")
        trt = load_tensorrt(self.runtime)
        gpu = device()
        if (path.parent / RECORD_NAME).is_file():
            check_fits(read_engine_record(path.parent), path, trt.__version__, gpu)
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise BundleError(
                f"{self.runtime} {trt.__version__} cannot open {path.name} on this GPU ({gpu.name}): it was built by "
                f"another version, for another GPU, or is damaged; build it again with edge-van build"
            )
        self._context = self._make_context(trt)
        if self._context is None:
            raise MissingRuntimeError(f"{self.runtime} has no memory for {path.name} on this GPU ({gpu.name})")
        self._buffers = Buffers()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {n: self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self.inputs = tuple(self._info(trt, n) for n in names if is_input[n])
        self.outputs = tuple(self._info(trt, n) for n in names if not is_input[n])

    def _make_context(self, trt: Any) -> Any:
        return self._engine.create_execution_context()

    def _info(self, trt: Any, name: str) -> TensorInfo:
        shape = tuple(None if d < 0 else int(d) for d in self._engine.get_tensor_shape(name))
        return TensorInfo(name, shape, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))))

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in feed.items():
            contiguous = np.ascontiguousarray(array)
            if not self._context.set_input_shape(name, contiguous.shape):
                low, _, high = self._engine.get_tensor_profile_shape(name, 0)
                raise UsageError(f"{self.runtime}: {name} takes {tuple(low)} to {tuple(high)}, got {contiguous.shape}")
            self._context.set_tensor_address(name, self._buffers.to_device(name, contiguous))
        results = {}
        for info in self.outputs:
            results[info.name] = np.empty(tuple(self._context.get_tensor_shape(info.name)), info.dtype)
            address = self._buffers.pointer(info.name, results[info.name].nbytes)
            self._context.set_tensor_address(info.name, address)
        if not self._context.execute_async_v3(int(self._buffers.stream)):
            raise MissingRuntimeError(f"{self.runtime} could not run the engine: see its messages above")
        for name, array in results.items():
            self._buffers.to_host(name, array)
        self._buffers.synchronize()
        return results

    def close(self) -> None:
        self._buffers.close()
        self._context = self._engine = self._runtime = None
