"""Every engine of a bundle for one target: built, proved, timed where a GPU is there, and the fastest good one chosen.

In: a bundle with TensorRT graphs. Out: the bundle with ``tensorrt/<target>/<scheme>/`` and ``active.json`` in it, all
listed in its manifest.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_van.atomic import clean_up_after_killed_runs, clear_errors, hidden_folder, put_in_place
from edge_van.benchmark import Candidate, measure_latency
from edge_van.bundle import Bundle, file_entry, update_manifest
from edge_van.engine_record import (
    PLAN_NAME,
    EngineChoice,
    EngineRecord,
    EngineSet,
    SchemeTiming,
    choose_engine,
    encode_record,
)
from edge_van.errors import BundleError, EdgeVanError, MissingRuntimeError, UsageError
from edge_van.export.tensorrt import RTX_CAPABILITIES, BuildOptions, build_engine
from edge_van.progress import Reporter
from edge_van.records import SchemeResult
from edge_van.runtimes.cuda import Device, device
from edge_van.runtimes.tensorrt import load_tensorrt
from edge_van.trtexec import Trtexec, build_engine_with_trtexec, find_trtexec, time_engine

ACTIVE_NAME = "active.json"
RUNTIMES = ("tensorrt", "tensorrt_rtx", "trtexec")
TIMED_ROUNDS = 300
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
    max_drop_points: float = 1.0


@dataclass(frozen=True)
class _Target:
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


def build_engines(bundle: Bundle, options: EnginesOptions, reporter: Reporter) -> tuple[Bundle, str]:
    """Build, time and choose; the updated bundle and the name of the target's folder.

    A scheme that cannot be built is an error, unless another one can: then the table says why it is not there. Raises
    ``MissingRuntimeError`` where nothing can build here, ``BundleError`` for a bundle without TensorRT graphs.
    """
    schemes = _schemes(bundle, options.schemes)
    target = _target(options)
    build = BuildOptions(
        runtime=target.runtime,
        compute_capabilities=options.compute_capabilities,
        max_batch=options.max_batch,
        timing_cache=options.timing_cache,
        allow_fallback=options.allow_fallback,
    )
    tag = target.folder(build.compute_capabilities)
    output = bundle.path / "tensorrt" / tag
    with clear_errors(output):
        output.parent.mkdir(exist_ok=True)
        clean_up_after_killed_runs(output)
        partial, lock = hidden_folder(output)
    try:
        records, failed = _build_all(bundle, schemes, partial, target, build, reporter)
        choice = _choose(schemes, records, failed, partial, target, options, reporter)
        (partial / ACTIVE_NAME).write_bytes(encode_record(choice))
        with clear_errors(output):
            put_in_place(partial, output, lambda there: None)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
    prefix = f"tensorrt/{tag}/"
    names = sorted(p.relative_to(bundle.path).as_posix() for p in output.rglob("*") if p.is_file())
    kept = tuple(f for f in bundle.manifest.files if not f.path.startswith(prefix))
    updated = update_manifest(
        bundle,
        files=(*kept, *(file_entry(bundle.path, name) for name in names)),
        engines=bundle.manifest.engines | {tag: EngineSet(tuple(records.values()), choice)},
    )
    return updated, tag


def _schemes(bundle: Bundle, names: tuple[str, ...]) -> dict[str, SchemeResult]:
    there = {s.name: s for s in bundle.manifest.schemes if s.target == "tensorrt"}
    if not there:
        raise BundleError(
            f"{bundle.path} holds no graph for TensorRT: make it with edge-van quantize --target openvino,tensorrt"
        )
    if unknown := [n for n in names if n not in there]:
        raise UsageError(f"{bundle.path} has no scheme {', '.join(unknown)}; it has {', '.join(there)}")
    return {n: s for n, s in there.items() if not names or n in names}


def _target(options: EnginesOptions) -> _Target:
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


def _open(runtime: str, options: EnginesOptions) -> _Target:
    if runtime == "trtexec":
        tool = find_trtexec()
        return _Target("tensorrt", tool.version, _device_of_trtexec(), tool)
    version = load_tensorrt(runtime).__version__
    if runtime == "tensorrt":
        return _Target(runtime, version, device())
    if not options.compute_capabilities:
        raise UsageError(
            f"TensorRT for RTX builds ahead of time: name the cards with --compute-capability "
            f"({', '.join(RTX_CAPABILITIES.values())})"
        )
    try:
        gpu = device()
    except MissingRuntimeError:
        gpu = None  # none is needed to build, only to time
    return _Target(runtime, version, gpu)


def _device_of_trtexec() -> Device:
    """The binary needs no Python package, so neither does this: the Jetson's name serves where CUDA cannot be asked."""
    try:
        return device()
    except MissingRuntimeError:
        name = MODEL_FILE.read_text(errors="replace").strip("\x00 \n") if MODEL_FILE.is_file() else "gpu"
        return Device(name, "")


def _build_all(
    bundle: Bundle,
    schemes: dict[str, SchemeResult],
    folder: Path,
    target: _Target,
    build: BuildOptions,
    reporter: Reporter,
) -> tuple[dict[str, EngineRecord], dict[str, str]]:
    records: dict[str, EngineRecord] = {}
    failed: dict[str, EdgeVanError] = {}
    for name, scheme in schemes.items():
        place = folder / name
        place.mkdir()
        onnx = bundle.file(scheme.file)
        with reporter.stage(f"Building {name}"):
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
                    records[name] = build_engine(onnx, place, name, build)
            except EdgeVanError as error:
                failed[name] = error
                reporter.note(f"warning: {name} was not built: {error}")
    if not records:
        raise next(iter(failed.values()))
    return records, {name: str(error) for name, error in failed.items()}


def _choose(
    schemes: dict[str, SchemeResult],
    records: dict[str, EngineRecord],
    failed: dict[str, str],
    folder: Path,
    target: _Target,
    options: EnginesOptions,
    reporter: Reporter,
) -> EngineChoice:
    times: dict[str, tuple[float, float]] = {}
    note = "not timed: no GPU here"
    if target.gpu is not None:
        note = ""
        times = dict(_times(records, folder, target, reporter))
    table = []
    for name, scheme in schemes.items():
        drop = None if scheme.accuracy is None else scheme.accuracy.top1_drop_points
        median, p99 = times.get(name, (None, None))
        table.append(SchemeTiming(name, drop, median, p99, failed.get(name, note if median is None else "")))
    return choose_engine(tuple(table), options.max_drop_points)


def _times(
    records: dict[str, EngineRecord], folder: Path, target: _Target, reporter: Reporter
) -> Iterator[tuple[str, tuple[float, float]]]:
    """(scheme, (median, p99)) in milliseconds: trtexec's GPU times, or ours, interleaved, with the copies."""
    if target.tool is not None:
        for name in records:
            with reporter.stage(f"Timing {name}"):
                samples = np.array(time_engine(target.tool, folder / name))
            yield name, (float(np.median(samples)), float(np.percentile(samples, 99)))
        return
    candidates = [Candidate(name, target.runtime, folder / name / PLAN_NAME) for name in records]
    with reporter.stage("Timing the engines", TIMED_ROUNDS) as advance:
        latency = measure_latency(candidates, baseline=candidates[0].name, rounds=TIMED_ROUNDS, progress=advance)
    for row in latency.rows:
        yield row.name, (row.median_ms, row.p99_ms)
