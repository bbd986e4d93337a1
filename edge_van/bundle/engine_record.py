"""What is recorded of a TensorRT engine beside its plan, and of the choice among several; read without any engine.

In: ``engine.json``. Out: frozen records; the plan itself stays raw.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_van.bundle.layout import PLAN_NAME, RECORD_NAME
from edge_van.errors import BundleError

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


@dataclass(frozen=True)
class SchemeTiming:
    """One row of the table behind a choice: accuracy of the graph, time of the engine."""

    scheme: str
    top1_drop_points: float | None  # None: never measured
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
    (folder / RECORD_NAME).write_bytes(encode_record(record))
    return record


def read_engine_record(folder: Path) -> EngineRecord:
    """The ``engine.json`` of an engine's folder; ``BundleError`` if it is missing, broken or of a newer version."""
    path = folder / RECORD_NAME
    try:
        record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): build the engine again") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is no engine record ({error}): build the engine again") from error
    if not 1 <= record.schema_version <= ENGINE_SCHEMA_VERSION:
        raise BundleError(
            f"{path} has version {record.schema_version}, this edge-van reads up to {ENGINE_SCHEMA_VERSION}: upgrade "
            f"edge-van, or build the engine again"
        )
    return record


def encode_record(record: EngineRecord | EngineChoice) -> bytes:
    """Readable JSON, the same bytes for the same record."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def choose_engine(table: tuple[SchemeTiming, ...], max_drop_points: float, timed_by: str = "") -> EngineChoice:
    """The fastest scheme whose measured drop is within ``max_drop_points``.

    A scheme that was not timed, or whose accuracy is not known, is not chosen. ``active`` is None if none is left.
    """
    fit = [
        row
        for row in table
        if row.median_ms is not None and row.top1_drop_points is not None and row.top1_drop_points <= max_drop_points
    ]
    if not fit:
        return EngineChoice(None, max_drop_points, _why_none(table, max_drop_points), table, timed_by)
    best = min(fit, key=lambda row: (row.median_ms or 0.0, row.scheme))
    others = [row for row in fit if row is not best]
    reason = f"{best.scheme} is the fastest within {max_drop_points:g} points: {best.median_ms:.3f} ms"
    if others:
        second = min(others, key=lambda row: row.median_ms or 0.0)
        reason += f", the next {second.scheme} with {second.median_ms:.3f} ms"
    return EngineChoice(best.scheme, max_drop_points, reason, table, timed_by)


def _why_none(table: tuple[SchemeTiming, ...], max_drop_points: float) -> str:
    timed = [row for row in table if row.median_ms is not None]
    if not timed:
        return "no engine was timed"
    known = [row.top1_drop_points for row in timed if row.top1_drop_points is not None]
    if not known:
        return "the accuracy of no engine that was timed is known: run edge-van quantize again with --data"
    return f"every engine loses over {max_drop_points:g} points, the best {min(known):.2f}"


def over_the_limit(choice: EngineChoice) -> bool:
    """Whether engines were timed, and the accuracy of each that has one rules it out."""
    drops = [row.top1_drop_points for row in choice.table if row.median_ms is not None]
    known = [drop for drop in drops if drop is not None]
    return bool(known) and min(known) > choice.max_drop_points
