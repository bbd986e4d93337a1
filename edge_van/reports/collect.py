"""From what the command line names to one ``Report`` record: bundles, their benchmarks, images, verdicts.

In: folders of bundles and results of ``edge-van benchmark``. Out: a ``Report`` and where its sides came from; nothing
is drawn or written here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path

from edge_van.assets import DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.layout import BENCHMARK_NAME
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.bundle.records import Manifest
from edge_van.bundle.whole import require_whole
from edge_van.errors import DataError, EdgeVanError, MissingRuntimeError, UsageError
from edge_van.progress import Reporter
from edge_van.reports import IMAGE_LIMIT
from edge_van.reports.beside import sensitivity_of
from edge_van.reports.compare import compare
from edge_van.reports.explain import NoModelsError, explain
from edge_van.reports.record import REPORT_KIND, REPORT_SCHEMA_VERSION, Report, Side
from edge_van.reports.verdict import judge
from edge_van.storage.files import sha256_of
from edge_van.text import file_name, one_line, without_folders
from edge_van.timing.record import BenchmarkBundle, BenchmarkResult
from edge_van.timing.record_file import read_benchmark
from edge_van.version import __version__

CAM_LIMIT = 100


@dataclass(frozen=True)
class ReportOptions:
    """How much is measured for a report."""

    data: Path | None = None  # labelled images; None: the demo's for the demo, none for any other bundle
    image_limit: int = IMAGE_LIMIT  # images that flips are looked for among, evenly over all
    cam_limit: int = CAM_LIMIT  # images whose Grad-CAMs are compared
    labels: str | Path | None = None  # a file of what is true of the images; None: what is found with them

    def __post_init__(self) -> None:
        if self.data is not None and not isinstance(self.data, Path):
            raise UsageError(f"data is the Path of a folder or zip; got {self.data!r}")


@dataclass(frozen=True)
class Collected:
    """A report, and for each of its sides what the command line named: a bundle's folder, or a benchmark's result."""

    report: Report
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class _Subject:
    """One argument of the command: a bundle's folder, or a result alone."""

    path: Path
    bundle: Bundle | None
    result: BenchmarkResult | None


@dataclass(frozen=True)
class _Candidate:
    """A side before images are run, and the subject it came from; a result alone has one for each of its bundles."""

    subject: _Subject
    side: Side


def collect(subjects: Sequence[Path], options: ReportOptions, reporter: Reporter) -> Collected:
    """The report of one or two subjects; a benchmark's result with several bundles gives a side for each.

    Raises ``UsageError`` for a subject that is neither, for the same run of a bundle twice, for images without a bundle
    to run them through, or for a ``benchmark.json`` that is broken or that another bundle's measurement left;
    ``BundleError`` for a damaged bundle; ``VerificationError`` for logits that are not finite. With ``options.data``
    also ``BundleError`` for a bundle without OpenVINO models, ``DataError`` for images that do not fit, and
    ``MissingRuntimeError`` without OpenVINO.
    """
    opened = [_open(path) for path in subjects]
    _check_options(opened, options)
    runs = _distinct(subject.result for subject in opened if subject.result is not None)
    candidates = _named(_joined([item for subject in opened for item in _sides(subject, runs)], runs))
    _check_all_there(opened, candidates)
    sides = tuple(_explained(item, options, reporter) for item in candidates)
    report = Report(
        REPORT_SCHEMA_VERSION,
        REPORT_KIND,
        __version__,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        _command(subjects, options),
        sides,
        tuple(runs),
        tuple(judge(side, tuple(runs)) for side in sides),
        tuple(compare(one, other, tuple(runs)) for one, other in combinations(sides, 2)),
    )
    return Collected(report, tuple(item.subject.path for item in candidates))


