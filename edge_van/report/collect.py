"""From what the command line names to one ``Report`` record: bundles, their benchmarks, images, verdicts.

In: folders of bundles and results of ``edge-van benchmark``. Out: a ``Report``; nothing is drawn or written here.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from edge_van import __version__
from edge_van.assets import DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.benchmark_record import BENCHMARK_NAME, BenchmarkBundle, BenchmarkResult, read_benchmark
from edge_van.bundle import MANIFEST_NAME, Bundle, open_bundle
from edge_van.errors import DataError, EdgeVanError, MissingRuntimeError, UsageError
from edge_van.progress import Reporter, one_line
from edge_van.records import Manifest
from edge_van.report.compare import compare
from edge_van.report.explain import NoModelsError, explain
from edge_van.report.record import REPORT_KIND, REPORT_SCHEMA_VERSION, Report, Side
from edge_van.report.verdict import judge

IMAGE_LIMIT = 2000
CAM_LIMIT = 100


@dataclass(frozen=True)
class ReportOptions:
    """How much is measured for a report."""

    data: Path | None = None  # labelled images; None: the demo's for the demo, none for any other bundle
    image_limit: int = IMAGE_LIMIT  # images that flips are looked for among, evenly over all
    cam_limit: int = CAM_LIMIT  # images whose Grad-CAMs are compared


@dataclass(frozen=True)
class _Subject:
    """One argument of the command: a bundle's folder, or a result alone."""

    path: Path
    bundle: Bundle | None
    result: BenchmarkResult | None
    sides: tuple[Side, ...] = field(default=())


def collect(subjects: Sequence[Path], options: ReportOptions, reporter: Reporter) -> Report:
    """The report of one or two subjects; a benchmark's result with several bundles gives a side for each.

    Raises ``UsageError`` for a subject that is neither, for the same one twice, or for a ``benchmark.json`` that
    another bundle's measurement left; ``BundleError`` for a damaged bundle.
    """
    opened = [_open(path) for path in subjects]
    runs = _distinct(subject.result for subject in opened if subject.result is not None)
    sides: list[Side] = []
    for subject in opened:
        run = None if subject.result is None else runs.index(subject.result)
        if subject.bundle is None:
            found = subject.result.bundles if subject.result is not None else ()
            sides += [Side(bundle.name, None, run, bundle.name, None, _no_images()) for bundle in found]
        else:
            sides.append(_bundle_side(subject.bundle, subject.result, run, options, reporter))
    sides = _unique(_joined(sides, runs))
    return Report(
        REPORT_SCHEMA_VERSION,
        REPORT_KIND,
        __version__,
        datetime.now(UTC).isoformat(timespec="seconds"),
        _command(subjects, options),
        tuple(sides),
        tuple(runs),
        tuple(judge(side, tuple(runs)) for side in sides),
        tuple(compare(one, other, tuple(runs)) for one, other in combinations(sides, 2)),
    )


def _open(path: Path) -> _Subject:
    if path.is_dir():
        bundle = open_bundle(path)
        there = path / BENCHMARK_NAME
        return _Subject(path, bundle, read_benchmark(there) if there.exists() else None)
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a bundle's folder or a result of edge-van benchmark")
    if path.name == MANIFEST_NAME:
        raise UsageError(f"{path} is a bundle's manifest: give the bundle's folder, {path.parent}")
    return _Subject(path, None, read_benchmark(path))


def _distinct(results: Iterable[BenchmarkResult]) -> list[BenchmarkResult]:
    """Each result once: ``edge-van benchmark A B`` may have left the same one with both bundles."""
    found: list[BenchmarkResult] = []
    for result in results:
        if result not in found:
            found.append(result)
    return found


def _same(bundle: BenchmarkBundle, manifest: Manifest) -> bool:
    return (bundle.created, bundle.checkpoint_sha256) == (manifest.created, manifest.checkpoint_sha256)


def _bundle_side(
    bundle: Bundle, result: BenchmarkResult | None, run: int | None, options: ReportOptions, reporter: Reporter
) -> Side:
    name = one_line(bundle.path.resolve().name)
    run_bundle = None
    if result is not None:
        named = [b.name for b in result.bundles if _same(b, bundle.manifest)]
        if not named:
            others = ", ".join(one_line(b.name) for b in result.bundles) or "no bundle"
            raise UsageError(
                f"{bundle.path / BENCHMARK_NAME} was measured on {others}, made at another time or from another "
                f"checkpoint than this bundle: run edge-van benchmark {shlex.quote(str(bundle.path))} again, or remove "
                f"that file"
            )
        run_bundle = named[0]
    else:
        reporter.note(
            f"{name} has no {BENCHMARK_NAME}: only the latency in its manifest is shown. For more, run: edge-van "
            f"benchmark {shlex.quote(str(bundle.path))}"
        )
    side = Side(name, bundle.manifest, run, run_bundle)
    data = options.data or _demo_images(bundle.manifest)
    if data is None:
        return replace(side, no_explanation=_no_images())
    try:
        found = explain(bundle, data, reporter, image_limit=options.image_limit, cam_limit=options.cam_limit)
    except (MissingRuntimeError, NoModelsError, DataError) as error:  # DataError: the demo's images may not fit
        if options.data is not None:
            raise
        reporter.note(f"{name}: no example images, {error}")
        return replace(side, no_explanation=f"the images were not run ({error}).")
    return replace(side, explanation=found)


def _no_images() -> str:
    return "not shown without labelled images of a bundle; give its folder and --data DIR|ZIP (one folder a class)."


def _demo_images(manifest: Manifest) -> Path | None:
    """The embedded demo's validation images where the bundle was made from its checkpoint."""
    try:
        checkpoint = asset(DEMO_CHECKPOINT)
        with checkpoint.open("rb") as file:
            is_demo = hashlib.file_digest(file, "sha256").hexdigest() == manifest.checkpoint_sha256
        return asset(DEMO_VALIDATION) if is_demo else None
    except EdgeVanError:  # an install without the demo
        return None


def _joined(sides: Sequence[Side], runs: Sequence[BenchmarkResult]) -> list[Side]:
    """A bundle without a benchmark of its own takes the run of a result beside it that measured it."""
    kept, taken = list(sides), set()
    for i, side in enumerate(sides):
        if side.manifest is None or side.run is not None:
            continue
        for j, other in enumerate(sides):
            if other.manifest is not None or other.run is None or j in taken:
                continue
            measured = next(b for b in runs[other.run].bundles if b.name == other.run_bundle)
            if _same(measured, side.manifest):
                kept[i] = replace(side, run=other.run, run_bundle=other.run_bundle)
                taken.add(j)
                break
    return [side for j, side in enumerate(kept) if j not in taken]


def _unique(sides: Sequence[Side]) -> list[Side]:
    """Names made different with a number behind those that are there already."""
    seen: set[str] = set()
    named = []
    for side in sides:
        name, count = side.name, 1
        while name in seen:
            count += 1
            name = f"{side.name} ({count})"
        seen.add(name)
        named.append(replace(side, name=name))
    return named


def _command(subjects: Sequence[Path], options: ReportOptions) -> str:
    words = ["edge-van", "report", *map(str, subjects)]
    if options.data is not None:
        words += ["--data", str(options.data)]
    if options.image_limit != IMAGE_LIMIT:
        words += ["--limit", str(options.image_limit)]
    return one_line(shlex.join(words))
