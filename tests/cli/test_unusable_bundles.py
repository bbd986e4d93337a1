"""Bundles that are read-only or damaged: every verb says the same of them, and ends with the same exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_samples import error_line, pixels_of, run, tree
from PIL import Image

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import PIXELS
from edge_van.bundle.layout import FP32_IR, GOLDEN, INT8_IR, OPENVINO_ONNX, graph_path
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.bundle.records import GoldenRecord, SchemeResult
from edge_van.bundle.writer import BundleWriter

Run = Callable[..., tuple[int, str, str]]
Verb = tuple[object, ...]
BUNDLE, DATA = "BUNDLE", "DATA"
WRITES: dict[str, Verb] = {
    "build": ("build", BUNDLE, "--runtime", "tensorrt_rtx", "--compute-capability", "8.6"),
    "benchmark": ("benchmark", BUNDLE, "--runtime", "onnxruntime"),
    "benchmark-output": ("benchmark", BUNDLE, "--output", f"{BUNDLE}/b.json"),
    "report": ("report", BUNDLE),
    "report-output": ("report", BUNDLE, "--output", f"{BUNDLE}/report"),
    "quantize": ("quantize", "--output", BUNDLE, "--force"),
    "quantize-data": ("quantize", "--output", BUNDLE, "--force", "--target", "tensorrt", "--variant", "b0"),
}
"""What writes into a bundle or puts another in its place."""


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *arguments: run(capfd, monkeypatch, *arguments)


@pytest.fixture
def copied(timed_bundle: Bundle, tmp_path: Path) -> Path:
    """A sound bundle that the test may spoil."""
    return Path(shutil.copytree(timed_bundle.path, tmp_path / "b"))


def on(verb: Verb, bundle: Path, data: Path | None = None) -> Verb:
    return tuple(str(word).replace(BUNDLE, str(bundle)).replace(DATA, str(data)) for word in verb)


# ── read-only ────────────────────────────────────────────────────────────────────────────────────────────────────────


def said_of(bundle: Path, verb: str, reason: str) -> str:
    there = (
        f"{bundle}/report cannot be written (at {bundle})" if verb == "report-output" else f"{bundle} cannot be written"
    )
    return f"edge-van: error: {there}: {reason}; choose a folder you may write to, or a copy in one"


@pytest.mark.usefixtures("permissions_hold")
@pytest.mark.parametrize("verb", WRITES)
def test_no_permission_has_one_wording(command: Run, copied: Path, verb: str) -> None:
    """The folder above may be written: another bundle could be put in its place, but this one not removed."""
    copied.chmod(0o555)
    before = tree(copied.parent)
    code, out, err = command(*on(WRITES[verb], copied))
    assert (code, out, error_line(err)) == (1, "", said_of(copied, verb, "permission denied"))
    assert tree(copied.parent) == before


@pytest.mark.parametrize("verb", WRITES)
def test_a_read_only_file_system_has_one_wording(
    command: Run, copied: Path, read_only_mount: Callable[[Path], None], verb: str
) -> None:
    read_only_mount(copied)
    before = tree(copied.parent)
    code, out, err = command(*on(WRITES[verb], copied))
    assert (code, out, error_line(err)) == (1, "", said_of(copied, verb, "the file system is read-only"))
    assert tree(copied.parent) == before


def test_what_writes_nothing_takes_a_read_only_bundle(
    command: Run, copied: Path, tmp_path: Path, read_only_mount: Callable[[Path], None]
) -> None:
    image = tmp_path / "image.png"
    shutil.copy(Path(__file__).parents[2] / "docs" / "images" / "report-light-1440.png", image)
    read_only_mount(copied)
    for verb in (("info", copied), ("doctor", copied), ("predict", copied, image)):
        code, out, err = command(*verb)
        assert (code, bool(out)) == (0, True), err
    elsewhere = ("benchmark", copied, "--output", tmp_path / "r.json", "--scenario", "single-stream")
    brief = ("--min-duration", 0, "--samples", 10, "--runtime", "onnxruntime", "--no-startup", "--no-layers")
    assert command(*elsewhere, *brief)[0] == 0
    assert command("report", copied, "--output", tmp_path / "report")[0] == 0


# ── damaged ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Damage = Callable[[Path], object]
READS: dict[str, Verb] = {
    "info": ("info", BUNDLE),
    "doctor": ("doctor", BUNDLE),
    "validate": ("validate", BUNDLE, "--data", DATA),
    "predict": ("predict", BUNDLE, f"{DATA}/0/0.png"),
    "predict-exactly": ("predict", BUNDLE, f"{DATA}/0/0.png", "--runtime", "onnxruntime"),
    "benchmark": ("benchmark", BUNDLE, "--no-startup"),
    "report": ("report", BUNDLE),
    "build": ("build", BUNDLE, "--runtime", "tensorrt_rtx", "--compute-capability", "8.6"),
    "deploy": ("deploy", BUNDLE, "local", "--target", "cpu-x86", "--root", f"{DATA}/root"),
}
"""What opens a bundle. Neither a GPU nor what builds for one is needed to see that it is damaged."""
LOOKS_ONLY = ("info", "report")
"""They show what is in the manifest, and hash no model."""
ADVICE = re.compile(r"[:;,] (or )?(make|copy|give|upgrade|do not use)\b")


def in_manifest(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(bundle: Path) -> None:
        content = json.loads((bundle / MANIFEST_NAME).read_bytes())
        change(content)
        (bundle / MANIFEST_NAME).write_text(json.dumps(content))

    return damage


def instead(*keys: str, value: object) -> Damage:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return in_manifest(change)


def in_models(change: Callable[[bytes], bytes], *endings: str) -> Damage:
    def damage(bundle: Path) -> None:
        for path in bundle.rglob("model*"):
            if path.suffix in endings:
                path.write_bytes(change(path.read_bytes()))

    return damage


def without_models(bundle: Path) -> None:
    for path in bundle.rglob("model*"):
        path.unlink()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Damage] = {
    "another size": instead("input_spec", "size", value=[32, 32]),
    "a size that is none": instead("input_spec", "size", value=[0, 64]),
    "a size of another type": instead("input_spec", "size", value="64"),
    "another number of classes": instead("num_classes", value=9),
    "no classes": instead("num_classes", value=0),
    "a number of another type": instead("num_classes", value="7"),
    "another number of channels": in_manifest(lambda m: m["input_spec"].update(mean=[0.5] * 4, std=[0.5] * 4)),
    "a part missing": in_manifest(lambda m: m.pop("input_spec")),
    "no files": instead("files", value=[]),
    "a path that leads out": in_manifest(lambda m: m["files"][0].update(path="../x")),
    "other hashes": in_manifest(lambda m: [entry.update(sha256="00" * 32) for entry in m["files"]]),
    "a later version": instead("schema_version", value=99),
    "a list": lambda bundle: (bundle / MANIFEST_NAME).write_text("[]"),
    "broken JSON": lambda bundle: os.truncate(bundle / MANIFEST_NAME, 500),
    "an empty manifest": lambda bundle: os.truncate(bundle / MANIFEST_NAME, 0),
    "no manifest": lambda bundle: (bundle / MANIFEST_NAME).unlink(),
    "missing files": without_models,
    "truncated graphs": in_models(lambda content: content[:-100], ".xml", ".onnx"),
    "truncated weights": in_models(lambda content: content[:-100], ".bin", ".onnx"),
    "a byte of the graphs": in_models(flipped, ".xml", ".onnx"),
    "a byte of the weights": in_models(flipped, ".bin", ".onnx"),
}
IN_CONTENT = ("a byte of the graphs", "a byte of the weights")


@pytest.fixture(scope="module")
def for_all(timed_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a graph for TensorRT and golden images, of which only the shapes are right."""
    graph = graph_path("int8")
    with BundleWriter(tmp_path_factory.mktemp("for_all") / "b") as writer:
        for entry in timed_bundle.manifest.files:
            writer.path(entry.path).write_bytes(Path(timed_bundle.file(entry.path)).read_bytes())
        writer.path(graph).write_bytes(Path(timed_bundle.file(OPENVINO_ONNX)).read_bytes())
        logits = {file: np.zeros((2, 7), np.float32) for file in (FP32_IR, INT8_IR)}
        np.savez(writer.path(GOLDEN), **{PIXELS: np.zeros((2, 64, 64, 3), np.uint8), **logits})
        scheme = SchemeResult("int8", graph, True, (), 9, 30.0, 99.0, 64, target="tensorrt")
        golden = GoldenRecord(2, {FP32_IR: 40.0, INT8_IR: 10.0})
        manifest = replace(timed_bundle.manifest, schemes=(*timed_bundle.manifest.schemes, scheme), golden=golden)
        return Path(writer.finish(manifest).path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for label in range(7):
        (folder / str(label)).mkdir()
        Image.fromarray(pixels_of(label % 3, 64, np.random.default_rng(label))).save(folder / str(label) / "0.png")
    return folder


def test_the_sound_bundle_is_none_of_this(command: Run, for_all: Path, data: Path) -> None:
    for verb in ("info", "doctor", "validate", "predict", "predict-exactly"):
        code, _, err = command(*on(READS[verb], for_all, data))
        assert code == 0, err
    code, _, err = command(*on(READS["build"], for_all, data))
    assert code != 1 or "damaged" not in err  # whether it builds here is another matter


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verb", READS)
def test_a_damaged_bundle_is_exit_code_1_and_advice(
    command: Run, for_all: Path, data: Path, tmp_path: Path, verb: str, damage: str
) -> None:
    bundle = Path(shutil.copytree(for_all, tmp_path / "b"))
    DAMAGES[damage](bundle)
    code, out, err = command(*on(READS[verb], bundle, data))
    if damage in IN_CONTENT and verb in LOOKS_ONLY:
        assert code == 0, err
        return
    line = error_line(err)
    assert code == 1, line
    assert ADVICE.search(line), line
    assert verb in ("info", "doctor") or out == ""
