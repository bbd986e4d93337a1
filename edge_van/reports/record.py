"""What a report holds: every record that its pages are drawn from, so that they can be drawn again from it alone.

In: collected records, or ``report.json``. Out: frozen records checked by type and version; no engine, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_van.bundle.layout import REPORT_JSON
from edge_van.bundle.manifest import check_consistent as check_manifest
from edge_van.bundle.manifest import upgraded
from edge_van.bundle.records import Interval, Manifest
from edge_van.errors import EdgeVanError, UsageError, VerificationError
from edge_van.evaluation.sensitivity_record import Sensitivity
from edge_van.evaluation.sensitivity_record import check_consistent as check_sensitivity
from edge_van.machine import Machine
from edge_van.storage.json_format import JSONFormat, encode
from edge_van.timing.record import BenchmarkResult
from edge_van.timing.record_file import check_consistent

REPORT_SCHEMA_VERSION = 3
REPORT_KIND = "edge-van report"

Status = Literal["good", "reservations", "no", "not_judged"]


@dataclass(frozen=True)
class TopClass:
    """What a model says of an image and its probability, 0..1; None where its head gives none."""

    name: str
    probability: float | None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:  # a NaN is none either
            raise UsageError(f"a probability is from 0 to 1; got {self.probability!r}")


@dataclass(frozen=True)
class Flip:
    """An image whose predicted class is another one in INT8."""

    image: str
    thumbnail: bytes  # JPEG, as the network saw it, at most 160 px a side
    true_class: str
    fp32: TopClass
    int8: TopClass
    kind: Literal["lost", "gained", "both_wrong"]  # FP32 alone was right, INT8 alone was, neither was


@dataclass(frozen=True)
class CAMPair:
    """Grad-CAM of one image and one class, FP32's prediction, from both models; JPEG overlays as large as ``image``."""

    image: str
    class_name: str
    int8_class_name: str  # what INT8 predicts: another class where the image flipped
    thumbnail: bytes
    fp32: bytes
    int8: bytes
    correlation: float | None  # Pearson's, of the two maps; None where one of them is constant


@dataclass(frozen=True)
class CAMs:
    """Grad-CAM of FP32 and INT8 beside each other, and how alike they are over more images than are shown."""

    stage: int
    pairs: tuple[CAMPair, ...]
    images: int
    correlations: tuple[float, ...]  # of the images whose maps are both not constant
    constant_maps: int
    median: float | None
    p5: float | None  # 95 % of the correlations are over it; the lowest is that of a single image
    lowest: float | None


@dataclass(frozen=True)
class Explanation:
    """What labelled images show of one bundle beyond its accuracy."""

    data: str
    machine: Machine  # that the images were run on, which need not be the one that made the bundle
    images: int
    broken: int
    lost: int  # images that only FP32 predicts rightly
    gained: int
    both_wrong: int  # predictions that differ, neither of them right
    flips: tuple[Flip, ...]
    cams: CAMs | None
    note: str = ""
    """Why ``cams`` is not there."""


@dataclass(frozen=True)
class Side:
    """One bundle's evidence. A side that comes from a benchmark's result alone has no manifest.

    ``run`` is the index of its benchmark in ``Report.runs``, ``run_bundle`` the bundle's name there.
    """

    name: str  # unique in the report
    manifest: Manifest | None
    run: int | None = None
    run_bundle: str | None = None
    explanation: Explanation | None = None
    no_explanation: str = ""
    """Why ``explanation`` is not there, and how to get it."""
    sensitivity: Sensitivity | None = None


@dataclass(frozen=True)
class Speed:
    """How many times as fast as its own baseline the model that ships is: the median of paired ratios."""

    model: str
    baseline: str
    ratio: float
    interval: Interval
    median_ms: float
    baseline_median_ms: float
    samples: int
    measured_by: Literal["benchmark", "quantize"]
    over: str = "FP32"
    """The baseline's precision."""


