"""The command line: bad input is one clear line with the right exit code, and nothing is left behind."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_samples import MANIFEST, make
from cli_samples import CLASSES, error_line, image_folders, narrow_checkpoint, run

import edge_van
from edge_van import doctor
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import (
    AccuracyGateError,
    BundleError,
    CheckpointError,
    DataError,
    LatencyGateError,
    MissingRuntimeError,
    UsageError,
)
from edge_van.input_spec import InputSpec
from edge_van.model.complexity import best_dilation
from edge_van.runtimes import model_file

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *arguments: run(capfd, monkeypatch, *arguments)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``n.safetensors``, ``nan.safetensors`` and ``data`` with train/ and val/; read-only."""
    root = tmp_path_factory.mktemp("shared")
    narrow_checkpoint(root / "n.safetensors")
    narrow_checkpoint(root / "nan.safetensors", nan=True)
    image_folders(root / "data", {"train": 2, "val": 2})
    return root


def refused(command: Run, output: Path, code: int, *arguments: object, names: tuple[str, ...]) -> None:
    """``quantize`` ends with ``code`` and one line that has all ``names``; nothing is on stdout or beside output."""
    before = sorted(p.name for p in output.parent.iterdir())
    found, out, err = command("quantize", "--output", output, *arguments)
    line = error_line(err)
    assert found == code, line
    assert out == ""
    for name in names:
        assert name in line
    assert sorted(p.name for p in output.parent.iterdir()) == before


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.target),)


