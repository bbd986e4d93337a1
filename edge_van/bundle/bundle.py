"""The artifact folder: written whole or not at all, read with every claim checked.

In: an output folder, files, a ``Manifest``. Out: a ``Bundle`` on disk, or a ``BundleError`` that says what is wrong.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

from edge_van.bundle.files import FileProblem, file_entry, problem_of, strangers, walk
from edge_van.bundle.manifest import (
    MANIFEST_NAME,
    check_relative,
    encoded,
    listed_files,
    manifest_schema,
    read_manifest,
)
from edge_van.bundle.records import Manifest
from edge_van.errors import BundleError, UsageError
from edge_van.input_spec import is_utf8
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import (
    clean_up_after_killed_runs,
    clear_errors,
    explained,
    free_space_check,
    hidden_folder,
    make_parents,
    put_in_place,
    raise_on_termination,
    sync,
    write_durably,
)
from edge_van.text import one_line

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

    def check(self, *relative: str) -> None:
        """Compare these listed files with their size and sha256; ``BundleError`` for the first that differs."""
        entries = {entry.path: entry for entry in self.manifest.files}
        for name in relative:
            info = self.file(name).lstat()
            if problem := problem_of(self.path, name, entries[name], info):
                raise BundleError(f"the bundle {self.path} is damaged: {problem.detail}")


class BundleWriter:
    """Context manager: files go into a hidden folder beside ``output``, which ``finish`` renames to ``output``.

    Leaving without ``finish``, by whatever exception, Ctrl-C or SIGTERM, removes the hidden folder and leaves a bundle
    that was there as it was. ``force`` replaces an earlier bundle or an empty folder, never anything else: no folder
    that holds a file the earlier bundle does not list.

    Raises ``UsageError`` for an output that may not be replaced or lies under a file, ``BundleError`` where it cannot
    be written (permission, full or read-only disk); the latter also in place of such an OSError from the body.
    """

    def __init__(self, output: Path, *, force: bool = False) -> None:
        # The parent is resolved, the name is not: an output that is a link must be seen as one.
        if not is_utf8(str(output)):
            raise UsageError(f"the output {str(output)!r} is no UTF-8, which the engines need: give another path")
        try:
            self.output = output.resolve() if output.name in ("", "..") else output.parent.resolve() / output.name
        except RuntimeError as error:
            raise UsageError(f"the output {output} lies under a ring of links: give another path") from error
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
            names = [name for name, _ in walk(folder)]
            manifest = replace(manifest, files=tuple(file_entry(folder, name) for name in names))
            write_durably(folder / MANIFEST_NAME, encoded(manifest))
            for path in (*(folder / name for name in names), *(Path(f) for f, _, _ in os.walk(folder)), folder.parent):
                sync(path)
            self._check_output()  # hours may have passed
            put_in_place(folder, self.output, self._check_replaceable)
            self._folder, self._made = None, []
            self._unlock()  # the bundle is anybody's now: update_manifest waits for this lock
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
        if out.exists() or out.is_symlink():
            self._check_replaceable(out)

    def _check_replaceable(self, there: Path) -> None:
        """``there`` is what stands in the output's place, by its own name or moved aside."""
        out = self.output
        if not self.force:
            raise UsageError(f"{out} exists: give --force to replace that bundle, or choose another --output")
        if there.is_symlink() or not there.is_dir():
            raise UsageError(f"{out} is no folder but a file or a link, and is not replaced: choose another --output")
        if not any(there.iterdir()):
            return
        if (listed := listed_files(there)) is None:
            raise UsageError(
                f"{out} holds no edge-van bundle and is not replaced, even with --force: choose another --output"
            )
        if others := [one_line(name) for name in strangers(there, listed)]:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            raise UsageError(
                f"{out} holds files that its bundle does not list ({', '.join(others[:3])}{more}) and is not replaced, "
                f"even with --force: move them away, or choose another --output"
            )

    def _leave(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        for parent in reversed(self._made):
            with suppress(OSError):  # somebody else's file is in it by now
                parent.rmdir()
        self._unlock()
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals = {}

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_bundle(path: Path) -> Bundle:
    """The bundle in folder ``path``; raises as ``read_manifest``. The files are not hashed: that is ``verify``."""
    return Bundle(path, read_manifest(path))


def verify(bundle: Bundle, progress: Callable[[str, int], None] | None = None) -> list[FileProblem]:
    """Every difference between the folder and the manifest; empty for a sound bundle, with or without a report.

    ``progress`` gets each listed path and its size in bytes once it is checked.
    """
    try:
        found = dict(walk(bundle.path))
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    listed = {entry.path: entry for entry in bundle.manifest.files}
    problems = []
    for name in sorted(found.keys() | listed.keys()):
        entry, info = listed.get(name), found.get(name)
        if problem := problem_of(bundle.path, name, entry, info):
            problems.append(problem)
        if entry is not None and progress is not None:
            progress(name, entry.size_bytes)
    return problems


def update_manifest(bundle: Bundle, change: Callable[[Manifest], Manifest] | None = None, **changes: Any) -> Bundle:
    """Write ``changes`` (fields of ``Manifest``) into the manifest on disk, in one step; the updated bundle.

    ``change`` makes the new manifest of the one on disk, for a field that another command may write to as well. What
    another command wrote into other fields meanwhile stays, where the file system has locks. ``BundleError`` if
    the bundle was replaced by one of another time or checkpoint since it was opened, or cannot be written.
    """
    read_manifest(bundle.path)  # one clear message where the bundle is gone
    with clear_errors(bundle.path), locked(bundle.path) as alone:
        manifest = read_manifest(bundle.path)
        if any(getattr(manifest, f) != getattr(bundle.manifest, f) for f in ("created", "checkpoint_sha256")):
            raise BundleError(f"{bundle.path} was replaced by another bundle meanwhile: run the command again")
        manifest = replace(manifest if change is None else change(manifest), **changes)
        replace_files(bundle.path, {MANIFEST_NAME: encoded(manifest)}, alone=alone)
    return Bundle(bundle.path, manifest)
