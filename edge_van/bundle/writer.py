"""A bundle's folder, written whole or not at all.

In: an output folder, files, a ``Manifest``. Out: a ``Bundle`` on disk, or an error that says what is in the way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.files import file_entry, strangers, walk
from edge_van.bundle.manifest import MANIFEST_NAME, check_relative, encoded, listed_files
from edge_van.bundle.records import Manifest
from edge_van.errors import BundleError, UsageError
from edge_van.input_spec import is_utf8
from edge_van.storage.folders import clear_errors, is_being_written, require_writable, write_durably
from edge_van.storage.new_folder import NewFolder
from edge_van.text import one_line

if TYPE_CHECKING:
    from typing_extensions import Self


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
        self._new = NewFolder(self.output, check=self._check_output)
        with clear_errors(self.output):
            self._check_output()
            self._check_alone()

    def __enter__(self) -> Self:
        with clear_errors(self.output):
            self._check_alone()
        self._new.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._new.__exit__(kind, error, trace)

    def path(self, relative: str | PurePath) -> Path:
        """Where to write the bundle's file ``relative`` (forward slashes); its folder is made.

        ``BundleError`` for a path that is absolute or leads out of the bundle.
        """
        if check_relative(str(relative)) == MANIFEST_NAME:
            raise BundleError(f"{MANIFEST_NAME} is written by finish(): choose another file name")
        with clear_errors(self.output):
            target = self._new.path / relative
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def finish(self, manifest: Manifest) -> Bundle:
        """Hash every file into ``manifest.files``, write the manifest, put the folder in place; the finished bundle."""
        folder = self._new.path
        with clear_errors(self.output):
            manifest = replace(manifest, files=tuple(file_entry(folder, name) for name, _ in walk(folder)))
            write_durably(folder / MANIFEST_NAME, encoded(manifest))
            self._check_output()  # hours may have passed
        self._new.put_in_place(self._check_replaceable)
        return Bundle(self.output, manifest)

    def _check_output(self) -> None:
        out = self.output
        parent = next((p for p in out.parents if p.exists()), out)  # the root has none
        if not parent.is_dir():
            raise UsageError(f"{out} cannot be made, {parent} is a file: choose another --output")
        if out.exists() or out.is_symlink():
            self._check_replaceable(out)
            require_writable(out)  # else its files could not be removed once it is replaced
        require_writable(parent, out)

    def _check_alone(self) -> None:
        """Minutes of work would only end in the refusal to replace what the other has put there."""
        if is_being_written(self.output):
            raise UsageError(
                f"another command is writing {self.output} at this moment: wait for it, or choose another --output"
            )

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
