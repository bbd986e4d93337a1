"""The artifact folder: written whole or not at all, read with every claim checked.

In: an output folder, files, a ``Manifest``. Out: a ``Bundle`` on disk, or a ``BundleError`` that says what is wrong.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Literal, Self

from edge_van.atomic import (
    clean_up_after_killed_runs,
    clear_errors,
    explained,
    free_space_check,
    hidden_folder,
    lock_folder,
    make_parents,
    put_in_place,
    raise_on_termination,
    sync,
    write_durably,
)
from edge_van.errors import BundleError, UsageError
from edge_van.manifest import MANIFEST_NAME, check_relative, encoded, is_bundle, manifest_schema, read_manifest
from edge_van.records import FileEntry, Manifest

__all__ = [
    "MANIFEST_NAME",
    "Bundle",
    "BundleWriter",
    "FileProblem",
    "check_relative",
    "file_entry",
    "free_space_check",
    "manifest_schema",
    "open_bundle",
    "read_manifest",
    "update_manifest",
    "verify",
]


@dataclass(frozen=True)
class FileProblem:
    """One way in which a bundle's folder differs from its manifest; ``detail`` is a sentence for the user."""

    path: str
    kind: Literal["missing", "size", "sha256", "extra", "symlink", "special", "unreadable"]
    detail: str


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and the manifest read from it."""

    path: Path
    manifest: Manifest

    def file(self, relative: str) -> Path:
        """The path of a listed file; ``BundleError`` if it is not listed, not there, or a link out of the bundle."""
        if relative not in (names := [entry.path for entry in self.manifest.files]):
            raise BundleError(f"the bundle {self.path} lists no file {relative!r}; it has {', '.join(names) or 'none'}")
        try:
            found = (self.path / relative).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a ring of links, before Python 3.13
            found = None
        if found is None or not found.is_file():
            raise BundleError(f"{relative} is missing from the bundle {self.path}: make or copy the bundle again")
        if not found.is_relative_to(self.path.resolve()):
            raise BundleError(f"{relative} links out of the bundle {self.path}: make or copy the bundle again")
        return self.path / relative


class BundleWriter:
    """Context manager: files go into a hidden folder beside ``output``, which ``finish`` renames to ``output``.

    Leaving without ``finish``, by whatever exception, Ctrl-C or SIGTERM, removes the hidden folder and leaves a bundle
    that was there as it was. ``force`` replaces an earlier bundle or an empty folder, never anything else.

    Raises ``UsageError`` for an output that may not be replaced or lies under a file, ``BundleError`` where it cannot
    be written (permission, full or read-only disk); the latter also in place of such an OSError from the body.
    """

    def __init__(self, output: Path, *, force: bool = False) -> None:
        # The parent is resolved, the name is not: an output that is a link must be seen as one.
        self.output = output.resolve() if output.name in ("", "..") else output.parent.resolve() / output.name
        self.force = force
        self._folder: Path | None = None
        self._lock = -1
        self._made: list[Path] = []
        self._signals: dict[int, Any] = {}
        with clear_errors(self.output):
            self._check_output()

    def __enter__(self) -> Self:
        try:
            self._signals = raise_on_termination()
            with clear_errors(self.output):
                make_parents(self.output, self._made)
                clean_up_after_killed_runs(self.output)
                self._check_output()
                self._folder, self._lock = hidden_folder(self.output)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if isinstance(error, OSError) and (clear := explained(error, self.output)):
            raise clear from error

    def path(self, relative: str | PurePath) -> Path:
        """Where to write the bundle's file ``relative`` (forward slashes); its folder is made.

        ``BundleError`` for a path that is absolute or leads out of the bundle.
        """
        if check_relative(str(relative)) == MANIFEST_NAME:
            raise BundleError(f"{MANIFEST_NAME} is written by finish(): choose another file name")
        with clear_errors(self.output):
            target = self._open_folder() / relative
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def finish(self, manifest: Manifest) -> Bundle:
        """Hash every file into ``manifest.files``, write the manifest, put the folder in place; the finished bundle."""
        folder = self._open_folder()
        with clear_errors(self.output):
            names = [name for name, _ in _walk(folder)]
            manifest = replace(manifest, files=tuple(file_entry(folder, name) for name in names))
            write_durably(folder / MANIFEST_NAME, encoded(manifest))
            for path in (*(folder / name for name in names), *(Path(f) for f, _, _ in os.walk(folder)), folder.parent):
                sync(path)
            self._check_output()  # hours may have passed
            put_in_place(folder, self.output)
            self._folder, self._made = None, []
            sync(self.output.parent)
        return Bundle(self.output, manifest)

    def _open_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("a BundleWriter is used inside its with block and before finish()")
        return self._folder

    def _check_output(self) -> None:
        out = self.output
        parent = next((p for p in out.parents if p.exists()), out)  # the root has none
        if not parent.is_dir():
            raise UsageError(f"{out} cannot be made, {parent} is a file: choose another --output")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(parent))
        if not (out.exists() or out.is_symlink()):
            return
        if not self.force:
            raise UsageError(f"{out} exists: give --force to replace that bundle, or choose another --output")
        if out.is_symlink() or not out.is_dir():
            raise UsageError(f"{out} is no folder but a file or a link, and is not replaced: choose another --output")
        if any(out.iterdir()) and not is_bundle(out):
            raise UsageError(
                f"{out} holds no edge-van bundle and is not replaced, even with --force: choose another --output"
            )

    def _leave(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        for parent in reversed(self._made):
            with suppress(OSError):  # somebody else's file is in it by now
                parent.rmdir()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals = {}


def open_bundle(path: Path) -> Bundle:
    """The bundle in folder ``path``; raises as ``read_manifest``. The files are not hashed: that is ``verify``."""
    return Bundle(path, read_manifest(path))


def verify(bundle: Bundle, progress: Callable[[str, int], None] | None = None) -> list[FileProblem]:
    """Every difference between the folder and the manifest; empty for a sound bundle.

    ``progress`` gets each listed path and its size in bytes once it is checked.
    """
    try:
        found = dict(_walk(bundle.path))
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    listed = {entry.path: entry for entry in bundle.manifest.files}
    problems = []
    for name in sorted(found.keys() | listed.keys()):
        entry, info = listed.get(name), found.get(name)
        if problem := _problem(bundle.path, name, entry, info):
            problems.append(problem)
        if entry is not None and progress is not None:
            progress(name, entry.size_bytes)
    return problems


def update_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    """Write ``changes`` (fields of ``Manifest``) into the manifest on disk, in one step; the updated bundle.

    What another command wrote meanwhile stays. ``BundleError`` if the bundle was replaced by another one since it was
    opened, or cannot be written.
    """
    read_manifest(bundle.path)  # one clear message where the bundle is gone
    with clear_errors(bundle.path):
        lock = lock_folder(bundle.path)
        try:
            manifest = read_manifest(bundle.path)
            if any(getattr(manifest, f) != getattr(bundle.manifest, f) for f in ("created", "checkpoint_sha256")):
                raise BundleError(f"{bundle.path} was replaced by another bundle meanwhile: run the command again")
            manifest = replace(manifest, **changes)
            content, partial = encoded(manifest), bundle.path / f".{MANIFEST_NAME}.partial"
            try:
                write_durably(partial, content)
                partial.replace(bundle.path / MANIFEST_NAME)
            finally:
                partial.unlink(missing_ok=True)
            sync(bundle.path)
        finally:
            os.close(lock)
    return Bundle(bundle.path, manifest)


def file_entry(root: Path, relative: str) -> FileEntry:
    """Size and sha256 of ``root / relative``; ``BundleError`` for an unsafe path or anything but a regular file."""
    path = root / check_relative(relative)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BundleError(f"{relative} is no regular file, and a bundle holds only such: copy what it points at")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(relative, file.tell(), sha256)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path with forward slashes, lstat) of everything below ``root`` but folders and the manifest, sorted.

    Links are not followed; one to a folder is an entry of its own.
    """

    def fail(error: OSError) -> None:
        raise error

    found = {}
    for folder, folders, files in os.walk(root, onerror=fail):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not stat.S_ISDIR((info := path.lstat()).st_mode):
                found[path.relative_to(root).as_posix()] = info
    found.pop(MANIFEST_NAME, None)
    yield from sorted(found.items())


