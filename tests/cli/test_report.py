"""``edge-van report``: its files, its summary, its refusals. On real engines: ``report/test_real_bundle.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_samples import error_line, run, tree
from samples import benchmark, bundle_folder, manifest

from edge_van.timing.record import encode_benchmark

REPORTS = {"report.html", "report.json", "report.md"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot is drawn: what is drawn has tests of its own, and takes seconds."""
    monkeypatch.setattr("edge_van.reports.figures.canvas._svg", lambda *a, **k: "<svg></svg>")


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
    assert "In these two runs the gains over each one's own FP32 were a 1.7" in out
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
        ((moved, "--data", tmp_path), "is drawn from itself: leave --data out"),
        ((moved, "--limit", 2000), "is drawn from itself: leave --limit out"),
        ((moved, "--limit", 5, "--data", tmp_path), "leave --data and --limit out"),
        ((moved, folder), "is a 'edge-van report', no edge-van benchmark"),
    ):
        found, _, err = run(capfd, monkeypatch, "report", *arguments, "--output", tmp_path / "again")
        assert found == 2
        assert words in error_line(err)
        assert tree(tmp_path) == before


def test_a_report_that_was_laid_out_anew_is_drawn_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    """As ``jq -c`` leaves it."""
    folder = bundle_folder(tmp_path / "a", manifest())
    assert run(capfd, monkeypatch, "report", folder)[0] == 0
    compact = tmp_path / "compact.json"
    compact.write_text(json.dumps(json.loads((folder / "report.json").read_text()), separators=(",", ":")))
    code, _, err = run(capfd, monkeypatch, "report", compact, "--output", tmp_path / "again")
    assert code == 0, err
    assert (tmp_path / "again" / "report.json").read_bytes() == (folder / "report.json").read_bytes()


def test_results_alone_are_not_judged_and_the_next_command_gives_the_bundle(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    content = manifest()
    first = tmp_path / "first run.json"
    first.write_bytes(encode_benchmark(benchmark({"a": content, "b": content}, rounds=20, most_models=3)))
    second = tmp_path / "second.json"
    second.write_bytes(encode_benchmark(benchmark({"c": content}, rounds=20, most_models=3)))
    code, out, err = run(capfd, monkeypatch, "report", first, second, "--output", tmp_path / "out")
    assert code == 0, err
    assert [line.split(".")[0] for line in out.splitlines() if "not judged. " in line] == [
        "a: not judged",
        "b: not judged",
        "c: not judged",
    ]
    assert f"Next:   edge-van report BUNDLE '{first}'" in out
    bundle = bundle_folder(tmp_path / "d", manifest(created="2026-06-06T00:00:00Z"))
    code, out, err = run(capfd, monkeypatch, "report", first, bundle, "--output", tmp_path / "out")
    assert code == 0, err
    assert f"Next:   edge-van benchmark {bundle}" in out  # the third side is the folder's, not the second


def test_what_cannot_be_read_is_said_of_the_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(encode_benchmark(benchmark({"a": manifest()}, rounds=20)))
    opened = Path.open

    def denied(self: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, mode, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    code, _, err = run(capfd, monkeypatch, "report", path, "--output", tmp_path / "out")
    assert code == 2
    assert f"{path} cannot be read (Permission denied)" in error_line(err)


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
    result = tmp_path / "r.json"
    result.write_bytes(encode_benchmark(benchmark({"a": manifest()}, rounds=20)))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "report.html").write_text("theirs")
    before = tree(tmp_path)
    for arguments, code, words in (
        ((folder, folder), 2, "given twice"),
        ((folder, tmp_path / "b", tmp_path / "c"), 2, "one or two subjects"),
        ((tmp_path / "absent",), 2, "does not exist"),
        ((folder, tmp_path / "absent"), 2, "does not exist"),
        ((tmp_path / ("x" * 300),), 2, "cannot be opened (File name too long)"),
        ((tmp_path / "loop", folder), 2, "cannot be opened (Too many levels of symbolic links)"),
        ((folder, tmp_path / "link"), 2, "given twice"),
        ((folder, "--output", tmp_path / "theirs"), 2, "is no report of edge-van"),
        ((folder, "--data", tmp_path / "absent"), 1, "no OpenVINO models"),
        ((tmp_path / "theirs",), 2, "is no report of edge-van"),
        ((result, "--data", tmp_path / "absent"), 2, "without a bundle"),
        ((result, "--output", result), 2, "is no folder"),
    ):
        found, out, err = run(capfd, monkeypatch, "report", *arguments)
        assert (found, out) == (code, ""), err
        assert words in error_line(err)
        assert tree(tmp_path) == before


def test_a_slim_install_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_folder(tmp_path / "a", manifest())
    monkeypatch.setattr("edge_van.reports.report.find_spec", lambda name: None)
    code, _, err = run(capfd, monkeypatch, "report", folder)
    assert code == 5
    assert "pip install 'edge-van[report]'" in error_line(err)
    assert "psutil" not in err  # which describes the machine that runs images
    code, _, err = run(capfd, monkeypatch, "report", folder, "--data", tmp_path)
    assert code == 5
    assert "made with matplotlib and jinja2 and psutil and cpuinfo, not installed" in error_line(err)


def test_the_command_line_loads_no_drawing_library() -> None:
    drawing = {"matplotlib", "jinja2", "PIL"}
    code = f"import sys, edge_van.cli.main; print(*{{m.split('.')[0] for m in sys.modules}} & {drawing!r})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
