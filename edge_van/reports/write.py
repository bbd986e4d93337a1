"""The report's files, each whole or not there; files that are no report of ours are never replaced.

In: a folder and the three files' bytes. Out: their paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge_van.bundle.layout import REPORT_HTML, REPORT_JSON, REPORT_MD
from edge_van.errors import UsageError
from edge_van.reports.record import REPORT_FORMAT, REPORT_KIND
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import clear_errors, make_parents, raised_on_termination, require_writable
from edge_van.storage.json_format import kind_of

GENERATOR = "edge-van report"
NAMES = (REPORT_JSON, REPORT_MD, REPORT_HTML)
"""In the order they are put in place."""
MARKS: dict[str, bytes] = {
    REPORT_MD: f"<!-- {GENERATOR} -->".encode(),
    REPORT_HTML: f'<meta name="generator" content="{GENERATOR}'.encode(),
}
"""What stands near the beginning of every page of ours."""
_BEGINNING = 4096


def check_output(folder: Path) -> None:
    """``UsageError`` where ``folder`` is a file, or holds a file of a report's name that edge-van did not write;
    ``BundleError`` where it cannot be written to. Called before anything is measured, and again before writing.
    """
    with clear_errors(folder):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise UsageError(f"{folder} is no folder: choose another --output")
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not there.is_dir():
            raise UsageError(f"{folder} cannot be made, {there} is a file: choose another --output")
        require_writable(there, folder)
        for path in (folder / name for name in NAMES):
            if not path.is_symlink() and not path.exists():
                continue
            if path.is_symlink() or not _is_ours(path):
                raise UsageError(
                    f"{path} is no report of edge-van and is not replaced: move it away, or choose another --output"
                )


def is_report(path: Path) -> bool:
    """Whether ``path`` is a ``report.json`` of edge-van, however it is laid out. False for a file that cannot be read:
    whoever reads it next says why."""
    try:
        return _is_report_json(path)
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    if path.name == REPORT_JSON:
        return _is_report_json(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARKS[path.name] in file.read(_BEGINNING)


def _is_report_json(path: Path) -> bool:
    """A pipe is not read here: who reads it after this would find it empty."""
    if not path.is_file() or path.stat().st_size > REPORT_FORMAT.max_bytes:
        return False
    return kind_of(path.read_bytes()) == REPORT_KIND


def write_report(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    """Write ``files`` (by the names in ``NAMES``, all of them) into ``folder``, which is made; their paths.

    All are written beside their places first, then renamed: an interrupt leaves every earlier file or its new one.
    Raises ``UsageError`` as ``check_output`` does, ``BundleError`` where the folder cannot be written.
    """
    check_output(folder)
    made: list[Path] = []
    with raised_on_termination(), clear_errors(folder):
        try:
            make_parents(folder / REPORT_JSON, made)
            with locked(folder) as alone:  # another command may be writing here
                replace_files(folder, {name: files[name] for name in NAMES}, alone=alone)
        except BaseException:
            for above in reversed(made):  # what was made for nothing goes again; one that holds a file stays
                with suppress(OSError):
                    above.rmdir()
            raise
    return {name: folder / name for name in NAMES}
