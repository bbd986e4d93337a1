"""What every inference engine offers: open a model file, run named arrays, close.

In: a model file and named numpy arrays. Out: named numpy arrays. The feed is checked here, before an engine sees it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edge_van.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape (None where free) and dtype of an input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Kernel(NamedTuple):
    """One executed kernel: its layer's name, its operator, the kernel the engine chose, milliseconds."""

    name: str
    operator: str
    kernel: str
    ms: float


class Session(ABC):
    """An opened model. A context manager; not thread-safe."""

    runtime: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    threads: int | None = None  # how many CPU threads the engine uses, where it says so
    streams: int = 1  # how many requests ``run_many`` keeps in flight

    @classmethod
    def preload(cls, **options: Any) -> None:
        """Import what opening a model with ``options`` would: every program pays that once, it is no model's load time.

        Raises ``MissingRuntimeError`` for what is not installed. Nothing, where a session imports nothing late.
        """
        return

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch. The arrays' names, dtypes and shapes must be the inputs'; else ``UsageError``.

        The arrays returned are the caller's own.
        """
        wanted = {i.name for i in self.inputs}
        if feed.keys() != wanted:
            raise UsageError(f"{self.runtime}: the model takes {sorted(wanted)}, the feed has {sorted(feed)}")
        for info in self.inputs:
            array = feed[info.name]
            if array.shape == info.shape and array.dtype == info.dtype:  # the common case, in a microsecond
                continue
            fits = len(array.shape) == len(info.shape) and all(
                want is None or want == got for want, got in zip(info.shape, array.shape, strict=True)
            )
            if array.dtype != info.dtype or not fits:
                raise UsageError(
                    f"{self.runtime}: input {info.name!r} takes {info.dtype} {info.shape}, "
                    f"got {array.dtype} {tuple(array.shape)}"
                )
        return self._run(feed)

    def run_many(self, feed: dict[str, np.ndarray], count: int) -> None:
        """Run the same feed ``count`` times for the time it takes; one after the other unless ``streams`` is over 1."""
        for _ in range(count):
            self.run(feed)

    def device_turn(self, feed: dict[str, np.ndarray]) -> Callable[[], float] | None:
        """Computes a feed that lies on an accelerator already, and returns the milliseconds that this one counted; None
        where the engine computes on the CPU, or does not tell."""
        return None

    def device_memory_mib(self, feed: dict[str, np.ndarray]) -> float | None:
        """What weights and maps take at most of an accelerator's memory; None where there is none or nobody tells."""
        return None

    def profile(self, feed: dict[str, np.ndarray], *, warmup: int, runs: int) -> list[Kernel]:
        """The mean time of every executed kernel over ``runs`` runs that follow ``warmup`` (at least one) others.

        The session must be opened with ``profile=True``. A mean because it is all that OpenVINO tells, and what two
        engines are compared by must be one statistic. ``UsageError`` where the engine's own profiler is not read.
        """
        raise UsageError(f"{self.runtime}: the time of each layer is read from OpenVINO and ONNX Runtime only")

    def sibling(self) -> Session:
        """A session with a request of its own on the same loaded model, for another thread; the caller's to close.

        ``UsageError`` where the engine has no such.
        """
        raise UsageError(f"{self.runtime}: only OpenVINO runs several requests of one loaded model at once")

    @abstractmethod
    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a feed that fits."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the engine's memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
