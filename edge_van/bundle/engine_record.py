"""What is recorded of a TensorRT engine beside its plan, and of the choice among several; read without any engine.

In: ``engine.json``. Out: frozen records; the plan itself stays raw.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.bundle.layout import PLAN_NAME, RECORD_NAME
from edge_van.errors import BundleError
from edge_van.storage.json_format import JSONFormat, encode

ENGINE_SCHEMA_VERSION = 1
ENGINE_RUNTIMES = ("tensorrt", "tensorrt_rtx")
"""Those that run an engine; trtexec only times one."""


@dataclass(frozen=True)
class PrecisionRow:
    """In which datatype one layer runs: "int8", "fp16", "fp32", or "fused" where no kernel of its own shows it."""

    layer: str
    scheme: str  # "int8", "fp16" or "fp32": what the graph asks for
    runs_in: str
    kernel: str


@dataclass(frozen=True)
class EngineRecord:
    """One engine: what built it, from what, for which GPUs, and in which datatype each layer runs."""

    schema_version: int
    scheme: str
    runtime: str  # "tensorrt" or "tensorrt_rtx"
    version: str
    compute_capabilities: tuple[str, ...]  # "8.7"; an engine runs on these and no others
    gpu: str | None  # the card it was built on; None where it was built ahead of time
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    build_s: float
    timing_cache: str  # "none", "new", "reused", "refused" or "not written"
    layers: tuple[PrecisionRow, ...]
    warnings: tuple[str, ...] = ()
    max_batch: int = 1  # it takes one image to so many; an older record does not say


@dataclass(frozen=True)
class SchemeTiming:
    """One row of the table behind a choice: accuracy of the graph, time of the engine."""

    scheme: str
    drop_points: float | None  # None: never measured
    median_ms: float | None  # None: it could not be built or run; ``note`` says why
    p99_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class EngineChoice:
    """Which engine is active on a device, and the table it was chosen from."""

    active: str | None
    max_drop_points: float
    reason: str
    table: tuple[SchemeTiming, ...]
    timed_by: str = ""
    """What the milliseconds are; only choices of one kind can be compared."""


@dataclass(frozen=True)
class EngineSet:
    """All engines of a bundle for one target, and the choice among them."""

    engines: tuple[EngineRecord, ...]
    choice: EngineChoice


def write_engine(folder: Path, plan: bytes, onnx: Path, **fields: Any) -> EngineRecord:
    """Write the plan and its record into ``folder``; ``fields`` are those that the two files do not say themselves."""
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        onnx=onnx.name,
        onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        **fields,
    )
    (folder / PLAN_NAME).write_bytes(plan)
    (folder / RECORD_NAME).write_bytes(encode(record))
    return record


ENGINE_FORMAT = JSONFormat(
    EngineRecord,
    kind="",
    version=ENGINE_SCHEMA_VERSION,
    oldest_version=1,
    max_bytes=64 * 2**20,
    called="engine record",
    again="build the engine again",
    error=BundleError,
)


def read_engine_record(folder: Path) -> EngineRecord:
    """The ``engine.json`` of an engine's folder; ``BundleError`` if it is missing, broken or of a newer version."""
    return ENGINE_FORMAT.read(folder / RECORD_NAME)
