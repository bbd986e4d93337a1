"""``edge_van.reports.write``: three whole files or what was there before; nothing of anybody else is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_samples import make, one_line
from cli_samples import tree

from edge_van.bundle.bundle import verify
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import BundleError, UsageError
from edge_van.reports.write import MARKS, NAMES, check_output, is_report, write_report
from edge_van.storage import files as atomic_files


def files(text: str) -> dict[str, bytes]:
    head = {"schema_version": 1, "kind": "edge-van report", "text": text}
    return {"report.json": json.dumps(head).encode()} | {name: mark + text.encode() for name, mark in MARKS.items()}


FILES, LATER = files("first"), files("second")


def test_reports_are_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert write_report(folder, FILES) == {name: folder / name for name in NAMES}
    write_report(folder, LATER)
    assert tree(folder) == LATER


def test_a_full_disk_leaves_no_empty_folder(small_disk: Path) -> None:
    large = {name: content + bytes(200_000) for name, content in FILES.items()}
    with pytest.raises(BundleError, match="the disk is full"):
        write_report(small_disk / "a" / "b", large)
    assert list(small_disk.iterdir()) == []
    (small_disk / "mine").mkdir()
    with pytest.raises(BundleError, match="the disk is full"):
        write_report(small_disk / "mine", large)
    assert list(small_disk.iterdir()) == [small_disk / "mine"]


@pytest.mark.parametrize("name", NAMES)
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
    with pytest.raises(UsageError, match="file is a file: choose another"):
        check_output(tmp_path / "file" / "below")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",\n", "  :  ")])
def test_a_report_is_one_however_it_is_laid_out(tmp_path: Path, separators: tuple[str, str]) -> None:
    """``jq -c`` leaves no space behind a colon, others leave two."""
    content = json.loads(FILES["report.json"])
    (tmp_path / "report.json").write_text(json.dumps(content, separators=separators))
    assert is_report(tmp_path / "report.json")
    write_report(tmp_path, LATER)
    assert tree(tmp_path) == LATER


def test_what_is_no_report_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    for content in (b"", b"{}", b"\xff", b'{"kind": "edge-van benchmark", "schema_version": 1}', b"edge-van report"):
        path.write_bytes(content)
        assert not is_report(path)
    assert not is_report(tmp_path)
    assert not is_report(tmp_path / "absent")
    path.write_bytes(FILES["report.json"])

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)  # root may read everything
    assert not is_report(path)


@pytest.mark.usefixtures("permissions_hold")
def test_a_folder_that_cannot_be_written_is_said_early(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
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