def _bad_checkpoint(kind: str, shared: Path, folder: Path) -> Path:
    good = (shared / "n.safetensors").read_bytes()
    path = folder / f"{kind}.pth"
    if kind == "truncated":
        torch.save({"head.weight": torch.zeros(64, 64)}, path)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "truncated-header":
        path = path.with_suffix(".safetensors")
        path.write_bytes(good[:1000])
    elif kind == "truncated-tensors":
        path = path.with_suffix(".safetensors")
        path.write_bytes(good[:-1000])
    elif kind == "random-bytes":
        path.write_bytes(bytes((i * 193 + 71) % 256 for i in range(5000)))
    elif kind == "empty":
        path.touch()
    elif kind == "pickle-bomb":
        torch.save({"state_dict": _Bomb(folder / "exploded")}, path)
    elif kind == "bare-pickle-bomb":
        path.write_bytes(pickle.dumps(_Bomb(folder / "exploded"), protocol=2))
    elif kind == "no-van":
        torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7)}, path)
    elif kind == "nan":
        return shared / "nan.safetensors"
    return path


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        ("missing", 2, "does not exist"),
        ("truncated", 1, "cut off"),
        ("truncated-header", 1, "cut off"),
        ("truncated-tensors", 1, "cut off"),
        ("random-bytes", 1, "no file of a known kind"),
        ("empty", 1, "empty"),
        ("pickle-bomb", 1, "mkdir"),
        ("bare-pickle-bomb", 1, ""),
        ("no-van", 1, "conv1"),
        ("nan", 1, "head.weight"),
    ],
)
def test_a_bad_checkpoint(command: Run, shared: Path, tmp_path: Path, kind: str, code: int, word: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = _bad_checkpoint(kind, shared, source)
    data = shared / "data"
    refused(command, tmp_path / "b", code, "--checkpoint", path, "--data", data, names=(path.name, word))
    assert not (source / "exploded").exists()


def test_another_variant_than_the_checkpoints(command: Run, shared: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", shared / "n.safetensors", "--data", shared / "data", "--variant", "b1")
    refused(command, tmp_path / "b", 2, *flags, names=("b1", "n.safetensors", "(8, 16, 16, 24)"))
    refused(command, tmp_path / "b", 2, "--variant", "b1", names=("demo", "b0", "b1"))


def _bad_data(kind: str, good: Path, data: Path) -> str:
    """Makes ``data`` bad in the way of ``kind``; returns what the message must name."""
    if kind != "no images":
        shutil.copytree(good, data)
    if kind == "no images":
        data.mkdir()
        (data / "notes.txt").touch()
        return "no image"
    if kind == "fewer classes":
        shutil.rmtree(data / "cow")
        return "the model has 3"
    if kind == "strange class":
        (data / "cow").rename(data / "cat")
        return "cat"
    for folder in sorted(data.iterdir()):
        for file in sorted(folder.iterdir()):
            file.rename(data / f"{folder.name}_{file.name}")
        folder.rmdir()
    return "class folders"


@pytest.mark.parametrize("kind", ["no images", "fewer classes", "strange class", "no class folders"])
def test_bad_data(command: Run, shared: Path, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "pictures"
    word = _bad_data(kind, shared / "data" / "val", data)
    flags: list[object] = ["--checkpoint", shared / "n.safetensors", "--data", data]
    flags += ["--calibration", shared / "data" / "train", "--samples", 4]
    if kind == "strange class":
        names = tmp_path / "names.txt"
        names.write_text("ant\nbee\ncow\n")
        flags += ["--classes", names]
    refused(command, tmp_path / "b", 1, *flags, names=("pictures", word))


def test_bad_calibration(command: Run, shared: Path, tmp_path: Path) -> None:
    checkpoint, val = ("--checkpoint", shared / "n.safetensors"), shared / "data" / "val"
    output, flags = tmp_path / "b", (*checkpoint, "--data", val)
    refused(command, output, 2, *flags, names=("--calibration", "val"))
    refused(command, output, 2, *checkpoint, names=("--data",))
    refused(command, output, 2, *flags, "--calibration", tmp_path / "none", names=("none", "does not exist"))
    refused(command, output, 1, *flags, "--calibration", val, names=("no image is left",))
    broken = tmp_path / "broken"
    shutil.copytree(shared / "data" / "train", broken)
    (broken / "bee" / "0.png").write_bytes((broken / "bee" / "0.png").read_bytes()[:700])
    refused(command, output, 1, *flags, "--calibration", broken, "--strict", names=("bee/0.png", "broken"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--nope",), ("--nope", "edge-van quantize --help")),
        (("--samples", "many"), ("--samples", "many")),
        (("--samples", "0"), ("samples", "1 to 100000")),
        (("--max-drop", "-1"), ("--max-drop", "-1", "0 to 100")),
        (("--max-drop", "nan"), ("--max-drop", "nan")),
        (("--min-speedup", "fast"), ("--min-speedup", "fast")),
        (("--min-speedup", "2", "--target", "tensorrt"), ("--min-speedup", "--target openvino")),
        (("--target", "onnx"), ("--target", "onnx")),
        (("--target", ","), ("--target", "none")),
        (("--mean", "1,2"), ("--mean", "1,2")),
        (("--std", "0"), ("std", "over 0")),
        (("--input-size", "1x2x3"), ("--input-size", "1x2x3")),
        (("--input-size", "0"), ("size", "0")),
        (("--crop", "2"), ("crop", "2")),
        (("--interpolation", "magic"), ("--interpolation", "magic")),
        (("--classes", "no/such/file"), ("--classes", "no/such/file")),
        (("--recipe", "no/such/recipe"), ("no/such/recipe",)),
        (("--checkpoint", "a\nb"), ("a\\nb",)),
    ],
)
def test_bad_usage(command: Run, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(command, tmp_path / "b", 2, *flags, names=words)


def test_class_names_that_do_not_fit_the_head(command: Run, shared: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    flags = ("--checkpoint", shared / "n.safetensors", "--data", shared / "data", "--classes", names)
    for text, words in (("a\nb\n", ("2 class names", "3 classes")), ("a\na\nb\n", ("repeated", "a")), ("", ("none",))):
        names.write_text(text)
        refused(command, tmp_path / "b", 2, *flags, names=words)


def test_an_output_that_cannot_be(command: Run, shared: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", shared / "n.safetensors", "--data", shared / "data")
    file, full, bundle = tmp_path / "file", tmp_path / "full", make(tmp_path / "bundle").path
    file.touch()
    full.mkdir()
    (full / "thesis.tex").touch()
    code, out, err = command("quantize", *flags, "--output", file / "b")
    assert (code, out) == (2, "")
    assert "is a file" in error_line(err)
    refused(command, bundle, 2, *flags, names=("bundle", "--force"))
    refused(command, full, 2, *flags, "--force", names=("full", "no edge-van bundle"))
    refused(command, file, 2, *flags, "--force", names=("file",))
    assert (bundle / "manifest.json").is_file()
    assert (full / "thesis.tex").is_file()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where nobody may write")
def test_an_output_that_is_not_writable(command: Run, shared: Path) -> None:
    flags = ("--checkpoint", shared / "n.safetensors", "--data", shared / "data")
    code, out, err = command("quantize", *flags, "--output", "/proc/b")
    assert (code, out) == (1, "")
    assert "/proc/b cannot be written" in error_line(err)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("no"), 1),
        (DataError("no"), 1),
        (BundleError("no"), 1),
        (UsageError("no"), 2),
        (AccuracyGateError("no"), 3),
        (LatencyGateError("no"), 4),
        (MissingRuntimeError("no"), 5),
    ],
)
def test_exit_codes(command: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(edge_van, "quantize", fail)
    assert command("quantize") == (code, "", "edge-van: error: no\n")


def test_an_interrupt_is_130(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge_van, "quantize", interrupted)
    code, out, err = command("quantize")
    assert (code, out) == (130, "")
    assert err.strip() == "edge-van: interrupted; nothing half-written was left"


def test_a_defect_of_ours_is_one_line_too(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(edge_van, "quantize", fail)
    code, _, err = command("quantize")
    assert code == 1
    assert error_line(err) == (
        "edge-van: error: unexpected ZeroDivisionError: first (run with --verbose for the traceback)"
    )


@pytest.mark.parametrize("arguments", [("--verbose", "info"), ("info", "--verbose")])
def test_verbose_shows_the_traceback_wherever_it_stands(command: Run, arguments: tuple[str, str]) -> None:
    code, out, err = command(*arguments, "--variant", "b9")
    assert (code, out) == (2, "")
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("edge-van: error: unknown variant 'b9'")


def test_no_verb_is_the_help(command: Run) -> None:
    code, out, err = command()
    assert "quantize" in out + err
    assert "Traceback" not in err
    assert code in (0, 2)  # click before and since 8.2
    assert command("--version")[:1] == (0,)
    assert command("quantise")[0] == 2


@pytest.mark.alone
def test_help_is_instant_and_loads_no_torch() -> None:
    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=60)
        return time.perf_counter() - started

    # in turns with what every command line of the kind costs: the machine may be slow, or have other work
    times = [(seconds("-c", "import click, msgspec"), seconds("-m", "edge_van", "--help")) for _ in range(5)]
    bare, help_s = (min(column) for column in zip(*times, strict=True))
    assert help_s < max(0.3, 4 * bare)
    code = (
        "import sys, atexit; from edge_van.cli.main import main; sys.argv[1:] = ['quantize', '--help'];"
        "atexit.register(lambda: print('loaded:', 'torch' in sys.modules, 'numpy' in sys.modules)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("loaded: False False\n")
    assert "--max-drop" in done.stdout


@pytest.mark.parametrize("flag", ["--output", "--data", "--calibration", "--checkpoint", "--labels"])
def test_an_empty_path_is_none(command: Run, flag: str) -> None:
    code, _, err = command("quantize", flag, "")
    assert code == 2
    assert "it is empty: give a path" in error_line(err)


def test_a_full_disk_under_standard_output_is_one_line() -> None:
    for flags in (("--json",), ()):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "edge_van", "info", "--variant", "b0", *flags],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 1
        assert "the output cannot be written (No space left on device): free some space" in error_line(done.stderr)


def test_an_interrupt_before_the_command_line_is_loaded() -> None:
    code = """
import sys
from edge_van.__main__ import main

class Interrupted:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "edge-van: interrupted\n")


def test_info(command: Run) -> None:
    code, out, err = command("info", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    rows = {row["name"]: row for row in found["variants"]}
    assert list(rows) == ["b0", "b1", "b2", "b3", "b4", "b5", "b6"]
    for row in rows.values():
        assert row["params"] / 1e6 == pytest.approx(row["paper_params_m"], rel=0.02)
        assert row["macs"] / 1e9 == pytest.approx(row["paper_gmacs"], rel=0.05)
    assert found["best_dilation"] == best_dilation(21) == 3
    code, out, _ = command("info", "--variant", "b0", "--kernel-size", "21")
    assert code == 0
    assert "cheapest dilation for K = 21: d = 3" in out
    assert "b1" not in out.split("convolution over")[0]
    assert command("info", "--kernel-size", "0")[0] == 2


def test_info_of_a_bundle(command: Run, tmp_path: Path) -> None:
    bundle = make(tmp_path / "b").path
    code, out, err = command("info", bundle)
    assert (code, err) == (0, "")
    assert "VAN-" in out
    assert "Bundle:" in out
    code, out, _ = command("info", bundle, "--json")
    assert code == 0
    assert json.loads(out)["schema_version"] == 3
    for flags in (("--variant", "b0"), ("--dla",), ("--input-size", 64), ("--kernel-size", 21)):
        assert command("info", bundle, *flags)[0] == 2
    code, _, err = command("info", "--dla", "--kernel-size", "7")
    assert code == 2
    assert "leave --kernel-size out" in error_line(err)
    assert command("info", tmp_path / "none")[0] == 1


def test_paths_that_no_system_has(command: Run, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 300)
    bundle = make(tmp_path / "b").path
    (tmp_path / "loop").symlink_to("loop")
    for code, arguments in (
        (1, ("doctor", long)),
        (1, ("validate", bundle, "--data", long)),
        (2, ("quantize", "--output", tmp_path / "loop" / "x")),
        (2, ("quantize", "--output", tmp_path / "o\udcff")),
        (2, ("quantize", "--input-size", "9" * 5000)),
        (2, ("quantize", "--crop", "1e-320")),
    ):
        found, out, err = command(*arguments)
        assert "unexpected" not in error_line(err)
        assert (found, out) == (code, "") or arguments[0] == "doctor"
    recipe = tmp_path / "r.toml"
    recipe.write_text(f"samples = 0x{'f' * 20000}")
    code, _, err = command("quantize", "--recipe", recipe)
    assert code == 2
    assert "far too large" in error_line(err)


def test_a_terminal_without_the_letters(tmp_path: Path) -> None:
    bundle = make(tmp_path / "ü日").path
    command = [sys.executable, "-m", "edge_van", "info", str(bundle)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xfc\\u65e5" in done.stdout


@pytest.mark.parametrize("seed", ["-1", str(2**63), "9" * 30, "x"])
def test_a_seed_that_is_none(command: Run, seed: str) -> None:
    code, out, err = command("quantize", "--seed", seed)
    assert (code, out) == (2, "")
    assert "--seed" in error_line(err)


def test_doctor_of_a_bundle(command: Run, tmp_path: Path) -> None:
    bundle = make(tmp_path / "b").path
    code, out, err = command("doctor", bundle)
    assert (code, err) == (0, "")
    assert "all sound" in out
    file = bundle / "model.xml"
    file.write_bytes(b"<nEt/>")
    code, out, err = command("doctor", bundle, "--json")
    assert code == 1
    assert "model.xml" in error_line(err)
    assert [c["status"] for c in json.loads(out)] == ["ok", "broken"]
    file.unlink()
    code, out, err = command("doctor", bundle)
    assert code == 1
    assert "model.xml" in error_line(err)
    code, out, err = command("doctor", tmp_path / "none")
    assert code == 1
    assert "none" in error_line(err)


def test_doctor_of_the_install(command: Run) -> None:
    code, out, _ = command("doctor", "--json")
    checks = {c["name"]: c["status"] for c in json.loads(out)}
    assert checks["edge-van"] == "ok"
    assert code == (5 if "broken" in checks.values() else 0)


def test_doctor_of_a_broken_install(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ("tensorrt", "tensorrt", ("tensorrt",), "pip install tensorrt", lambda module: 1 / 0)
    monkeypatch.setattr(doctor, "_libraries", lambda needed: [row])
    monkeypatch.setitem(sys.modules, "tensorrt", doctor)
    code, out, err = command("doctor", "--json")
    assert code == 5
    assert "1 checks failed: tensorrt" in error_line(err)
    assert json.loads(out)[-1]["status"] == "broken"


def test_validate_without_a_bundle(command: Run, shared: Path, tmp_path: Path) -> None:
    code, out, err = command("validate", tmp_path / "none", "--data", shared / "data" / "val")
    assert (code, out) == (1, "")
    assert "none is no bundle" in error_line(err)
    code, out, err = command("validate", make(tmp_path / "b").path, "--data", tmp_path / "gone")
    assert (code, out) == (2, "")
    assert "gone does not exist" in error_line(err)
    assert command("validate", tmp_path / "none")[0] == 2


@pytest.mark.parametrize("kind", ["openvino", "openvino_fp32"])
@pytest.mark.parametrize("part", ["xml", "bin"])
def test_validate_measures_no_damaged_bundle(
    command: Run, shared: Path, tmp_path: Path, kind: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*arguments: object, **options: object) -> None:
        raise AssertionError("an engine was given a file of a damaged bundle")

    with BundleWriter(tmp_path / "b") as writer:
        for name in ("openvino", "openvino_fp32"):
            for ending in ("xml", "bin"):
                writer.path(f"{name}/model.{ending}").write_bytes(b"whole")
        bundle = writer.finish(replace(MANIFEST, num_classes=3, input_spec=InputSpec(classes=CLASSES)))
    (bundle.path / kind / f"model.{part}").write_bytes(b"whale")
    monkeypatch.setattr(model_file, "open_model", opened)
    code, out, err = command("validate", bundle.path, "--data", shared / "data" / "val")
    assert (code, out) == (1, "")
    line = error_line(err)
    assert "is damaged" in line
    assert f"{kind}/model.{part} was changed" in line


def test_without_torch_the_missing_extra_is_named() -> None:
    """A device's slim install; torch is made unimportable in a process of its own."""
    hide = "import sys; sys.modules['torch'] = None; sys.argv = ['edge-van', 'quantize']"
    code = f"{hide}; import edge_van.cli.main as c; c.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "edge-van: error: this needs torch, which is not installed: pip install 'edge-van[quantize]'"
    ]
