"""What every peer hands over: a name, and a function that opens it as a ``Session`` of batch 1.

In: a model file or a function on arrays. Out: ``Peer``, ``Unavailable`` and ``FunctionSession``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_van.runtimes import Session, TensorInfo, open_model

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Normalised images (1, 3, H, W) in, logits (1, classes) out."""


@dataclass(frozen=True)
class Peer:
    """A model that can be run; ``how`` says with what, in the words that stand in the result."""

    name: str
    how: str
    open: Callable[[int], Session]  # takes the number of threads


@dataclass(frozen=True)
class Unavailable:
    """A peer that cannot be built or run on this machine, and its own words why."""

    name: str
    reason: str


class FunctionSession(Session):
    """A function on float arrays behind the interface that everything else is measured through."""

    def __init__(self, runtime: str, forward: Forward, size: tuple[int, int], classes: int, threads: int) -> None:
        self.runtime = runtime
        self.threads = threads
        self.inputs = (TensorInfo("images", (1, 3, *size), np.dtype(np.float32)),)
        self.outputs = (TensorInfo("logits", (1, classes), np.dtype(np.float32)),)
        self._forward: Forward | None = forward

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self._forward is not None, "the session is closed"
        return {"logits": self._forward(feed["images"])}

    def close(self) -> None:
        self._forward = None


def openvino_peer(name: str, how: str, path: Path, precision: str = "f32") -> Peer:
    """An IR run by OpenVINO in ``precision`` where it is not INT8, with the latency hint."""
    return Peer(name, how, lambda threads: open_model("openvino", path, threads=threads, precision=precision))


def attempt(names: Iterable[str], build: Callable[[], list[Peer]]) -> list[Peer | Unavailable]:
    """The peers that ``build`` makes, or for each of ``names`` the reason why it cannot.

    A tool that is not installed, misses a compiler or refuses the network is a result, not the end of the run.
    """
    try:
        return list(build())
    except (ImportError, RuntimeError, ValueError, OSError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        return [Unavailable(name, f"{type(error).__name__}: {lines[0]}") for name in names]
