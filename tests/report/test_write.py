"""``edge_van.report.write``: three whole files or what was there before; nothing of anybody else is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import make, one_line
from cli_samples import tree

from edge_van import atomic_files
from edge_van.bundle import BundleWriter, verify
from edge_van.errors import BundleError, UsageError
from edge_van.report.write import MARKS, check_output, write_report

FILES = {name: mark + b" first" for name, mark in MARKS.items()}
LATER = {name: mark + b" second" for name, mark in MARKS.items()}


def test_reports_are_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert write_report(folder, FILES) == {name: folder / name for name in MARKS}
    write_report(folder, LATER)
    assert tree(folder) == LATER


@pytest.mark.parametrize("name", list(MARKS))
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_strangers_file_stays(tmp_path: Path, name: str, kind: str) -> None:
    ours = tmp_path / "ours"
    ours.write_bytes(FILES[name])
    path = tmp_path / "out" / name
    path.parent.mkdir()
    if kind == "file":
        path.write_bytes(b"somebody's")
    elif kind == "link":
        path.symlink_to(ours)
    else:
        path.mkdir()
    before = tree(tmp_path)
    with pytest.raises(UsageError) as caught:
        write_report(path.parent, FILES)
    one_line(caught, name, "not replaced", "--output")
    assert tree(tmp_path) == before


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is no folder"):
        check_output(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_said_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        with pytest.raises(BundleError, match=r"permission denied; choose a folder you may write to"):
            check_output(folder)
    assert tree(tmp_path) == {}


def test_a_failure_between_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(tmp_path, FILES)
    written: list[Path] = []

    def full(path: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(atomic_files, "write_durably", full)
    with pytest.raises(BundleError, match="disk is full"):
        write_report(tmp_path, LATER)
    assert tree(tmp_path) == FILES


def test_a_bundle_with_a_report_stays_whole_and_replaceable(tmp_path: Path) -> None:
    bundle = make(tmp_path / "bundle")
    write_report(bundle.path, FILES)
    (bundle.path / "benchmark.json").write_text("{}")
    (bundle.path / ".report.html.partial-0123456789ab").write_text("of a killed run")
    assert verify(bundle) == []
    BundleWriter(bundle.path, force=True)
    (bundle.path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        BundleWriter(bundle.path, force=True)
