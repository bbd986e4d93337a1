"""Every engine of a bundle for one target: built, proved, timed where a GPU is there, and the fastest good one chosen.

In: a bundle with TensorRT graphs. Out: the bundle with ``tensorrt/<target>/<scheme>/`` and ``active.json`` in it, all
listed in its manifest.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_van.bundle.bundle import Bundle, as_bundle, update_manifest
from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet, SchemeTiming
from edge_van.bundle.files import file_entry
from edge_van.bundle.layout import PLAN_NAME, engines_folder
from edge_van.bundle.manifest import read_manifest
from edge_van.bundle.models import tensorrt_schemes
from edge_van.bundle.records import Manifest, SchemeResult
from edge_van.bundle.whole import require_fitting
from edge_van.engines.choice import choose_engine
from edge_van.engines.target import EnginesOptions, Target, find_target
from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.engines.trtexec import build_engine_with_trtexec, time_engine
from edge_van.errors import BundleError, EdgeVanError, UsageError
from edge_van.progress import UNWATCHED, Advance, Reporter, Work
from edge_van.runtimes.model_file import ModelFile
from edge_van.storage.folders import clear_errors, require_writable
from edge_van.storage.json_format import encode
from edge_van.storage.new_folder import NewFolder
from edge_van.timing.latency import RunLength, measure_latency

ACTIVE_NAME = "active.json"
TIMED_ROUNDS = 150


@dataclass(frozen=True)
class BuiltEngines:
    """The bundle with its engines, the name of the target's folder, and why a scheme is not there."""

    bundle: Bundle
    target: str
    failed: dict[str, str]


def build(
    bundle: Bundle | str | Path, *, options: EnginesOptions | None = None, work: Work = UNWATCHED
) -> BuiltEngines:
    """Build a TensorRT engine of every scheme, prove its precision, time it where its GPU is, choose the fastest.
    Engines of the same target that are there stay, if their graph is still the same. What was built is kept and
    listed even where other schemes failed: those are in ``failed``, and it is the caller's to end with an error.

    Raises the first failure where nothing was built, ``MissingRuntimeError`` where nothing can build here,
    ``BundleError`` for a bundle that cannot be written, without TensorRT graphs or with a damaged one.
    """
    bundle, options, reporter = as_bundle(bundle), options or EnginesOptions(), work.reporter
    require_writable(bundle.path)
    schemes = _schemes(bundle, options.schemes)
    bundle.check(*{s.file for s in schemes.values()})
    require_fitting(bundle)
    target = find_target(options)
    settings = BuildOptions(
        runtime=target.runtime,
        compute_capabilities=options.compute_capabilities,
        max_batch=options.max_batch,
        timing_cache=options.timing_cache,
        allow_fallback=options.allow_fallback,
    )
    tag = target.folder(settings.compute_capabilities)
    output = bundle.path / engines_folder(tag)
    with NewFolder(output, one_at_a_time=True) as new:  # each build keeps what the one before it made
        records, failed = _build_all(bundle, schemes, new.path, target, settings, reporter)
        records |= _kept(bundle, output, new.path, records, tag)
        times = _times(records, new.path, target, settings.compute_capabilities, reporter)
        limit = bundle.manifest.recipe.max_drop_points if options.max_drop_points is None else options.max_drop_points
        choice = _choose(bundle, failed, times, limit, target)
        with clear_errors(output):
            (new.path / ACTIVE_NAME).write_bytes(encode(choice))
            prefix = f"{engines_folder(tag)}/"
            entries = tuple(
                replace(file_entry(new.path, name), path=f"{prefix}{name}")
                for name in sorted(p.relative_to(new.path).as_posix() for p in new.path.rglob("*") if p.is_file())
            )

        def listed(manifest: Manifest) -> Manifest:
            """On the manifest as it is by then: another build may have written its own."""
            kept = tuple(f for f in manifest.files if not f.path.startswith(prefix))
            engines = manifest.engines | {tag: EngineSet(tuple(records.values()), choice)}
            return replace(manifest, files=(*kept, *entries), engines=engines)

        updated = [bundle]
        new.put_in_place(commit=lambda: updated.append(update_manifest(bundle, listed)))
    return BuiltEngines(updated[-1], tag, failed)


def _kept(
    bundle: Bundle, output: Path, partial: Path, built: Mapping[str, EngineRecord], tag: str
) -> dict[str, EngineRecord]:
    """Engines of schemes that were not built now, carried over where plan and graph are what they were."""
    manifest = read_manifest(bundle.path)  # as it is by now
    there = manifest.engines.get(tag)
    hashes = {entry.path: entry.sha256 for entry in manifest.files}
    files = {scheme.name: scheme.file for scheme in tensorrt_schemes(manifest)}
    kept = {}
    for record in () if there is None else there.engines:
        name = record.scheme
        same_graph = hashes.get(files.get(name, "")) == record.onnx_sha256
        if name in built or not same_graph or not _is_whole(output / name / PLAN_NAME, record):
            continue
        fresh = {p.name for p in (partial / name).glob("*")}  # the log of a build that failed just now stays
        shutil.copytree(output / name, partial / name, dirs_exist_ok=True, ignore=lambda *_, fresh=fresh: fresh)
        kept[name] = record
    return kept


