"""What builds engines here, and for which GPU.

In: what the user asked for. Out: the library or binary to build with, its version, and the GPU if there is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_van.engines.tensorrt import RTX_CAPABILITIES
from edge_van.engines.trtexec import Trtexec, find_trtexec
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.runtimes.cuda import Device, device
from edge_van.runtimes.tensorrt import load_tensorrt

RUNTIMES = ("tensorrt", "tensorrt_rtx", "trtexec")
MODEL_FILE = Path("/proc/device-tree/model")


@dataclass(frozen=True)
class EnginesOptions:
    """What to build. ``runtime`` None takes what is there: tensorrt, then trtexec, then tensorrt_rtx."""

    runtime: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    max_batch: int = 1
    timing_cache: Path | None = None
    allow_fallback: bool = False
    max_drop_points: float | None = None  # None: the limit of the bundle's recipe


@dataclass(frozen=True)
class Target:
    """Where engines are built for: the library or binary, and the GPU if there is one."""

    runtime: str
    version: str
    gpu: Device | None
    tool: Trtexec | None = None

    def folder(self, capabilities: tuple[str, ...]) -> str:
        """``<gpu>-<version>``."""
        if self.gpu is not None and not capabilities:
            capability = self.gpu.compute_capability.replace(".", "")
            words = f"{self.gpu.name}-sm{capability}" if capability else self.gpu.name
        else:
            words = "rtx-" + "-".join(RTX_CAPABILITIES[c].lower() for c in capabilities)
        return re.sub(r"[^a-z0-9.]+", "-", f"{words}-{self.version}".lower()).strip("-")


def find_target(options: EnginesOptions) -> Target:
    """``MissingRuntimeError`` where nothing here can build, ``UsageError`` for what cannot be meant."""
    if find_spec("onnx") is None:
        raise MissingRuntimeError(
            "building an engine needs onnx, which is not installed: pip install 'edge-van[tensorrt]'"
        )
    if options.runtime not in (None, *RUNTIMES):
        raise UsageError(f"engines are built by {', '.join(RUNTIMES)}, not {options.runtime!r}")
    if options.runtime is None and options.compute_capabilities:
        return _open("tensorrt_rtx", options)
    if options.runtime is not None:
        return _open(options.runtime, options)
    reasons = []
    for runtime in ("tensorrt", "trtexec", "tensorrt_rtx"):
        try:
            return _open(runtime, options)
        except (MissingRuntimeError, UsageError) as error:
            reasons.append(f"{runtime}: {error}")
    raise MissingRuntimeError(f"nothing here can build an engine: {'; '.join(reasons)}")


def _open(runtime: str, options: EnginesOptions) -> Target:
    if runtime == "trtexec":
        if options.max_batch != 1 or options.timing_cache is not None:
            raise UsageError("trtexec builds for one image and without a timing cache: leave those flags out")
        tool = find_trtexec()
        return Target("tensorrt", tool.version, _device_of_trtexec(), tool)
    version = load_tensorrt(runtime).__version__
    if runtime == "tensorrt":
        return Target(runtime, version, device())
    if not options.compute_capabilities:
        raise UsageError(
            f"TensorRT for RTX builds ahead of time: name the cards with --compute-capability "
            f"({', '.join(RTX_CAPABILITIES.values())})"
        )
    try:
        gpu = device()
    except MissingRuntimeError:
        gpu = None  # none is needed to build, only to time
    return Target(runtime, version, gpu)


def _device_of_trtexec() -> Device:
    """The binary needs no Python package, so neither does this: the Jetson's name serves where CUDA cannot be asked."""
    try:
        return device()
    except MissingRuntimeError:
        name = MODEL_FILE.read_text(errors="replace").strip("\x00 \n") if MODEL_FILE.is_file() else "gpu"
        return Device(name, "")