def _open(path: Path) -> _Subject:
    if path.is_dir():
        bundle = open_bundle(path)
        require_whole(bundle)
        there = path / BENCHMARK_NAME
        measured = there.exists() or there.is_symlink()  # a link that leads nowhere is an error to be told
        return _Subject(path, bundle, read_benchmark(there) if measured else None)
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a bundle's folder or a result of edge-van benchmark")
    if path.name == MANIFEST_NAME:
        raise UsageError(f"{path} is a bundle's manifest: give the bundle's folder, {path.parent}")
    return _Subject(path, None, read_benchmark(path))


def _check_options(subjects: Sequence[_Subject], options: ReportOptions) -> None:
    """``UsageError`` for options that nothing here would heed."""
    bundles = [subject.bundle for subject in subjects if subject.bundle is not None]
    if options.data is not None and not bundles:
        raise UsageError(
            f"--data {options.data} was given without a bundle whose models could run its images: give a bundle's "
            f"folder, or leave --data out"
        )
    if options.labels is not None and options.data is None:
        raise UsageError(f"--labels {options.labels} says what is true of the images of --data: give them, too")
    images = options.data is not None or any(_demo_images(bundle.manifest) for bundle in bundles)
    if options.image_limit != IMAGE_LIMIT and not images:
        raise UsageError(
            f"--limit {options.image_limit} is of images, and none were given: give --data DIR|ZIP with it"
        )


def _distinct(results: Iterable[BenchmarkResult]) -> list[BenchmarkResult]:
    """Each result once: ``edge-van benchmark A B`` may have left the same one with both bundles."""
    distinct: list[BenchmarkResult] = []
    for result in results:
        if result not in distinct:
            distinct.append(result)
    return distinct


def _same(bundle: BenchmarkBundle, manifest: Manifest) -> bool:
    return (bundle.created, bundle.checkpoint_sha256) == (manifest.created, manifest.checkpoint_sha256)


def _sides(subject: _Subject, runs: Sequence[BenchmarkResult]) -> list[_Candidate]:
    result, bundle = subject.result, subject.bundle
    run = None if result is None else runs.index(result)
    if bundle is None:
        names = [b.name for b in result.bundles] if result is not None else []
        return [_Candidate(subject, Side(name, None, run, name)) for name in names]
    run_bundle = None
    if result is not None:
        named = [b.name for b in result.bundles if _same(b, bundle.manifest)]
        if not named:
            others = ", ".join(one_line(b.name) for b in result.bundles)
            raise UsageError(
                f"{bundle.path / BENCHMARK_NAME} was measured on {others}, made at another time or from another "
                f"checkpoint than this bundle: run edge-van benchmark {shlex.quote(str(bundle.path))} again, or remove "
                f"that file"
            )
        run_bundle = named[0]
    name, measured = one_line(bundle.path.resolve().name), sensitivity_of(bundle)
    return [_Candidate(subject, Side(name, bundle.manifest, run, run_bundle, sensitivity=measured))]


def _explained(candidate: _Candidate, options: ReportOptions, reporter: Reporter) -> Side:
    """The side with what images show of its bundle, or why they show nothing."""
    side, bundle = candidate.side, candidate.subject.bundle
    if bundle is None:
        return replace(
            side, no_explanation=_no_images() if side.manifest is None else "see those of the bundle itself."
        )
    if side.run is None:
        shown = "no latency" if bundle.manifest.latency is None else "only the latency in its manifest"
        reporter.note(
            f"{side.name} has no {BENCHMARK_NAME}: {shown} is shown. For more, run: edge-van benchmark "
            f"{shlex.quote(str(bundle.path))}"
        )
    data = options.data or _demo_images(bundle.manifest)
    if data is None:
        return replace(side, no_explanation=_no_images())
    try:
        limits = {"image_limit": options.image_limit, "cam_limit": options.cam_limit}
        explanation = explain(bundle, data, reporter, labels=options.labels, **limits)
    except (MissingRuntimeError, NoModelsError, DataError) as error:  # DataError: the demo's images may not fit
        if options.data is not None:
            raise
        reporter.note(f"{side.name}: no example images, {error}")
        why = without_folders(error, (bundle.path, data))
        return replace(side, no_explanation=one_line(f"the images were not run ({why})."))
    return replace(side, explanation=explanation)