@dataclass(frozen=True)
class Verdict:
    """Whether INT8 can be shipped on the evidence, by the rules of ``edge_van.reports.verdict``."""

    side: str
    status: Status
    sentence: str
    against: tuple[str, ...] = ()
    """What speaks against it, each enough for a "no"."""
    reservations: tuple[str, ...] = ()
    speed: Speed | None = None
    speed_over_float: Speed | None = None
    """Against the same network in BF16 or FP16."""


@dataclass(frozen=True)
class Comparison:
    """The second side against the first, in sentences; ``speed_ratio`` (over 1: the second is faster) in one run."""

    first: str
    second: str
    same_run: bool
    sentences: tuple[str, ...]
    speed_ratio: float | None = None
    speed_interval: Interval | None = None


@dataclass(frozen=True)
class Report:
    """The content of ``report.json``."""

    schema_version: int
    kind: str  # REPORT_KIND
    edge_van_version: str
    created: str  # ISO 8601, UTC
    command: str
    sides: tuple[Side, ...]
    runs: tuple[BenchmarkResult, ...]
    verdicts: tuple[Verdict, ...]  # one a side, in their order
    comparisons: tuple[Comparison, ...] = ()


def _upgraded(content: dict[str, Any], version: int) -> dict[str, Any]:
    """A report of version 1 or 2 held manifests of that version."""
    for side in content["sides"]:
        if side["manifest"] is not None:
            side["manifest"] = upgraded(side["manifest"], version)
    return content | {"schema_version": REPORT_SCHEMA_VERSION}


REPORT_FORMAT = JSONFormat(
    Report,
    REPORT_KIND,
    version=REPORT_SCHEMA_VERSION,
    oldest_version=1,
    max_bytes=1024 * 2**20,
    called="report",
    again="make the report again",
    upgrade=_upgraded,
)


def read_report(path: Path) -> Report:
    """The report in ``path``; ``UsageError`` for a file that is none, is broken, contradicts itself, or is of a version
    that is not read; ``BundleError`` for a bundle's manifest in it that contradicts itself.
    """
    report = REPORT_FORMAT.read(path)
    _check(report, path)
    return report


def _check(report: Report, path: Path) -> None:
    for run in report.runs:
        check_consistent(run, path)
    names = [side.name for side in report.sides]
    known = set(names)
    if not names or len(known) < len(names) or [v.side for v in report.verdicts] != names:
        raise UsageError(f"{path} has not one verdict for each of its sides: {REPORT_FORMAT.again}")
    for side in report.sides:
        if side.sensitivity is not None:
            check_sensitivity(side.sensitivity, path)
        if side.manifest is not None:
            check_manifest(side.manifest, f"{path}: the manifest of {side.name!r}")
        if side.run is None:
            continue
        if not 0 <= side.run < len(report.runs):
            raise UsageError(f"{path} names a run that it does not hold: {REPORT_FORMAT.again}")
        if side.run_bundle not in [bundle.name for bundle in report.runs[side.run].bundles]:
            raise UsageError(f"{path} names a bundle that its run does not hold: {REPORT_FORMAT.again}")
    if not {name for c in report.comparisons for name in (c.first, c.second)} <= known:
        raise UsageError(f"{path} compares a side that it does not hold: {REPORT_FORMAT.again}")


def report_schema() -> dict[str, Any]:
    """The JSON Schema of ``report.json``."""
    return msgspec.json.schema(Report)


def encode_report(report: Report) -> bytes:
    """Readable JSON, the same bytes for the same report; images are base64.

    ``VerificationError`` for what could not be read again: a figure that is no number becomes null in JSON.
    """
    try:
        raw = encode(report)
        _check(REPORT_FORMAT.decoded(raw, Path(REPORT_JSON)), Path(REPORT_JSON))
    except (ValueError, OverflowError, EdgeVanError) as error:
        raise VerificationError(f"the report is not written, as it could not be read again: {error}") from error
    return raw
