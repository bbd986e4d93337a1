"""Engines that are built here for a device: TensorRT for RTX builds ahead of time, without the device's card.

In: a ``Bundle``, what the device said of itself. Out: ``EnginesHere``: a folder for each scheme, with plan and record.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineRecord
from edge_van.bundle.layout import plan_path
from edge_van.bundle.models import tensorrt_schemes
from edge_van.bundle.records import SchemeResult
from edge_van.engines.layer_table import require_precision
from edge_van.engines.target import EnginesOptions, Target, find_target
from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.errors import EdgeVanError, UsageError, VerificationError
from edge_van.progress import Work

RUNTIME = "tensorrt_rtx"


@dataclass(frozen=True)
class EnginesHere:
    """``folders`` by scheme, of the target ``tag``; ``failed`` says of the others why there is none."""

    tag: str
    folders: dict[str, Path]
    failed: dict[str, EdgeVanError]


@contextmanager
def engines_here(bundle: Bundle, probe: dict[str, Any], names: tuple[str, ...], work: Work) -> Iterator[EnginesHere]:
    """An engine of each of the bundle's graphs that ``names`` has: the bundle's own, where ``edge-van build`` made it
    for this card and version and each layer runs as its graph says; else it is built, and is there as long as this.

    Raises ``UsageError`` for a card that none are built for, and the first failure where there is no engine at all:
    ``UsageError`` where the device has another version than this machine, which could not run them,
    ``MissingRuntimeError`` where nothing here builds, ``VerificationError`` where none can be built.
    """
    card, tag = _target(probe)
    graphs = {scheme.name: scheme for scheme in tensorrt_schemes(bundle.manifest)}
    folders: dict[str, Path] = {}
    failed: dict[str, EdgeVanError] = {}
    with tempfile.TemporaryDirectory(prefix="edge-van-engines-") as made:
        for scheme in (graphs[name] for name in names if name in graphs):
            folder = bundle.path / plan_path(tag, scheme.name)
            if _is_good(bundle, tag, scheme):
                folders[scheme.name] = folder.parent
                continue
            try:
                folders[scheme.name] = _built(bundle, scheme, card, probe, Path(made), work)
            except EdgeVanError as error:
                failed[scheme.name] = error
        if failed and not folders:
            raise next(iter(failed.values()))
        yield EnginesHere(tag, folders, failed)


def _target(probe: dict[str, Any]) -> tuple[str, str]:
    """(compute capability, the name of a bundle's engines for the card and the version of the device)."""
    about = probe[RUNTIME]
    try:
        [card] = BuildOptions(RUNTIME, (about["compute_capability"],)).compute_capabilities
    except UsageError as error:
        raise UsageError(f"the device's card is a {about['gpu']}: {error}") from None
    return card, Target(RUNTIME, about["version"], None).folder((card,))


def _is_good(bundle: Bundle, tag: str, scheme: SchemeResult) -> bool:
    """Whether the bundle has an engine of that graph as it is now, whole, its precision proved."""
    there = bundle.manifest.engines.get(tag)
    record: EngineRecord | None
    record = None if there is None else next((e for e in there.engines if e.scheme == scheme.name), None)
    graph = next(entry.sha256 for entry in bundle.manifest.files if entry.path == scheme.file)
    if record is None or record.onnx_sha256 != graph:
        return False
    try:
        require_precision(record.layers, floats=True)  # --allow-fallback may have built it nevertheless
        plan = (bundle.path / plan_path(tag, scheme.name)).read_bytes()
    except (VerificationError, OSError):
        return False
    return hashlib.sha256(plan).hexdigest() == record.plan_sha256


def _built(bundle: Bundle, scheme: SchemeResult, card: str, probe: dict[str, Any], made: Path, work: Work) -> Path:
    here, device = find_target(EnginesOptions(RUNTIME, (card,))).version, probe[RUNTIME]["version"]
    if here != device:
        raise UsageError(
            f"the device has TensorRT for RTX {device}, this machine {here}: an engine runs on the version that built "
            f"it; install the same on both"
        )
    bundle.check(scheme.file)
    folder = made / scheme.name
    folder.mkdir()
    with work.reporter.stage(f"Building {scheme.name} for {probe[RUNTIME]['gpu']}") as advance:
        options = BuildOptions(RUNTIME, (card,))
        build_engine(Path(bundle.file(scheme.file)), folder, scheme.name, options, progress=lambda _: advance(1))
    return folder
