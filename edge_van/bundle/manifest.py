"""``manifest.json``: what a bundle says of itself, as JSON that is checked in both directions.

In: a bundle's folder or a ``Manifest``. Out: a ``Manifest`` or its JSON; a ``BundleError`` that says what is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from edge_van.bundle.records import LARGEST, MANIFEST_SCHEMA_VERSION, Accuracy, FileEntry, Latency, Manifest
from edge_van.errors import BundleError, UsageError
from edge_van.text import single_line

MANIFEST_NAME = "manifest.json"
OLDEST_SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 64 * 2**20
_AGAIN = "make the bundle again"
_LARGEST_DROP = 100.001
"""Points; the formula of the interval may miss 100 by a rounding."""


def read_manifest(bundle_dir: Path) -> Manifest:
    """The manifest of a bundle's folder, every type, value and path checked.

    ``BundleError``: no bundle, broken JSON, wrong types or values, an unsafe path, a version this edge-van cannot read.
    """
    path = bundle_dir / MANIFEST_NAME
    try:
        if not path.is_file():
            raise BundleError(f"{bundle_dir} is no bundle, it has no {MANIFEST_NAME}: give a folder made by edge-van")
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    return decoded(raw, str(path))


def check_relative(path: str) -> str:
    """``path`` itself, if it is safe to join to a bundle's folder on any system; else ``BundleError``."""
    if why := _why_unsafe(path):
        raise BundleError(f"{path!r} is no path of a bundle, {why}: use names joined by forward slashes, like a/b.bin")
    return path


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of ``manifest.json``."""
    return msgspec.json.schema(Manifest)


class _Head(msgspec.Struct):
    """What every manifest of every version starts from; read first, so that the rest may change."""

    schema_version: int
    edge_van_version: str = "of unknown version"


def decoded(raw: bytes, where: str) -> Manifest:
    """The manifest in ``raw``, checked as ``read_manifest`` says; ``where`` opens every message."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where} is over {MAX_MANIFEST_BYTES // 2**20} MiB, no manifest is: make the bundle again")
    try:
        _check_version(msgspec.json.decode(raw, type=_Head), where)
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (UsageError, msgspec.ValidationError) as error:  # UsageError: the InputSpec's own check
        reason = single_line(error)
        raise BundleError(f"{where} is no valid manifest, {reason}: make the bundle again") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        at = "" if "byte" in str(error) else f" (byte {len(raw)})"
        raise BundleError(f"{where} is broken JSON, {error}{at}: make or copy the bundle again") from error
    except RecursionError as error:
        raise BundleError(f"{where} is nested too deep for a manifest: make or copy the bundle again") from error
    check_consistent(manifest, where)
    return manifest


def check_consistent(manifest: Manifest, where: str) -> None:
    """What the types alone do not say; ``BundleError``, which begins with ``where``."""
    _check_entries(manifest.files, where)
    classes, limit = manifest.input_spec.classes, manifest.recipe.get("max_drop_points", 1.0)
    if manifest.num_classes < 1 or (classes is not None and len(classes) != manifest.num_classes):
        raise BundleError(
            f"{where} has {manifest.num_classes} classes and {len(classes or ())} names for them: make the bundle again"
        )
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0.0 <= limit <= 100.0:
        raise BundleError(
            f"{where} has a recipe with max_drop_points {limit!r}, no number from 0 to 100: make the bundle again"
        )
    for accuracy in (manifest.accuracy, *(scheme.accuracy for scheme in manifest.schemes)):
        if accuracy is not None:
            _check_accuracy(accuracy, where)
    if manifest.latency is not None:
        _check_latency(manifest.latency, where)


def _check_accuracy(a: Accuracy, where: str) -> None:
    shares = [a.top1_fp32_percent, a.top1_int8_percent, a.agreement_percent]
    shares += [share for share in (a.top5_fp32_percent, a.top5_int8_percent) if share is not None]
    shares += [share for c in a.classes for share in (c.recall_fp32_percent, c.recall_int8_percent)]
    low, high = a.top1_drop_interval.low, a.top1_drop_interval.high
    drops = -_LARGEST_DROP <= low <= high <= _LARGEST_DROP and abs(a.top1_drop_points) <= _LARGEST_DROP
    if a.images < 1 or not drops or not all(0.0 <= share <= 100.0 for share in shares):
        raise BundleError(
            f"{where} has an accuracy of no images, a share outside of 0 to 100 %, or a drop or interval of it that is "
            f"none: make the bundle again"
        )


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


def _check_version(head: _Head, where: str) -> None:
    if head.schema_version > MANIFEST_SCHEMA_VERSION:
        raise BundleError(
            f"{where} was made by a newer edge-van ({head.edge_van_version!r}, manifest version {head.schema_version}; "
            f"this one reads up to {MANIFEST_SCHEMA_VERSION}): upgrade with pip install --upgrade edge-van"
        )
    if head.schema_version < OLDEST_SCHEMA_VERSION:
        raise BundleError(
            f"{where} has manifest version {head.schema_version}, this edge-van reads {OLDEST_SCHEMA_VERSION} to "
            f"{MANIFEST_SCHEMA_VERSION}: make the bundle again"
        )


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
        raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    except (ValueError, OverflowError) as error:
        raise BundleError(f"the manifest cannot be written as JSON: {error}; mend that value") from error
    decoded(raw, MANIFEST_NAME)
    return raw


def listed_files(folder: Path) -> frozenset[str] | None:
    """The paths that the manifest in ``folder`` lists, of any version and with any error in the rest of it.

    None where there is no bundle: web applications have a manifest.json as well.
    """
    try:
        with (folder / MANIFEST_NAME).open("rb") as file:
            content = msgspec.json.decode(file.read(MAX_MANIFEST_BYTES), type=dict[str, Any])
    except (OSError, ValueError, RecursionError):
        return None
    if "edge_van_version" not in content:
        return None
    files = content.get("files")
    entries = files if isinstance(files, list) else []
    return frozenset(str(entry.get("path")) for entry in entries if isinstance(entry, dict))