def _problem(root: Path, name: str, entry: FileEntry | None, info: os.stat_result | None) -> FileProblem | None:
    shown = name.encode("utf-8", "replace").decode()  # a name on disk need not be UTF-8, a report must be
    if entry is not None and info is None:
        return FileProblem(shown, "missing", f"{shown} is listed but not there: copy the bundle again")
    if info is not None and not stat.S_ISREG(info.st_mode):
        if stat.S_ISLNK(info.st_mode):
            return FileProblem(shown, "symlink", f"{shown} is a link, a bundle has none: copy what it points at")
        return FileProblem(shown, "special", f"{shown} is a device, pipe or socket: remove it")
    if entry is None or info is None:
        return FileProblem(shown, "extra", f"{shown} is not in the manifest: remove it")
    if info.st_size != entry.size_bytes:
        detail = f"{shown} has {info.st_size} bytes, the manifest says {entry.size_bytes}: copy the bundle again"
        return FileProblem(shown, "size", detail)
    try:
        actual = file_entry(root, name)
    except OSError as error:
        return FileProblem(shown, "unreadable", f"{shown} cannot be read, {error.strerror}: check its permissions")
    if actual.sha256 != entry.sha256:
        return FileProblem(shown, "sha256", f"{shown} was changed, its sha256 differs: copy the bundle again")
    return None
