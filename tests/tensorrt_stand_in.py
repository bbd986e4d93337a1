"""A stand-in for NVIDIA's ``tensorrt``, whose hardware is not here: records what it is asked, computes nothing.

The names and the calls are those of its documented Python interface, 8.6 to 11.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class BuilderFlag(Enum):
    INT8, FP16, TF32 = range(3)


class Asked:
    """What a library was asked to do."""

    def __init__(self) -> None:
        self.network_flags: int | None = None
        self.parsed = b""
        self.flags: set[str] = {"TF32"}
        self.runs = True  # whether the engine does what it is told
        self.addresses: dict[str, int] = {}


def module_of(version: str) -> tuple[ModuleType, Asked]:
    """The module of that version, and what it was asked."""
    asked, major = Asked(), int(version.split(".")[0])
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    module.BuilderFlag = BuilderFlag
    members = {"EXPLICIT_BATCH": 0} if major < 11 else {}
    if 9 <= major < 11:
        members["STRONGLY_TYPED"] = 1
    module.NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", members) if members else object()
    module.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    module.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    module.nptype = lambda datatype: datatype

    class ILogger:
        ERROR, INTERNAL_ERROR = "error", "internal error"

    class Config:
        profiling_verbosity = ""

        def set_flag(self, flag: BuilderFlag) -> None:
            asked.flags.add(flag.name)

        def clear_flag(self, flag: BuilderFlag) -> None:
            asked.flags.discard(flag.name)

        def add_optimization_profile(self, profile: Any) -> None:
            pass

    class Builder:
        def __init__(self, logger: Any) -> None:
            pass

        def create_network(self, flags: int) -> Any:
            asked.network_flags = flags
            return SimpleNamespace(num_inputs=0)

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Any:
            return SimpleNamespace()

        def build_serialized_network(self, network: Any, config: Config) -> bytes:
            return b"plan"

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            pass

        def parse(self, content: bytes) -> bool:
            asked.parsed = content
            return True

    class Context:
        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            return shape[0] == 1

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (1, 4)

        def set_tensor_address(self, name: str, address: int) -> None:
            asked.addresses[name] = address

        def execute_async_v3(self, stream: int) -> bool:
            return asked.runs

    class Engine:
        num_io_tensors = 2

        def create_execution_context(self) -> Context:
            return Context()

        def get_tensor_name(self, i: int) -> str:
            return ("images", "logits")[i]

        def get_tensor_mode(self, name: str) -> str:
            return "input" if name == "images" else "output"

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (-1, 4)

        def get_tensor_dtype(self, name: str) -> Any:
            return np.float32

        def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
            return ((1, 4),) * 3

    class Logger(ILogger):
        def __init__(self, severity: str) -> None:
            pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> Engine:
            return Engine()

    for kind in (ILogger, Builder, OnnxParser, Logger, Runtime):
        setattr(module, kind.__name__, kind)
    return module, asked


class Buffers:
    """Device memory that is the host's: what was copied in comes out doubled."""

    stream = 7

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.closed = False

    def to_device(self, name: str, array: np.ndarray) -> int:
        self.arrays[name] = array.copy()
        return 100

    def pointer(self, name: str, size_bytes: int) -> int:
        return 200

    def to_host(self, name: str, array: np.ndarray) -> None:
        array[...] = 2 * self.arrays["images"]

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
