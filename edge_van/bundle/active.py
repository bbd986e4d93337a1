"""Which model of a bundle is the active one: the one that ``edge-van deploy`` left on a device, or that
``edge-van quantize`` found to be the best on this CPU.

In: a ``Bundle``. Out: an ``ActiveModel``, None where nothing was chosen for this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import ENGINE_RUNTIMES
from edge_van.bundle.layout import PRECISIONS
from edge_van.bundle.models import BundleModel, Takes, models_of
from edge_van.bundle.records import FileEntry
from edge_van.errors import BundleError, UsageError
from edge_van.machine import is_this_cpu
from edge_van.storage.json_format import JSONFormat

ACTIVE_NAME, ENGINE_NAME = "active.json", "engine.json"
ACTIVE_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ActiveRecord:
    """``active.json``: what the host chose for the device. ``file`` is relative to the folder."""

    schema_version: int
    runtime: str
    precision: str
    scheme: str | None
    file: str
    precision_hint: str | None  # of OpenVINO: "f32", "bf16" or "f16"


@dataclass(frozen=True)
class EngineFile:
    """``engine.json``: the engine that the device built, which no manifest lists."""

    schema_version: int
    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ActiveModel:
    """``bundle`` lists the model's files, an engine's too; ``options`` are those of the runtime."""

    bundle: Bundle
    model: BundleModel
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = ""  # where it is not the model's own: "bf16", or "int8_bf16"


def _format(record: type, called: str) -> JSONFormat[Any]:
    return JSONFormat(
        record,
        kind="",
        version=ACTIVE_SCHEMA_VERSION,
        oldest_version=1,
        max_bytes=2**16,
        called=called,
        again="deploy again",
        error=BundleError,
    )


_ACTIVE = _format(ActiveRecord, "record of an active model")
_ENGINE = _format(EngineFile, "record of an engine")


def active_model(bundle: Bundle) -> ActiveModel | None:
    """``BundleError`` for records that are broken or do not fit the bundle.

    What ``edge-van quantize`` chose holds for the CPU and the version of OpenVINO that it was measured with.
    """
    if not (bundle.path / ACTIVE_NAME).is_file():
        return _chosen_here(bundle)
    record: ActiveRecord = _ACTIVE.read(bundle.path / ACTIVE_NAME)
    if record.runtime in ENGINE_RUNTIMES:
        return _engine(bundle, record)
    for model in models_of(bundle.manifest):
        if (model.runtime, model.file) == (record.runtime, record.file):
            hint = record.precision_hint
            return ActiveModel(bundle, model, {} if hint is None else {"precision": hint})
    raise BundleError(
        f"{bundle.path / ACTIVE_NAME} names {record.file}, which its manifest does not list: deploy again"
    )


def _chosen_here(bundle: Bundle) -> ActiveModel | None:
    manifest = bundle.manifest
    chosen = None if manifest.cpu is None else manifest.cpu.active
    if chosen is None or not is_this_cpu(manifest.machine):
        return None
    return openvino_model(bundle, chosen)


def openvino_model(bundle: Bundle, precision: str) -> ActiveModel | None:
    """OpenVINO's model in one of ``PRECISIONS``; None where the bundle lists no such file."""
    file, hint = PRECISIONS[precision]
    found = (m for m in models_of(bundle.manifest) if (m.runtime, m.file) == ("openvino", file))
    return next(
        (ActiveModel(bundle, model, {"precision": hint}, precision if hint == "bf16" else "") for model in found), None
    )


def in_precision(bundle: Bundle, precision: str) -> ActiveModel:
    """As ``openvino_model``; ``UsageError`` for a precision that there is not, or for which the bundle has no model."""
    found = openvino_model(bundle, precision) if precision in PRECISIONS else None
    if found is None:
        there = [name for name in PRECISIONS if openvino_model(bundle, name) is not None]
        raise UsageError(f"{bundle.path} has no model in {precision!r}; OpenVINO runs {', '.join(there) or 'none'}")
    return found


def _engine(bundle: Bundle, record: ActiveRecord) -> ActiveModel:
    manifest = bundle.manifest
    if record.file not in {entry.path for entry in manifest.files}:
        bundle = _with_built_engine(bundle, record)
    takes: Takes = "pixels" if manifest.recipe.tensorrt_input == "uint8" else "floats"
    graph = next((s.file for s in manifest.schemes if s.name == record.scheme), record.file)
    model = BundleModel(record.runtime, record.precision, record.scheme, record.file, graph, takes)
    return ActiveModel(bundle, model)


def _with_built_engine(bundle: Bundle, record: ActiveRecord) -> Bundle:
    """The bundle that lists the engine, too, which the device built."""
    built: EngineFile = _ENGINE.read(bundle.path / ENGINE_NAME)
    if built.file != record.file:
        raise BundleError(f"{bundle.path / ENGINE_NAME} is about {built.file}, not {record.file}: deploy again")
    entry = FileEntry(built.file, built.size_bytes, built.sha256)
    return Bundle(bundle.path, replace(bundle.manifest, files=(*bundle.manifest.files, entry)))
