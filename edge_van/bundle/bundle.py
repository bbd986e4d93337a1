"""The artifact folder, read with every claim checked.

In: a folder. Out: a ``Bundle``, its problems, its manifest written anew; a ``BundleError`` that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_van.bundle.files import FileProblem, problem_of, walk
from edge_van.bundle.manifest import (
    MANIFEST_NAME,
    encoded,
    read_manifest,
)
from edge_van.bundle.models import BundleModel, models_of
from edge_van.bundle.recipe import ARM_SCHEME_NAME
from edge_van.bundle.records import Manifest
from edge_van.errors import BundleError, UsageError
from edge_van.machine import is_arm
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import (
    clear_errors,
)


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
            target = (self.path / relative).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a ring of links, before Python 3.13
            target = None
        if target is None or not target.is_file():
            raise BundleError(f"{relative} is missing from the bundle {self.path}: make or copy the bundle again")
        if not target.is_relative_to(self.path.resolve()):
            raise BundleError(f"{relative} links out of the bundle {self.path}: make or copy the bundle again")
        return self.path / relative

    def models(self) -> tuple[BundleModel, ...]:
        """Every model there is, by every runtime that can run it; see ``BundleModel``."""
        return models_of(self.manifest)

    def model(self, runtime: str, precision: str) -> BundleModel:
        """The model of that runtime and precision that is no engine: the one for this kind of CPU before another, the
        bundle's own before a scheme of TensorRT.

        ``UsageError`` where there is none.
        """
        fitting = [m for m in self.models() if (m.runtime, m.precision) == (runtime, precision) and not m.is_engine]
        if not fitting:
            self.require_files()
            there = ", ".join(dict.fromkeys(f"{m.runtime} {m.precision}" for m in self.models() if not m.is_engine))
            raise UsageError(
                f"{self.path} has no {precision} model for {runtime}; it has {there or 'none'}: choose another, or "
                f"make the bundle for that target too"
            )
        return min(fitting, key=lambda m: (m.scheme == ARM_SCHEME_NAME) != is_arm())

    def require_files(self) -> None:
        """``BundleError`` for a manifest that lists no file at all, which none that edge-van wrote does."""
        if not self.manifest.files:
            raise BundleError(f"the bundle {self.path} is damaged: its manifest lists no file: copy the bundle again")

    def check(self, *relative: str) -> None:
        """Compare these listed files with their size and sha256; ``BundleError`` for the first that differs."""
        entries = {entry.path: entry for entry in self.manifest.files}
        for name in relative:
            info = self.file(name).lstat()
            if problem := problem_of(self.path, name, entries[name], info):
                raise BundleError(f"the bundle {self.path} is damaged: {problem.detail}")


def as_bundle(bundle: Bundle | str | Path) -> Bundle:
    """``bundle`` itself, or the one in that folder."""
    return bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))


def open_bundle(path: str | Path) -> Bundle:
    """The bundle in folder ``path``; raises as ``read_manifest``. The files are not hashed: that is ``verify``."""
    return Bundle(Path(path), read_manifest(Path(path)))


def verify(bundle: Bundle, progress: Callable[[str, int], None] | None = None) -> list[FileProblem]:
    """Every difference between the folder and the manifest; empty for a sound bundle, with or without a report.

    ``progress`` gets each listed path and its size in bytes once it is checked.
    """
    try:
        present = dict(walk(bundle.path))
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    listed = {entry.path: entry for entry in bundle.manifest.files}
    problems = []
    for name in sorted(present.keys() | listed.keys()):
        entry, info = listed.get(name), present.get(name)
        if problem := problem_of(bundle.path, name, entry, info):
            problems.append(problem)
        if entry is not None and progress is not None:
            progress(name, entry.size_bytes)
    return problems


def require_unreplaced(bundle: Bundle) -> Manifest:
    """The manifest on disk; ``BundleError`` if it is of another time or checkpoint than when ``bundle`` was opened."""
    manifest = read_manifest(bundle.path)
    if any(getattr(manifest, f) != getattr(bundle.manifest, f) for f in ("created", "checkpoint_sha256")):
        raise BundleError(f"{bundle.path} was replaced by another bundle meanwhile: run the command again")
    return manifest


def update_manifest(bundle: Bundle, change: Callable[[Manifest], Manifest] | None = None, **changes: Any) -> Bundle:
    """Write ``changes`` (fields of ``Manifest``) into the manifest on disk, in one step; the updated bundle.

    ``change`` makes the new manifest of the one on disk, for a field that another command may write to as well. What
    another command wrote into other fields meanwhile stays, where the file system has locks. ``BundleError`` if
    the bundle was replaced by one of another time or checkpoint since it was opened, or cannot be written.
    """
    read_manifest(bundle.path)  # one clear message where the bundle is gone
    with clear_errors(bundle.path), locked(bundle.path) as alone:
        manifest = require_unreplaced(bundle)
        manifest = replace(manifest if change is None else change(manifest), **changes)
        replace_files(bundle.path, {MANIFEST_NAME: encoded(manifest)}, alone=alone)
    return Bundle(bundle.path, manifest)
