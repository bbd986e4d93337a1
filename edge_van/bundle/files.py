"""The files of a bundle's folder held against what its manifest lists.

In: a folder, ``FileEntry`` records or listed paths. Out: entries of files on disk, a ``FileProblem`` a difference.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_van.bundle.layout import (
    BENCHMARK_NAME,
    RELEASE_NAME,
    REPORT_HTML,
    REPORT_JSON,
    REPORT_MD,
    SENSITIVITY_NAME,
    SENSITIVITY_PARTIAL,
    SIGNATURE_NAME,
)
from edge_van.bundle.manifest import MANIFEST_NAME, check_relative
from edge_van.bundle.records import FileEntry
from edge_van.errors import BundleError
from edge_van.storage.files import partial_of, sha256_of

UNLISTED = (
    *(REPORT_HTML, REPORT_MD, REPORT_JSON, BENCHMARK_NAME, SENSITIVITY_NAME),
    *(RELEASE_NAME, SIGNATURE_NAME),
)
"""What later commands measure, draw and sign: it belongs to the bundle, at any time, without being listed."""


def is_own(name: str) -> bool:
    """Whether edge-van itself puts a file of that name beside the listed ones; killed commands leave partial ones."""
    whole = partial_of(name) or name
    own = (*UNLISTED, MANIFEST_NAME) if whole != name else UNLISTED
    return whole in own or SENSITIVITY_PARTIAL.fullmatch(whole) is not None


@dataclass(frozen=True)
class FileProblem:
    """One way in which a bundle's folder differs from its manifest; ``detail`` is a sentence for the user."""

    path: str
    kind: Literal["missing", "size", "sha256", "extra", "symlink", "special", "unreadable"]
    detail: str


def file_entry(root: Path, relative: str) -> FileEntry:
    """Size and sha256 of ``root / relative``; ``BundleError`` for an unsafe path or anything but a regular file."""
    path = root / check_relative(relative)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BundleError(f"{relative} is no regular file, and a bundle holds only such: copy what it points at")
    return FileEntry(relative, path.stat().st_size, sha256_of(path))


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path with forward slashes, lstat) of everything below ``root`` but folders and the manifest, sorted.

    Links are not followed; one to a folder is an entry of its own.
    """

    def fail(error: OSError) -> None:
        raise error

    entries = {}
    for folder, folders, files in os.walk(root, onerror=fail):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not stat.S_ISDIR((info := path.lstat()).st_mode):
                entries[path.relative_to(root).as_posix()] = info
    entries.pop(MANIFEST_NAME, None)
    yield from sorted(entries.items())


def strangers(root: Path, listed: Collection[str]) -> list[str]:
    """What lies below ``root`` and is neither listed nor something edge-van itself puts beside the listed files."""
    return [name for name, _ in walk(root) if name not in listed and not is_own(name)]


def problem_of(
    root: Path, name: str, entry: FileEntry | None, info: os.stat_result | None, *, hashed: bool = True
) -> FileProblem | None:
    """How ``root / name`` differs from its ``entry`` in the manifest; None stands for not listed or not there. Not
    ``hashed`` its content is not looked at."""
    shown = name.encode("utf-8", "replace").decode()  # a name on disk need not be UTF-8, a report must be
    if entry is not None and info is None:
        return FileProblem(shown, "missing", f"{shown} is listed but not there: copy the bundle again")
    if info is not None and not stat.S_ISREG(info.st_mode):
        if stat.S_ISLNK(info.st_mode):
            return FileProblem(shown, "symlink", f"{shown} is a link, a bundle has none: copy what it points at")
        return FileProblem(shown, "special", f"{shown} is a device, pipe or socket: remove it")
    if entry is None or info is None:
        if is_own(name):
            return None
        return FileProblem(shown, "extra", f"{shown} is not in the manifest: remove it")
    if info.st_size != entry.size_bytes:
        detail = f"{shown} has {info.st_size} bytes, the manifest says {entry.size_bytes}: copy the bundle again"
        return FileProblem(shown, "size", detail)
    if not hashed:
        return None
    try:
        actual = file_entry(root, name)
    except OSError as error:
        return FileProblem(shown, "unreadable", f"{shown} cannot be read, {error.strerror}: check its permissions")
    if actual.sha256 != entry.sha256:
        return FileProblem(shown, "sha256", f"{shown} was changed, its sha256 differs: copy the bundle again")
    return None
