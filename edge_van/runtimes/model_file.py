"""A model file and how it is opened: what is timed, measured or run, by whichever engine.

In: a runtime's name, a path, the runtime's options. Out: a ``Session``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_van.runtimes import Session, open_model


@dataclass(frozen=True)
class ModelFile:
    """``name`` stands in tables; ``options`` are those of ``runtime``."""

    name: str
    runtime: str
    path: Path
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, **options: Any) -> Session:
        """A new session, the caller's to close; ``options`` over its own. Raises as ``open_model``."""
        return open_model(self.runtime, self.path, **{**self.options, **options})


def exact_graph(path: Path) -> ModelFile:
    """An ONNX file that ONNX Runtime computes exactly as it is written."""
    return ModelFile(path.name, "onnxruntime", path, {"exact": True})
