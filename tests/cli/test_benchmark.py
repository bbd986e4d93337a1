"""``edge-van benchmark`` as a command: its file, its JSON, its gate, and what it refuses before any work."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_samples import MEDIANS_MS, SETTINGS, query_rows, result
from cli_samples import error_line, run, tree

from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.bundle.records import Interval
from edge_van.errors import BundleError
from edge_van.machine import describe_machine
from edge_van.timing.models import identity
from edge_van.timing.record import SCENARIOS, encode_benchmark
from edge_van.timing.record_file import read_benchmark

pytestmark = pytest.mark.alone

Run = Callable[..., tuple[int, str, str]]
BRIEF = ("--runtime", "openvino", "--scenario", "single-stream", "--samples", 20, "--no-startup", "--no-layers")
QUICK = (*BRIEF, "--min-duration", 0)


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


def test_a_scenario_lasts_a_minute_or_as_long_as_it_may(command: Run, bundle: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    assert command(bundle, *BRIEF, "--max-duration", 3, "--output", tmp_path / "r.json")[0] == 0
    assert time.perf_counter() - start > 3
    found = read_benchmark(tmp_path / "r.json")
    assert found.settings.min_duration_s == 3
    assert len(found.single_stream[0].samples_ms) > 20
    assert "default: 60" in " ".join(command("--help")[1].split())


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
    code, _, err = command(bundle, *QUICK, *again, "--max-slowdown", 5)
    assert code == 0
    assert "no slowdown over 5 is shown in" in err.splitlines()[-1]
    then = read_benchmark(tmp_path / "then.json")
    faster = tuple(
        row
        if row.model == then.baseline
        else replace(
            row,
            samples_ms=tuple(ms / 100 for ms in row.samples_ms),
            ratio=100 * row.ratio,
            ratio_interval=Interval(100 * row.ratio_interval.low, 100 * row.ratio_interval.high),
        )
        for row in then.single_stream
    )
    (tmp_path / "then.json").write_bytes(encode_benchmark(replace(then, single_stream=faster)))
    code, out, err = command(bundle, *QUICK, *again, "--max-slowdown", 5, "--output", tmp_path / "now.json")
    assert code == 4
    assert "SingleStream: openvino-int8" in error_line(err)
    assert "against openvino-fp32" in error_line(err)
    assert "5 is allowed" in err
    assert "SingleStream" in out  # what was measured is shown and written all the same
    read_benchmark(tmp_path / "now.json")


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


def made_up(bundle: Path, path: Path) -> Path:
    """A result of this machine and bundle with all scenarios that nobody measured."""
    [identified] = identity([open_bundle(bundle)])
    path.write_bytes(
        encode_benchmark(
            result(
                bundles=(identified,),
                machine=describe_machine(),
                settings=replace(SETTINGS, threads=None, scenarios=SCENARIOS),
                models=tuple(replace(model, bundle=identified.name) for model in result().models),
                multi_stream=query_rows(MEDIANS_MS, images=8),
            )
        )
    )
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "single-stream"), "figures of MultiStream, Offline, which --scenario leaves out"),
        (("--batch", "1,4"), "its best Offline figures at batch 8, which --batch leaves out"),
        (("--query-size", "4"), "the size of a MultiStream query differs ([8] then, [4] now)"),
        (("--against", "openvino-int8"), "ratios are taken to differs (openvino-fp32 then, openvino-int8 now)"),
        (("--threads", "2"), "the number of threads differs (each engine's choice then, 2 now)"),
        (("--runtime", "onnxruntime"), "figures of openvino-fp32, which the choice of bundles and runtimes leaves"),
    ],
)
def test_what_the_baseline_has_and_the_run_leaves_out_is_said_before_anything_is_measured(
    command: Run, bundle: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    before = made_up(bundle, tmp_path / "then.json")
    code, out, err = command(bundle, *arguments, "--baseline", before)
    assert (code, out) == (2, "")
    assert words in error_line(err)
    assert len(err.splitlines()) == 1


def test_a_model_of_the_baseline_that_cannot_run_here_is_a_missing_runtime(
    command: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made_up(bundle, tmp_path / "then.json")
    monkeypatch.setattr("edge_van.timing.models.find_spec", lambda name: None)
    code, out, err = command(bundle, "--baseline", before)
    assert (code, out) == (5, "")
    assert "openvino-fp32 is in --baseline and cannot be measured here (OpenVINO is not installed" in error_line(err)


def test_ratios_are_taken_to_the_model_of_the_baseline(command: Run, bundle: Path, tmp_path: Path) -> None:
    then = ("--output", tmp_path / "then.json")
    assert command(bundle, *QUICK, "--against", "openvino-int8", *then)[0] == 0
    now = ("--output", tmp_path / "now.json", "--baseline", tmp_path / "then.json", "--max-slowdown", 100)
    assert command(bundle, *QUICK, *now)[0] == 0
    assert read_benchmark(tmp_path / "now.json").baseline == "openvino-int8"


def test_several_bundles_have_no_file_of_their_own(command: Run, bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "b" / "narrow_int8")
    code, out, err = command(bundle, other, *QUICK)
    assert (code, out) == (2, "")
    assert "give --output FILE" in error_line(err)
    code, out, _ = command(bundle, other, *QUICK, "--json", "--against", "narrow_int8#2/openvino-fp32")
    assert code == 0
    found = json.loads(out)
    assert found["baseline"] == "narrow_int8#2/openvino-fp32"
    assert found["command"].startswith("edge-van benchmark narrow_int8 narrow_int8 --runtime openvino")
    assert found["command"].endswith("--against 'narrow_int8#2/openvino-fp32'")


def test_the_recorded_command_has_no_folders_but_all_else(command: Run, bundle: Path, tmp_path: Path) -> None:
    assert command(bundle, *QUICK, f"--output={tmp_path / 'r.json'}", "--against=openvino-int8")[0] == 0
    recorded = read_benchmark(tmp_path / "r.json").command
    assert recorded.endswith("--no-layers --min-duration 0 --output=r.json --against=openvino-int8")
    assert str(tmp_path) not in recorded


def test_what_cannot_be_written_is_shown_but_not_said_to_be_there(
    command: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise BundleError(f"{path} cannot be written: the disk is full")

    monkeypatch.setattr("edge_van.timing.benchmark.replace_file", full)
    code, out, err = command(bundle, *QUICK, "--output", tmp_path / "r.json")
    assert code == 1
    assert "the disk is full" in error_line(err)
    assert "openvino-int8" in out
    assert "Result:" not in out


@pytest.mark.parametrize("flags", [(), ("--force",)])
def test_a_device_is_no_file_to_replace(command: Run, bundle: Path, flags: tuple[str, ...]) -> None:
    code, _, err = command(bundle, *QUICK, "--output", "/dev/full", *flags)
    assert code == 2
    assert "/dev/full is no file" in error_line(err)
    assert Path("/dev/full").is_char_device()


def test_missing_libraries_are_said_before_anything_is_measured(
    command: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_van.timing.benchmark.find_spec", lambda name: None if name == "psutil" else True)
    code, out, err = command(bundle, *QUICK)
    assert (code, out) == (5, "")
    assert "timing takes psutil, not installed here: pip install 'edge-van[benchmark]'" in error_line(err)


def test_help_tells_what_comes_next(command: Run) -> None:
    code, out, _ = command("--help")
    assert code == 0
    assert "edge-van report BUNDLE" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--max-slowdown", "1.2"), 2, "give it with --baseline FILE"),
        (("--baseline", "absent.json"), 2, "cannot be read"),
        (("--batch", "0,4"), 2, "no list of whole numbers"),
        (("--batch", "4;8"), 2, "no list of whole numbers"),
        (("--min-duration", "150"), 2, "is over --max-duration 120"),
        (("--max-slowdown", "nan", "--baseline", "x"), 2, "not a number from 1"),
        (("--runtime", "tflite"), 2, "tflite"),
        (("--samples", "1"), 2, "10<=x"),
        (("--output", "absent/r.json"), 2, "folder that is not there"),
        (("--output", "."), 2, "is a folder"),
        (("--output", "/proc/r.json"), 1, "/proc cannot be written"),
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
