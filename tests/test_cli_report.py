"""``edge-van report``: its files, its summary, its refusals. On real engines: ``report/test_real_bundle.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_samples import error_line, run, tree
from report.samples import benchmark, bundle_folder, manifest

REPORTS = {"report.html", "report.json", "report.md"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot is drawn: what is drawn has tests of its own, and takes seconds."""
    monkeypatch.setattr("edge_van.report.figures.canvas._svg", lambda *a, **k: "<svg></svg>")


def test_two_subjects_go_into_a_folder_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    first, second = manifest(), manifest(drop=1.5, created="2026-04-04T00:00:00Z")
    a = bundle_folder(tmp_path / "a", first, benchmark({"a": first}, rounds=20))
    b = bundle_folder(tmp_path / "b", second, benchmark({"b": second}, rounds=20))
    before = tree(a) | tree(b)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfd, monkeypatch, "report", a, b)
    assert code == 0, err
    assert {p.name for p in (tmp_path / "edge_van_report").iterdir()} == REPORTS
    assert tree(a) | tree(b) == before
    assert "a: good. " in out
    assert "b: no. " in out
    assert "different runs" in out
    code, _, _ = run(capfd, monkeypatch, "report", a, b)  # its own files are replaced
    assert code == 0


def test_json_is_the_reports_content_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    folder = bundle_folder(tmp_path / "a", manifest())
    code, out, err = run(capfd, monkeypatch, "report", folder, "--json", "--output", tmp_path / "out")
    assert code == 0
    assert out == (tmp_path / "out" / "report.json").read_text()
    assert json.loads(out)["kind"] == "edge-van report"
    assert "only the latency in its manifest" in err


def test_a_report_is_drawn_again_from_its_json_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    content = manifest()
    folder = bundle_folder(tmp_path / "a", content, benchmark({"a": content}, rounds=20))
    assert run(capfd, monkeypatch, "report", folder)[0] == 0
    (tmp_path / "moved").mkdir()
    moved = (folder / "report.json").rename(tmp_path / "moved" / "ours.json")
    code, out, err = run(capfd, monkeypatch, "report", moved, "--output", tmp_path / "again")
    assert code == 0, err
    assert "good. " in out
    assert (tmp_path / "again" / "report.json").read_bytes() == moved.read_bytes()
    assert (tmp_path / "again" / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    before = tree(tmp_path)
    for arguments, words in (
        ((moved, "--data", tmp_path), "is drawn from itself"),
        ((moved, folder), "is a 'edge-van report', no edge-van benchmark"),
    ):
        found, _, err = run(capfd, monkeypatch, "report", *arguments, "--output", tmp_path / "again")
        assert found == 2
        assert words in error_line(err)
        assert tree(tmp_path) == before


def test_terminal_codes_of_a_stranger_are_escaped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    folder = bundle_folder(tmp_path / "a\x1b[31m", manifest(warnings=("\x1b]0;title\x07",)))
    code, out, err = run(capfd, monkeypatch, "report", folder)
    assert code == 0
    assert "\x1b" not in out + err
    assert "\\x1b]0;title\\x07" in out


def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_folder(tmp_path / "a", manifest())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "report.html").write_text("theirs")
    before = tree(tmp_path)
    for arguments, code, words in (
        ((folder, folder), 2, "given twice"),
        ((folder, tmp_path / "b", tmp_path / "c"), 2, "one or two subjects"),
        ((tmp_path / "absent",), 2, "does not exist"),
        ((folder, "--output", tmp_path / "theirs"), 2, "is no report of edge-van"),
        ((folder, "--data", tmp_path / "absent"), 1, "no OpenVINO models"),
        ((tmp_path / "theirs",), 2, "is no report of edge-van"),
    ):
        found, out, err = run(capfd, monkeypatch, "report", *arguments)
        assert (found, out) == (code, ""), err
        assert words in error_line(err)
        assert tree(tmp_path) == before


def test_a_slim_install_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_folder(tmp_path / "a", manifest())
    monkeypatch.setattr("edge_van.cli_report.find_spec", lambda name: None)
    code, _, err = run(capfd, monkeypatch, "report", folder)
    assert code == 5
    assert "pip install 'edge-van[report]'" in error_line(err)


def test_the_command_line_loads_no_drawing_library() -> None:
    code = "import sys, edge_van.cli; print(*{m.split('.')[0] for m in sys.modules} & {'matplotlib', 'jinja2', 'PIL'})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