def _no_images() -> str:
    return "not shown without labelled images of a bundle; give its folder and --data DIR|ZIP (one folder a class)."


def _demo_images(manifest: Manifest) -> Path | None:
    """The embedded demo's validation images where the bundle was made from its checkpoint."""
    try:
        is_demo = sha256_of(asset(DEMO_CHECKPOINT)) == manifest.checkpoint_sha256
        return asset(DEMO_VALIDATION) if is_demo else None
    except EdgeVanError:  # an install without the demo
        return None


def _joined(sides: Sequence[_Candidate], runs: Sequence[BenchmarkResult]) -> list[_Candidate]:
    """What the subjects tell of each other.

    A bundle without a benchmark of its own takes the run of a result beside it that measured it. A result's side takes
    manifest and name of a bundle beside it that it measured, and is left out where the bundle stands for the same run.
    """
    kept = list(sides)
    for i, candidate in enumerate(sides):
        if candidate.side.manifest is None or candidate.side.run is not None:
            continue
        other = next(
            (o.side for o in sides if o.side.manifest is None and _measured(o.side, candidate.side, runs)), None
        )
        if other is not None:
            kept[i] = replace(candidate, side=replace(candidate.side, run=other.run, run_bundle=other.run_bundle))
    bundles = [candidate.side for candidate in kept if candidate.side.manifest is not None]
    joined = []
    for candidate in kept:
        own = [side for side in bundles if candidate.side.manifest is None and _measured(candidate.side, side, runs)]
        if not own:
            joined.append(candidate)
        elif all((side.run, side.run_bundle) != (candidate.side.run, candidate.side.run_bundle) for side in own):
            joined.append(replace(candidate, side=replace(candidate.side, name=own[0].name, manifest=own[0].manifest)))
    return joined


def _measured(result: Side, bundle: Side, runs: Sequence[BenchmarkResult]) -> bool:
    """Whether the run behind a result's side timed the bundle behind the other."""
    if result.run is None or bundle.manifest is None:
        return False
    return any(b.name == result.run_bundle and _same(b, bundle.manifest) for b in runs[result.run].bundles)


def _check_all_there(subjects: Sequence[_Subject], candidates: Sequence[_Candidate]) -> None:
    """``UsageError`` where two subjects are one run of one bundle, which would stand beside itself."""
    seen: set[tuple[int, str | None]] = set()
    for item in candidates:
        if item.side.run is None:
            continue
        if (key := (item.side.run, item.side.run_bundle)) in seen:
            raise _twice(item.subject.path)
        seen.add(key)
    for subject in subjects:
        beside = [other.result for other in subjects if other is not subject]
        if subject.result in beside and not any(item.subject is subject for item in candidates):
            raise _twice(subject.path)


def _twice(path: Path) -> UsageError:
    return UsageError(
        f"{path} is the same run of the same bundle as the other subject: leave it out, or give another run or bundle "
        f"to compare with"
    )


def _named(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Names made different: by the file that a result is in, else by a number."""
    seen: set[str] = set()
    named = []
    for item in candidates:
        name, count = item.side.name, 1
        if name in seen and item.subject.bundle is None:
            name = f"{name} ({one_line(item.subject.path.name)})"
        first = name
        while name in seen:
            count += 1
            name = f"{first} ({count})"
        seen.add(name)
        named.append(replace(item, side=replace(item.side, name=name)))
    return named


def _command(subjects: Sequence[Path], options: ReportOptions) -> str:
    words = ["edge-van", "report", *map(file_name, subjects)]
    if options.data is not None:
        words += ["--data", file_name(options.data)]
    if options.labels is not None:
        words += ["--labels", file_name(Path(options.labels))]
    if options.image_limit != IMAGE_LIMIT:
        words += ["--limit", str(options.image_limit)]
    return one_line(shlex.join(words))
