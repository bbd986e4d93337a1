"""``edge_van.engines.trtexec``: flags by version, and a stand-in for the binary that replays its documented formats."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import onnx
import pytest
from jetson_stand_in import layer_information

from edge_van.bundle.engine_record import read_engine_record
from edge_van.bundle.layout import LOG_NAME, PLAN_NAME, RECORD_NAME
from edge_van.engines import trtexec
from edge_van.engines.trtexec import (
    LAYERS_NAME,
    Trtexec,
    build_command,
    build_engine_with_trtexec,
    find_trtexec,
    time_command,
    time_engine,
)
from edge_van.engines.versions import flags_of
from edge_van.errors import MissingRuntimeError, VerificationError
from edge_van.export.precision import to_float16

STAND_IN = '''#!{python}
"""Stands in for trtexec, which needs an NVIDIA GPU: prints and writes what the documentation says it does."""
import json, pathlib, sys
flags = dict(a[2:].partition("=")[::2] for a in sys.argv[1:])
banner = "TensorRT.trtexec [TensorRT v{digits}] # trtexec"
print("&&&& RUNNING " + banner)
if {fails!r} and "help" not in flags:
    print("[07/25/2026-09:08:28] [E] Error[10]: Could not find any implementation for node dw")
    print("&&&& FAILED " + banner)
    sys.exit(1)
if "saveEngine" in flags:
    pathlib.Path(flags["saveEngine"]).write_bytes(b"plan")
    pathlib.Path(flags["exportLayerInfo"]).write_text({layers!r})
if "exportTimes" in flags:
    pathlib.Path(flags["exportTimes"]).write_text(json.dumps([{{"computeMs": t}} for t in (0.5, 0.75, 0.25)]))
print("&&&& PASSED " + banner)
'''


def stand_in(folder: Path, digits: str, layers: str = "{}", fails: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "trtexec"
    path.write_text(STAND_IN.format(python=sys.executable, digits=digits, layers=layers, fails=fails))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("8.6.2", {"--skipInference", "--int8", "--fp16"}, {"--stronglyTyped", "--buildOnly"}),
        ("9.3.0", {"--skipInference", "--stronglyTyped", "--noTF32"}, {"--int8", "--fp16"}),
        ("10.3.0", {"--skipInference", "--stronglyTyped", "--noTF32"}, {"--int8", "--fp16"}),
        ("11.1.0", {"--skipInference", "--noTF32"}, {"--stronglyTyped", "--int8", "--fp16", "--best"}),
    ],
)
def test_build_flags(version: str, has: set[str], has_not: set[str]) -> None:
    tool = Trtexec(Path("trtexec"), version)
    command = build_command(tool, Path("m.onnx"), Path("out"), input_shape="images:1x3x64x64", flags=("INT8", "FP16"))
    assert has <= set(command)
    assert not has_not & set(command)
    assert {"--onnx=m.onnx", "--optShapes=images:1x3x64x64"} <= set(command)
    [saved] = [word for word in command if word.startswith("--saveEngine=")]
    assert Path(saved.partition("=")[2]).parent == Path("out")
    assert Path(saved).name != PLAN_NAME  # nothing unproved has an engine's name
    assert "--profilingVerbosity=detailed" in command


def test_version_8_gets_no_flag_that_the_graph_lacks(graphs: dict[str, Path]) -> None:
    for name, half, flags in (
        ("int8", False, ("INT8",)),
        ("int8", True, ("INT8", "FP16")),
        ("fp32", False, ()),
        ("fp32", True, ("FP16",)),
    ):
        model = onnx.load(graphs[name])
        assert flags_of(to_float16(model) if half else model) == flags
    command = build_command(Trtexec(Path("trtexec"), "8.6.2"), Path("m.onnx"), Path("out"), flags=("FP16",))
    assert "--fp16" in command
    assert "--int8" not in command


@pytest.mark.parametrize(("version", "asks"), [("8.6.2", True), ("10.3.0", True), ("11.1.0", False)])
def test_time_flags(version: str, asks: bool) -> None:
    command = time_command(Trtexec(Path("trtexec"), version), Path("out"), warm_up_ms=200, duration_s=3)
    assert ({"--useCudaGraph", "--useSpinWait", "--noDataTransfers"} <= set(command)) is asks
    assert {"--warmUp=200", "--duration=3"} <= set(command)


@pytest.mark.parametrize(("digits", "version"), [("8602", "8.6.2"), ("100300", "10.3.0"), ("110100", "11.1.0")])
def test_the_binary_is_found_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: str, version: str
) -> None:
    path = stand_in(tmp_path / "bin", digits)
    assert find_trtexec(path) == Trtexec(path, version)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    assert find_trtexec() == Trtexec(path, version)


def test_no_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRuntimeError, match="install libnvinfer-bin"):
        find_trtexec()
    with pytest.raises(MissingRuntimeError, match="/bin/true: exit code 0"):
        find_trtexec(Path("/bin/true"))


def test_an_old_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = stand_in(tmp_path / "bin", "8502")
    with pytest.raises(MissingRuntimeError, match=r"TensorRT 8\.5\.2 is too old: 8\.6"):
        find_trtexec(old)
    works = stand_in(tmp_path / "jetpack", "100300")
    monkeypatch.setattr(trtexec, "JETPACK_TRTEXEC", works)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    assert find_trtexec() == Trtexec(works, "10.3.0")


def test_one_on_path_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "path" / "trtexec"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'libnvinfer.so.10: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(trtexec, "JETPACK_TRTEXEC", tmp_path / "none")
    with pytest.raises(MissingRuntimeError, match=r"exit code 127, libnvinfer\.so\.10: cannot open"):
        find_trtexec()
    works = stand_in(tmp_path / "bin", "100300")
    monkeypatch.setattr(trtexec, "JETPACK_TRTEXEC", works)
    assert find_trtexec() == Trtexec(works, "10.3.0")


def in_one(graph: Path, datatype: str) -> str:
    """The layers of an engine that computes all of them in ``datatype``."""
    return layer_information(graph, dict.fromkeys(("int8", "fp16", "fp32"), datatype))


@pytest.mark.parametrize("digits", ["8602", "100300"])
def test_an_engine_is_built_proved_and_timed(graphs: dict[str, Path], tmp_path: Path, digits: str) -> None:
    as_written = layer_information(graphs["int8"], {"int8": "Int8", "fp16": "Half", "fp32": "Float"})
    tool = find_trtexec(stand_in(tmp_path / "bin", digits, as_written))
    folder = tmp_path / "engine"
    folder.mkdir()
    record = build_engine_with_trtexec(tool, graphs["int8"], folder, "int8", gpu="Orin", capability="8.7")
    assert read_engine_record(folder) == record
    assert {row.layer for row in record.layers if row.runs_in != "int8"} == {"head"}
    assert (record.gpu, record.compute_capabilities, record.version) == ("Orin", ("8.7",), tool.version)
    log = (folder / LOG_NAME).read_text()
    rewritten = digits.startswith("8")  # for what TensorRT 8 knows
    assert (f"--onnx={folder / 'model.onnx'}" in log) is rewritten
    assert ("--int8" in log) is rewritten
    assert {p.name for p in folder.iterdir()} == {LOG_NAME, PLAN_NAME, RECORD_NAME, LAYERS_NAME}
    assert time_engine(tool, folder) == (0.5, 0.75, 0.25)


def test_a_fallback_is_an_error(graphs: dict[str, Path], tmp_path: Path) -> None:
    tool = find_trtexec(stand_in(tmp_path / "bin", "100300", in_one(graphs["int8"], "FP16")))
    arguments = (tool, graphs["int8"], tmp_path, "int8")
    with pytest.raises(VerificationError, match="is INT8 in the graph and runs in fp16"):
        build_engine_with_trtexec(*arguments, gpu="Orin", capability="8.7")
    assert not list(tmp_path.glob("*.engine"))
    record = build_engine_with_trtexec(*arguments, gpu="Orin", capability="8.7", allow_fallback=True)
    assert len(record.warnings) == 45


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'error while loading shared libraries: libnvdla_compiler.so' >&2; exit 127", "exit code 127.*libnvdla"),
        ("printf 'bad \\377 byte\\n' >&2; exit 3", "exit code 3.*bad"),
        ("kill -9 $$", "SIGKILL"),
    ],
)
def test_a_failure_without_a_banner(graphs: dict[str, Path], tmp_path: Path, script: str, said: str) -> None:
    broken = tmp_path / "trtexec"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    with pytest.raises(VerificationError, match=said):
        build_engine_with_trtexec(
            Trtexec(broken, "10.3.0"), graphs["int8"], tmp_path, "int8", gpu="Orin", capability="8.7"
        )


def test_a_failure_quotes_the_last_error(graphs: dict[str, Path], tmp_path: Path) -> None:
    tool = find_trtexec(stand_in(tmp_path / "bin", "100300", fails=True))
    with pytest.raises(VerificationError, match="Could not find any implementation for node dw"):
        build_engine_with_trtexec(tool, graphs["int8"], tmp_path, "int8", gpu="Orin", capability="8.7")
    assert "FAILED" in (tmp_path / LOG_NAME).read_text()
