"""``edge-van benchmark`` as a command: its file, its JSON, its gate, and what it refuses before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_samples import result
from cli_samples import error_line, run, tree

from edge_van.benchmark_record import encode_benchmark, read_benchmark
from edge_van.bundle import Bundle, open_bundle, verify

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--runtime", "openvino", "--scenario", "single-stream", "--samples", 20, "--no-startup", "--no-layers")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *arguments: run(capfd, monkeypatch, "benchmark", *arguments)


@pytest.fixture
def bundle(timed_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(timed_bundle.path, tmp_path / "narrow_int8"))


def test_the_result_lies_in_the_bundle_and_the_bundle_is_still_whole(command: Run, bundle: Path) -> None:
    code, out, err = command(bundle, *QUICK)
    assert code == 0, err
    found = read_benchmark(bundle / "benchmark.json")
    assert "openvino-int8" in {row.model for row in found.single_stream}
    assert found.command.startswith("edge-van benchmark narrow_int8 --runtime openvino")
    assert "SingleStream" in out
    assert f"Next:   edge-van report {bundle}" in out
    assert verify(open_bundle(bundle)) == []
    assert command(bundle, *QUICK)[0] == 0  # its own file is replaced without being asked twice


def test_json_is_the_file(command: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = command(bundle, *QUICK, "--json", "--output", tmp_path / "r.json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "r.json").read_text())
    assert not (bundle / "benchmark.json").exists()


def test_the_gate_passes_against_itself_and_fails_against_a_faster_past(
    command: Run, bundle: Path, tmp_path: Path
) -> None:
    assert command(bundle, *QUICK, "--output", tmp_path / "then.json")[0] == 0
    again = ("--baseline", tmp_path / "then.json")
    assert command(bundle, *QUICK, *again, "--max-slowdown", 5)[0] == 0
    then = read_benchmark(tmp_path / "then.json")
    faster = tuple(r if r.model == then.baseline else replace(r, ratio=100 * r.ratio) for r in then.single_stream)
    (tmp_path / "then.json").write_bytes(encode_benchmark(replace(then, single_stream=faster)))
    code, out, err = command(bundle, *QUICK, *again, "--max-slowdown", 5)
    assert code == 4
    assert "SingleStream latency of openvino-" in error_line(err)
    assert "5 is allowed" in err
    assert "SingleStream" in out  # what was measured is shown all the same


def test_the_baseline_is_not_replaced_by_what_is_compared_with_it(command: Run, bundle: Path) -> None:
    assert command(bundle, *QUICK)[0] == 0
    kept = (bundle / "benchmark.json").read_bytes()
    code, _, err = command(bundle, *QUICK, "--baseline", bundle / "benchmark.json")
    assert code == 2
    assert "replace its own baseline" in error_line(err)
    assert (bundle / "benchmark.json").read_bytes() == kept


def test_another_cpu_is_refused_before_anything_is_measured(command: Run, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "then.json"
    path.write_bytes(encode_benchmark(result()))
    code, _, err = command(bundle, *QUICK, "--baseline", path)
    assert code == 2
    assert "the CPU differs (a cpu then" in error_line(err)
    assert "SingleStream" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--max-slowdown", "1.2"), 2, "give it with --baseline FILE"),
        (("--baseline", "absent.json"), 2, "cannot be read"),
        (("--batch", "0,4"), 2, "no list of whole numbers"),
        (("--batch", "4;8"), 2, "no list of whole numbers"),
        (("--min-duration", "100"), 2, "is over --max-duration 90"),
        (("--max-slowdown", "nan", "--baseline", "x"), 2, "not a number from 1"),
        (("--runtime", "tflite"), 2, "tflite"),
        (("--samples", "1"), 2, "10<=x"),
        (("--output", "absent/r.json"), 2, "folder that is not there"),
        (("--output", "."), 2, "is a folder"),
        (("--runtime", "tensorrt"), 5, "nothing can be timed here"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    command: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(bundle.parent)
    before = tree(bundle)
    found, out, err = command(bundle, *arguments)
    assert found == code
    assert words in error_line(err)
    assert out == ""
    assert tree(bundle) == before


def test_a_file_of_another_kind_is_not_replaced(command: Run, bundle: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}')
    code, _, err = command(bundle, *QUICK, "--output", notes)
    assert code == 2
    assert "--force" in error_line(err)
    assert notes.read_text() == '{"mine": 1}'
    assert command(bundle, *QUICK, "--output", notes, "--force")[0] == 0
    read_benchmark(notes)


def test_a_folder_that_is_no_bundle(command: Run, tmp_path: Path) -> None:
    code, _, err = command(tmp_path, *QUICK)
    assert code == 1
    assert "is no bundle" in error_line(err)


def test_a_baseline_of_another_format_is_refused(command: Run, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(encode_benchmark(replace(result(), schema_version=99)))
    code, _, err = command(bundle, *QUICK, "--baseline", path)
    assert code == 2
    assert "version 99" in error_line(err)