def _is_whole(plan: Path, record: EngineRecord) -> bool:
    """A plan that was damaged since is never taken over, and so never hashed anew as if it were good."""
    try:
        return hashlib.sha256(plan.read_bytes()).hexdigest() == record.plan_sha256
    except OSError:
        return False


def _schemes(bundle: Bundle, names: tuple[str, ...]) -> dict[str, SchemeResult]:
    there = {scheme.name: scheme for scheme in tensorrt_schemes(bundle.manifest)}
    if not there:
        raise BundleError(
            f"{bundle.path} holds no graph for TensorRT: make it with edge-van quantize --target openvino,tensorrt"
        )
    if unknown := [n for n in names if n not in there]:
        raise UsageError(f"{bundle.path} has no scheme {', '.join(unknown)}; it has {', '.join(there)}")
    return {n: s for n, s in there.items() if not names or n in names}


def _build_all(
    bundle: Bundle,
    schemes: dict[str, SchemeResult],
    folder: Path,
    target: Target,
    build: BuildOptions,
    reporter: Reporter,
) -> tuple[dict[str, EngineRecord], dict[str, str]]:
    records: dict[str, EngineRecord] = {}
    failed: dict[str, EdgeVanError] = {}
    for name, scheme in schemes.items():
        place = folder / name
        place.mkdir()
        onnx = bundle.file(scheme.file)
        with reporter.stage(f"Building {name}") as advance:

            def phase(_: str, advance: Advance = advance) -> None:
                advance(1)

            try:
                if target.tool is not None and target.gpu is not None:
                    records[name] = build_engine_with_trtexec(
                        target.tool,
                        onnx,
                        place,
                        name,
                        gpu=target.gpu.name,
                        capability=target.gpu.compute_capability,
                        allow_fallback=build.allow_fallback,
                    )
                else:
                    records[name] = build_engine(onnx, place, name, build, progress=phase)
            except EdgeVanError as error:
                failed[name] = error
                reporter.note(f"warning: {name} was not built: {error}")
    if not records:
        logs = Path(tempfile.mkdtemp(prefix="edge-van-build-"))
        shutil.copytree(folder, logs, dirs_exist_ok=True)
        reporter.note(f"the builder's logs: {logs}")
        raise next(iter(failed.values()))
    return records, {name: str(error) for name, error in failed.items()}


@dataclass(frozen=True)
class _Times:
    """(median, p99) milliseconds by scheme, and of the others why there is none."""

    ms: dict[str, tuple[float, float]]
    notes: dict[str, str]


def _times(
    records: Mapping[str, EngineRecord], folder: Path, target: Target, cards: tuple[str, ...], reporter: Reporter
) -> _Times:
    if target.gpu is None:
        return _Times({}, dict.fromkeys(records, "not timed: no GPU here"))
    if cards and target.gpu.compute_capability not in cards:
        why = f"not timed: the GPU here ({target.gpu.name}) is none it was built for"
        return _Times({}, dict.fromkeys(records, why))
    notes: dict[str, str] = {}
    samples: dict[str, list[float]] = {name: [] for name in records}
    for name in (*records, *reversed(list(records))):  # there and back: a GPU that warms up slows all alike
        try:
            samples[name] += _time(name, folder, target, reporter)
            if not samples[name]:
                notes[name] = "not timed: no inference was counted"
        except EdgeVanError as error:
            notes[name] = f"not timed: {error}"
        except Exception as error:  # noqa: BLE001  whatever a driver does, the engines that were built are kept
            notes[name] = f"not timed: {type(error).__name__}: {error}"
    ms = {n: (float(np.median(s)), float(np.percentile(s, 99))) for n, s in samples.items() if n not in notes}
    return _Times(ms, notes)


def _choose(
    bundle: Bundle, failed: Mapping[str, str], times: _Times, max_drop_points: float, target: Target
) -> EngineChoice:
    """Among the schemes with an engine; every row without a time says why."""
    timed = {*times.ms, *times.notes}  # a scheme that failed may have an engine of before
    notes = {**{name: why for name, why in failed.items() if name not in timed}, **times.notes}
    table = []
    for scheme in bundle.manifest.schemes:
        if scheme.name not in timed and scheme.name not in failed:
            continue
        drop = None if scheme.accuracy is None else scheme.accuracy.worst.drop_points
        median, p99 = times.ms.get(scheme.name, (None, None))
        table.append(SchemeTiming(scheme.name, drop, median, p99, notes.get(scheme.name, "")))
    timed_by = (
        "trtexec, GPU compute time" if target.tool is not None else "wall time with the copies to and from the GPU"
    )
    return choose_engine(tuple(table), max_drop_points, timed_by if times.ms else "")


def _time(name: str, folder: Path, target: Target, reporter: Reporter) -> tuple[float, ...]:
    """Milliseconds of each inference: trtexec's GPU times, or ours, with the copies."""
    if target.tool is not None:
        with reporter.stage(f"Timing {name}"):
            return time_engine(target.tool, folder / name)
    candidate = ModelFile(name, target.runtime, folder / name / PLAN_NAME)
    with reporter.stage(f"Timing {name}", TIMED_ROUNDS) as advance:
        latency = measure_latency([candidate], baseline=name, length=RunLength(TIMED_ROUNDS), progress=advance)
    return latency.rows[0].samples_ms
