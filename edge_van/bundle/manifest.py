"""``manifest.json``: what a bundle says of itself, as JSON that is checked in both directions.

In: a bundle's folder or a ``Manifest``. Out: a ``Manifest`` or its JSON; a ``BundleError`` that says what is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from edge_van.bundle.budget_record import BudgetRecord, Rung
from edge_van.bundle.layout import GOLDEN, PRECISIONS
from edge_van.bundle.recipe import ACTIVATION_PLACES, ACTIVATIONS, METHODS, RANGES
from edge_van.bundle.records import (
    LARGEST,
    MANIFEST_SCHEMA_VERSION,
    Accuracy,
    FileEntry,
    Latency,
    Manifest,
    MetricChange,
)
from edge_van.errors import BundleError
from edge_van.storage.json_format import JSONFormat, encode

MANIFEST_NAME = "manifest.json"
_AGAIN = "make the bundle again"
_LARGEST_DROP = 100.001
"""Points; the formula of the interval may miss 100 by a rounding."""


def read_manifest(bundle_dir: Path) -> Manifest:
    """The manifest of a bundle's folder, every type, value and path checked.

    ``BundleError``: no bundle, broken JSON, wrong types or values, an unsafe path, a version this edge-van cannot read.
    """
    path = bundle_dir / MANIFEST_NAME
    try:
        is_bundle = path.is_file()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not is_bundle:
        raise BundleError(f"{bundle_dir} is no bundle, it has no {MANIFEST_NAME}: give a folder made by edge-van")
    manifest = MANIFEST_FORMAT.read(path)
    check_consistent(manifest, str(path))
    return manifest


def check_relative(path: str) -> str:
    """``path`` itself, if it is safe to join to a bundle's folder on any system; else ``BundleError``."""
    if why := _why_unsafe(path):
        raise BundleError(f"{path!r} is no path of a bundle, {why}: use names joined by forward slashes, like a/b.bin")
    return path


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of ``manifest.json``."""
    return msgspec.json.schema(Manifest)


def upgraded(content: dict[str, Any], version: int) -> dict[str, Any]:
    """A manifest of version 1 or 2 as one of version 3.

    2 types the recipe and gives the fold a record of its own; 3 has other metrics than top-1, and names none of them.
    """
    if version not in (1, 2):
        raise ValueError(f"no manifest has version {version}")
    if version == 1:
        content = _of_version_2(content)
    accuracies = [content.get("accuracy"), content.get("rounded"), *(s.get("accuracy") for s in content["schemes"])]
    timings = [row for engines in content.get("engines", {}).values() for row in engines["choice"]["table"]]
    for record in (*accuracies, *timings):
        for old, new in _RENAMED_IN_3.items():
            if record is not None and old in record:
                record[new] = record.pop(old)
    return content | {"schema_version": MANIFEST_SCHEMA_VERSION}


_RENAMED_IN_3 = {
    "top1_fp32_percent": "fp32_percent",
    "top1_int8_percent": "int8_percent",
    "top1_drop_points": "drop_points",
    "top1_drop_interval": "drop_interval",
}


def _of_version_2(content: dict[str, Any]) -> dict[str, Any]:
    flat = content["recipe"]
    recipe = _RECIPE_OF_1 | {key: value for key, value in flat.items() if key in _RECIPE_OF_1}
    recipe["tensorrt_schemes"] = [name for name in str(recipe["tensorrt_schemes"]).split(",") if name]
    fold = {
        "batch_norms_folded": flat.get("batch_norms_folded", 0),
        "kernels_cropped": flat.get("kernels_cropped", 0),
        "max_relative_error": flat.get("fold_max_relative_error", 0.0),
    }
    return content | {"recipe": recipe, "fold": fold}


_RECIPE_OF_1: dict[str, Any] = {
    "samples": 300,
    "equalize_strength": 0.5,
    "activation": "gelu",
    "openvino_scheme": "openvino",
    "tensorrt_schemes": "int8,int8_pointwise",
    "tensorrt_float": "float16",
    "tensorrt_input": "float32",
    "tensorrt_images": 1000,
    "max_drop_points": 1.0,
    "batch": 25,
}
"""A recipe of version 1 was any set of settings; these are what the defaults were where one is not named."""

MANIFEST_FORMAT = JSONFormat(
    Manifest,
    kind="",
    version=MANIFEST_SCHEMA_VERSION,
    oldest_version=1,
    max_bytes=64 * 2**20,
    called="manifest",
    again="make or copy the bundle again",
    error=BundleError,
    upgrade=upgraded,
)


def check_consistent(manifest: Manifest, where: str) -> None:
    """What the types alone do not say; ``BundleError``, which begins with ``where``."""
    _check_entries(manifest.files, where)
    classes = manifest.input_spec.classes
    outputs, head = manifest.num_classes, manifest.head
    if outputs < 1 or (outputs < 2 and head.activation != "sigmoid"):
        raise BundleError(
            f"{where} has {outputs} outputs behind {head.activation}, which chooses among several: {_AGAIN}"
        )
    if classes is not None and not head.names_fit(len(classes), outputs):
        raise BundleError(f"{where} has {outputs} classes and {len(classes)} names for them: {_AGAIN}")
    for accuracy in (manifest.accuracy, manifest.rounded, *(scheme.accuracy for scheme in manifest.schemes)):
        if accuracy is not None:
            _check_accuracy(accuracy, where)
    _check_precisions(manifest, where)
    if manifest.latency is not None:
        _check_latency(manifest.latency, where)
    if manifest.budget is not None:
        _check_budget(manifest.budget, where)
    if (golden := manifest.golden) is not None:
        listed = {entry.path for entry in manifest.files}
        floors = [*golden.floors_db.values(), golden.rounded_floor_db or 0.0]
        if golden.images < 1 or GOLDEN not in listed or not all(-LARGEST < floor < LARGEST for floor in floors):
            raise BundleError(f"{where} has golden images that are none, or a floor that is no number: {_AGAIN}")


def _check_accuracy(a: Accuracy, where: str) -> None:
    shares = [a.fp32_percent, a.int8_percent, a.agreement_percent]
    shares += [share for share in (a.top5_fp32_percent, a.top5_int8_percent) if share is not None]
    shares += [share for c in a.classes for share in (c.recall_fp32_percent, c.recall_int8_percent)]
    shares += [share for m in a.others for share in (m.fp32_percent, m.int8_percent)]
    changes: tuple[Accuracy | MetricChange, ...] = (a, *a.others)
    drops = all(
        -_LARGEST_DROP <= m.drop_interval.low <= m.drop_interval.high <= _LARGEST_DROP
        and abs(m.drop_points) <= _LARGEST_DROP
        for m in changes
    )
    if a.images < 1 or not drops or not all(0.0 <= share <= 100.0 for share in shares):
        raise BundleError(
            f"{where} has an accuracy of no images, a share outside of 0 to 100 %, or a drop or interval of it that is "
            f"none: make the bundle again"
        )


def _check_budget(record: BudgetRecord, where: str) -> None:
    try:
        check_rungs(record.rungs)
        if not 0 <= record.chosen < len(record.rungs):
            raise ValueError("another rung was taken")
    except ValueError as error:
        raise BundleError(f"{where} has a budget whose rungs are none ({error}): {_AGAIN}") from error


def _check_precisions(manifest: Manifest, where: str) -> None:
    timed = {row.name for row in manifest.latency.rows} if manifest.latency is not None else set()
    named = {*manifest.precisions, *(() if manifest.cpu is None else (manifest.cpu.active,))}
    if not named <= timed & PRECISIONS.keys():
        raise BundleError(f"{where} names a precision that there is not, or that was not timed: {_AGAIN}")
    for accuracy in manifest.precisions.values():
        _check_accuracy(accuracy, where)


def check_rungs(rungs: tuple[Rung, ...]) -> None:
    """``ValueError`` for a figure that is none."""
    figures = [f for r in rungs for f in (r.median_ms, r.speedup, r.speedup_interval.low, r.speedup_interval.high)]
    drops = [d for r in rungs for d in (r.drop_interval.low, r.drop_points, r.drop_interval.high)]
    drops += [r.largest_drop_points for r in rungs]
    if (
        not all(0.0 < figure < LARGEST for figure in figures)
        or not all(abs(drop) <= _LARGEST_DROP for drop in drops)
        or not all(r.drop_interval.low <= r.drop_interval.high for r in rungs)
        or not all(r.speedup_interval.low <= r.speedup_interval.high for r in rungs)
        or not all(0.0 <= share <= 100.0 for r in rungs for share in (r.int8_percent, r.agreement_percent))
        or not all(abs(r.logit_sqnr_db) < LARGEST and 0.0 <= r.seconds < LARGEST for r in rungs)
        or not all(r.method in METHODS and r.ranges in RANGES for r in rungs)
        or not all(r.activation in ACTIVATIONS and set(r.activation_places) <= set(ACTIVATION_PLACES) for r in rungs)
    ):
        raise ValueError("a rung has a figure that is none")


def _check_latency(latency: Latency, where: str) -> None:
    """As ``timing.record.check_consistent`` has it for the rows of a benchmark."""
    names = [row.name for row in latency.rows]
    if latency.baseline not in names or len(set(names)) < len(names):
        raise BundleError(f"{where} has a latency without its baseline, or of two models of one name: {_AGAIN}")
    if not all(row.samples_ms for row in latency.rows):
        raise BundleError(f"{where} has a latency without the samples it is taken of: {_AGAIN}")
    times = [value for row in latency.rows for value in (row.median_ms, row.p90_ms, row.p99_ms, *row.samples_ms)]
    ratios = [value for row in latency.rows for value in (row.ratio, row.ratio_interval.low, row.ratio_interval.high)]
    ordered = all(row.ratio_interval.low <= row.ratio_interval.high for row in latency.rows)
    if not ordered or not all(0.0 < value < LARGEST for value in (*times, *ratios)):
        raise BundleError(f"{where} has a latency with a time or ratio that is no positive number: {_AGAIN}")


def _check_entries(files: tuple[FileEntry, ...], where: str) -> None:
    seen = {MANIFEST_NAME}
    for entry in files:
        why = _why_unsafe(entry.path)
        if entry.path in seen:
            why = "it is listed twice or is the manifest itself"
        elif entry.size_bytes < 0 or not re.fullmatch("[0-9a-f]{64}", entry.sha256):
            why = why or "its size is under 0 or its sha256 is none"
        if why:
            raise BundleError(f"{where} lists {entry.path!r}, {why}: do not use this bundle, make it again")
        seen.add(entry.path)


def _why_unsafe(path: str) -> str | None:
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        return "it is absolute"
    if "\\" in path or not path.isprintable():
        return "it has a backslash or unprintable characters"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it has an empty, '.' or '..' part"
    return None


def encoded(manifest: Manifest) -> bytes:
    """JSON that has been read back: what cannot be read again (an infinite number becomes null) is not written."""
    try:
        raw = encode(manifest)
    except (ValueError, OverflowError) as error:
        raise BundleError(f"the manifest cannot be written as JSON: {error}; mend that value") from error
    check_consistent(MANIFEST_FORMAT.decoded(raw, MANIFEST_NAME), MANIFEST_NAME)
    return raw


def listed_files(folder: Path) -> frozenset[str] | None:
    """The paths that the manifest in ``folder`` lists, of any version and with any error in the rest of it.

    None where there is no bundle: web applications have a manifest.json as well.
    """
    try:
        with (folder / MANIFEST_NAME).open("rb") as file:
            content = msgspec.json.decode(file.read(MANIFEST_FORMAT.max_bytes), type=dict[str, Any])
    except (OSError, ValueError, RecursionError):
        return None
    if "edge_van_version" not in content:
        return None
    files = content.get("files")
    entries = files if isinstance(files, list) else []
    return frozenset(str(entry.get("path")) for entry in entries if isinstance(entry, dict))
