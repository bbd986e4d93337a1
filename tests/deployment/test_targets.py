"""``edge_van.deployment.targets``: every file that is shipped, and what a file of one's own may hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import one_line

from edge_van.deployment.targets import NAMES, Target, load_target
from edge_van.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "targets"
MINE = 'title = "mine"\nruntime = "openvino"\narchitecture = "aarch64"\ncandidates = ["fp32"]\n'
PROBE: dict[str, Any] = {
    "architecture": "aarch64",
    "python": "3.8.10",
    "l4t": "36.4.3",
    "tensorrt": "10.3.0",
    "openvino": {"version": "2026.4.1", "capabilities": ["FP32", "INT8"]},
    "tensorrt_rtx": None,
    "errors": {},
}


def test_the_names_are_the_files() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(NAMES)
    assert {path.suffix for path in FOLDER.iterdir()} == {".toml"}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_target(name: str) -> None:
    target = load_target(name)
    assert target.title
    assert target.versions
    assert "fp32" in target.candidates  # what is exact is always there to choose
    if name.startswith("jetson"):
        assert (target.architecture, target.runtime) == ("aarch64", "tensorrt")
        assert set(target.paths) == {"trtexec", "tegrastats", "nvpmodel", "jetson_clocks"}
        assert "l4t" in target.versions


def own(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    target = load_target(own(tmp_path, MINE + 'python = ["/opt/py/bin/python3", "-E"]\nseconds = 2\n'))
    assert target == Target("mine", "openvino", "aarch64", ("fp32",), python=("/opt/py/bin/python3", "-E"), seconds=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no title, runtime, architecture, candidates"),
        (MINE + "colour = 3\n", "unknown keys: colour"),
        (MINE.replace("openvino", "onnx"), "runtime is one of openvino, tensorrt"),
        (MINE.replace('["fp32"]', '["int8"]'), "candidates is a list of fp32, bf16"),
        (MINE.replace('["fp32"]', '["fp32", "fp32"]'), "each at most once"),
        (MINE.replace('["fp32"]', '"fp32"'), "candidates is a list"),
        (MINE.replace('["fp32"]', "[]"), "candidates is a list"),
        (MINE.replace('"mine"', "3"), "title is a text"),
        (MINE + "python = []\n", "python is a command"),
        (MINE + 'python = "python3"\n', "python is a list of words"),
        (MINE + "rounds = 1.5\n", "rounds is a whole number"),
        (MINE + "rounds = true\n", "rounds is a number"),
        (MINE + "seconds = nan\n", "seconds is a number"),
        (MINE + "[versions]\nopenvino = 'new'\n", "versions.openvino is none"),
        (MINE + "[versions]\ncuda = '>=1'\n", "versions is a table of texts for l4t"),
        (MINE + "[paths]\ntrtexec = 3\n", "paths is a table of texts"),
        (MINE.replace('"openvino"', '"tensorrt"'), "paths.trtexec is where trtexec is"),
        ("title = ", "is no TOML"),
    ],
)
def test_a_file_that_is_no_target(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_target(own(tmp_path, text))
    one_line(caught, words, "mine.toml")


def test_what_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_target("jetson")
    one_line(caught, "no target is called 'jetson'", *NAMES)
    with pytest.raises(UsageError) as caught:
        load_target(tmp_path / "none.toml")
    one_line(caught, "does not exist", "cpu-arm")


def test_a_device_of_the_kind() -> None:
    assert load_target("cpu-arm").refusal(PROBE) is None
    assert load_target("jetson-orin-nano").refusal(PROBE) is None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("cpu-arm", {"architecture": "x86_64"}, "it is x86_64, ARM CPU is aarch64"),
        (
            "cpu-arm",
            {"openvino": None, "errors": {"openvino": "no module"}},
            "no OpenVINO that runs (no module): install it",
        ),
        ("cpu-arm", {"openvino": {"version": "2024.6.0"}}, "it has OpenVINO 2024.6.0"),
        ("cpu-arm", {"openvino": {"version": "of my own"}}, "it has OpenVINO of my own"),
        ("jetson-thor", {}, "it has L4T 36.4.3, Jetson Thor takes"),
        ("jetson-orin-nano", {"l4t": None}, "it has no L4T"),
        ("jetson-orin-nano", {"tensorrt": None}, "it has no TensorRT that runs: install libnvinfer-bin"),
        ("jetson-orin-nano", {"tensorrt": "8.5.2"}, "it has TensorRT 8.5.2"),
    ],
)
def test_a_device_of_another_kind(name: str, changes: dict[str, Any], words: str) -> None:
    why = load_target(name).refusal(PROBE | changes)
    assert why is not None
    assert words in why


def test_pythons_version_can_be_asked_for() -> None:
    target = replace(load_target("cpu-arm"), versions={"python": ">=3.10"})
    assert "it has Python 3.8.10" in (target.refusal(PROBE) or "")
