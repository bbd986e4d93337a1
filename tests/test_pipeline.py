"""The whole way from a narrow checkpoint to a bundle, twice in processes of its own; then what goes wrong on that way.

The runs that are made to fail put the model files of a real run in place of the export: it takes most of the time.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from bundle_samples import ACCURACY
from cli_samples import CLASSES, error_line, image_folders, killed_after, narrow_checkpoint, pixels_of, run, start, tree
from PIL import Image

import edge_van
import edge_van.bundle.bundle
import edge_van.pipeline
from edge_van.budget.trial import Trials
from edge_van.bundle import writer
from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, GOLDEN, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.recipe import Recipe
from edge_van.cli import main as cli
from edge_van.errors import BundleError
from edge_van.evaluation import evidence
from edge_van.evaluation.accuracy import Measured
from edge_van.export.job import Exported, ExportJob
from edge_van.export.rounded import rounded_file
from edge_van.machine import is_this_cpu
from edge_van.pipeline import quantize
from edge_van.progress import SILENT, Advance, Reporter, Work
from edge_van.quantization import qat
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import Prepared
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import ModelFile, exact_graph
from edge_van.runtimes.openvino import has_bf16
from edge_van.starting_point import QuantizeOptions
from edge_van.statistics import sqnr_db
from edge_van.timing.latency import MIN_ROUNDS

TENSORRT_MODELS = ["onnx/model_fp16.onnx", "onnx/model_int8.onnx", "onnx/model_int8_pointwise.onnx"]
ARM_MODELS = ["onnx/model_openvino_arm.onnx", "openvino_arm/model.bin", "openvino_arm/model.xml"]
MODELS = [
    GOLDEN,
    "onnx/model.onnx",
    "onnx/model_fp16.onnx",
    "onnx/model_int8.onnx",
    "onnx/model_int8_pointwise.onnx",
    "onnx/model_openvino.onnx",
    "onnx/model_openvino_arm.onnx",
    "openvino/model.bin",
    "openvino/model.xml",
    "openvino_arm/model.bin",
    "openvino_arm/model.xml",
    "openvino_fp32/model.bin",
    "openvino_fp32/model.xml",
]
STAGES = ["Looking", "Reading", "Folding", "Exporting", "Measuring accuracy", "Measuring latency"]
DROPPED_BY_PYTHON = re.compile(r"^Exception ignored in.*\nTraceback .*\n(?: .*\n)*\S.*\n", re.MULTILINE)
"""What Python itself prints of an interrupt that came while a destructor ran; it is raised again by ``progress``."""
BRIEFLY = f"from edge_van.evaluation import evidence as e\ne.LATENCY_ROUNDS, e.LATENCY_S = {MIN_ROUNDS}, 0.0"
"""Run first in a real process: it times as little as may be, not for ten seconds."""
Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Finished:
    """A real run: what it was given, the bundle, what it printed."""

    flags: tuple[object, ...]
    bundle: Bundle
    out: str
    err: str


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *arguments: run(capfd, monkeypatch, *arguments)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    narrow_checkpoint(root / "n.safetensors")
    image_folders(root / "data", {"train": 10, "val": 8})
    (root / "names.txt").write_text("\n".join(CLASSES) + "\n")
    unlabelled = root / "unlabelled"  # and nearly all of one class
    unlabelled.mkdir()
    for label, count in enumerate((26, 3, 1)):
        for i in range(count):
            pixels = pixels_of(label, 32, np.random.default_rng((label, i)))
            Image.fromarray(pixels).save(unlabelled / f"{label}{i}.png")
    (root / "qat.toml").write_text("max_drop_points = 100\n[qat]\nimages = 24\nsteps = 4\nbatch = 4\n")
    (root / "any.toml").write_text("max_drop_points = 100\n")
    camera = image_folders(root / "camera", {"val": 3, "train": 3}, size=64)
    for file in camera.rglob("*.png"):
        Image.open(file).resize((80, 64)).save(file)
    return root


@pytest.fixture(scope="module")
def runs(root: Path) -> dict[str, Finished]:
    """Five real runs: twice the same, each in a process of its own; in this one, which has torch by now, one with
    another seed for TensorRT only, one with everything overridden, one that trains."""
    usual = ("--checkpoint", root / "n.safetensors", "--data", root / "data", "--samples", 20)
    camera = ("--checkpoint", root / "n.safetensors", "--data", root / "camera", "--samples", 9)
    overrides = ("--input-size", "32x40", "--mean", "0.4", "--std", "0.3,0.4,0.5", "--source-size", "64x80")
    flags: dict[str, tuple[object, ...]] = {
        "json": (*usual, "--json"),
        "again": (*usual, "--target", "openvino"),
        "tensorrt": (*usual, "--seed", 1, "--target", "tensorrt"),
        "qat": qat_flags(root),
        "camera": (
            *camera,
            *overrides,
            "--target",
            "openvino,openvino_arm",
            "--classes",
            root / "names.txt",
            "--crop",
            "0.8",
            "--recipe",
            root / "any.toml",
        ),
    }
    lines = {name: ("quantize", *f, "--output", root / "out" / name) for name, f in flags.items()}
    processes = {name: start(*lines[name], before=BRIEFLY) for name in ("json", "again")}
    ended = {name: run_here(*lines[name]) for name in ("tensorrt", "qat", "camera")}
    for name, process in processes.items():
        out, err = process.communicate(timeout=400)
        ended[name] = process.returncode, out, err
    finished = {}
    for name, (code, out, err) in ended.items():
        print(name, code, err)  # shown with the tests that miss it
        if code == 0:
            finished[name] = Finished(flags[name], open_bundle(root / "out" / name), out, err)
    assert not list((root / "out").glob(".*"))
    return finished


def qat_flags(root: Path) -> tuple[object, ...]:
    flags = ("--checkpoint", root / "n.safetensors", "--data", root / "data" / "val", "--samples", 20)
    trained = ("--recipe", root / "qat.toml", "--method", "qat", "--calibration", root / "unlabelled")
    return (*flags, *trained, "--target", "openvino")


def run_here(*arguments: object) -> tuple[object, str, str]:
    """As ``run``, where no test is that captures; what libraries print past Python is not seen."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
        patch.setattr(evidence, "LATENCY_S", 0.0)
        patch.setattr(sys, "argv", ["edge-van", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return stopped.value.code, out.getvalue(), err.getvalue()


def test_the_manifest_is_complete(runs: dict[str, Finished]) -> None:
    bundle = runs["json"].bundle
    manifest = bundle.manifest
    assert [f.path for f in manifest.files] == MODELS
    assert verify(bundle) == []
    assert (manifest.variant, manifest.num_classes, manifest.checkpoint) == ("custom", 3, "n.safetensors")
    assert manifest.input_spec.classes == CLASSES
    assert (manifest.calibration.images, manifest.calibration.seed) == (20, 0)
    assert [(s.name, s.target, s.file) for s in manifest.schemes] == [
        ("openvino", "openvino", "onnx/model_openvino.onnx"),
        ("openvino_arm", "openvino_arm", "onnx/model_openvino_arm.onnx"),
        ("int8", "tensorrt", "onnx/model_int8.onnx"),
        ("int8_pointwise", "tensorrt", "onnx/model_int8_pointwise.onnx"),
        ("fp16", "tensorrt", "onnx/model_fp16.onnx"),
        ("fp32", "tensorrt", "onnx/model.onnx"),
    ]
    for scheme in manifest.schemes[1:]:
        assert scheme.accuracy is not None
        assert scheme.accuracy.images == 24
    assert manifest.rounded is not None
    assert (manifest.rounded.model, manifest.rounded.images, manifest.rounded.classes) == ("bf16", 24, ())
    assert manifest.golden is not None
    assert manifest.golden.rounded_floor_db is not None
    with rounded_file(Path(bundle.file(FP32_ONNX)), "bf16") as rounded:
        golden = read_golden(bundle)
        with open_image_model(exact_graph(rounded), manifest.input_spec, 3, batch=1) as model:
            noise_db = sqnr_db(golden.logits[FP32_IR], model.logits(golden.pixels))
    assert manifest.golden.rounded_floor_db == pytest.approx(noise_db - 3.0, abs=0.05)
    assert manifest.recipe.samples == 20
    assert manifest.fold.batch_norms_folded == 12
    assert manifest.accuracy is not None
    assert manifest.accuracy.images == 24
    assert manifest.latency is not None
    timed = {row.name for row in manifest.latency.rows}
    assert timed == {"fp32", "int8", *(("bf16", "int8_bf16") if has_bf16() else ())}
    assert manifest.cpu is not None
    assert {row.scheme for row in manifest.cpu.table} == timed
    known = {row.scheme for row in manifest.cpu.table if row.drop_points is not None}
    assert known == {"fp32", "int8", *manifest.precisions}
    assert manifest.cpu.active in known
    assert is_this_cpu(manifest.machine)
    assert "torch" in manifest.versions
    assert str(bundle.path.parent) not in (bundle.path / "manifest.json").read_text()


@pytest.mark.parametrize("name", ["json", "tensorrt", "camera"])
def test_every_file_says_what_a_stranger_needs(runs: dict[str, Finished], name: str) -> None:
    bundle = runs[name].bundle
    spec, models = bundle.manifest.input_spec, {model.file: model for model in bundle.models()}
    files = [f.path for f in bundle.manifest.files if f.path.endswith((".onnx", ".xml"))]
    assert files
    assert set(files) == set(models)
    for file in files:
        if file.endswith(".onnx"):
            proto = onnx.load(bundle.file(file))
            said = {prop.key.removeprefix("edge_van."): prop.value for prop in proto.metadata_props}
            taken = tuple(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:])
            device = "for TensorRT" if file in TENSORRT_MODELS else "for"
        else:
            ir = ov.Core().read_model(bundle.file(file))
            said, taken = dict(ir.get_rt_info("edge_van").value), tuple(ir.input(0).shape)[1:]
            device = "by OpenVINO"
        assert said["input_layout"] == ("NCHW" if models[file].takes == "floats" else "NHWC")
        assert said["input_type"] == ("float32" if models[file].takes == "floats" else "uint8")
        assert tuple(json.loads(said["input_size"])) == (taken[1:] if models[file].takes == "floats" else taken[:2])
        assert said["resize"].startswith("inside" if models[file].takes == "camera" else "before")
        assert spec.interpolation in said["resize"]
        assert (tuple(json.loads(said["mean"])), tuple(json.loads(said["std"]))) == (spec.mean, spec.std)
        assert (said["source_order"], tuple(json.loads(said["classes"]))) == (spec.source_order, spec.classes)
        assert device in said["made_for"], file
        assert said["outputs"] == "a logit for each class: softmax", file
        assert ("ARM" in said["made_for"]) == (file in ARM_MODELS)
        if file.endswith(".onnx"):
            quantised = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
            assert said["made_for"].startswith("Q/DQ") == quantised, file


def test_json_is_the_manifest_and_alone_on_stdout(runs: dict[str, Finished]) -> None:
    done = runs["json"]
    assert json.loads(done.out) == json.loads((done.bundle.path / "manifest.json").read_text())
    lines = done.err.splitlines()
    assert lines[0].startswith("warning: the checkpoint names no classes")
    assert lines[1] == "Looking for images in both sets ..."
    # no bars, no notes of the libraries
    assert all(line.endswith(" ...") or line.startswith("warning: ") for line in lines)
    assert f"edge-van validate {runs['again'].bundle.path} --data" in runs["again"].out


def test_the_same_seed_gives_the_same_bytes(runs: dict[str, Finished]) -> None:
    first, second = runs["json"].bundle.manifest, runs["again"].bundle.manifest
    others = (*TENSORRT_MODELS, *ARM_MODELS, GOLDEN)  # which holds the logits of all
    assert {f for f in second.files if f.path != GOLDEN} == {f for f in first.files if f.path not in others}
    assert (first.schemes[:1], first.calibration) == (second.schemes, second.calibration)


def test_another_seed_calibrates_on_others(runs: dict[str, Finished]) -> None:
    """Also the FP32 file, whose channels are evened out on the same images; it is the same function."""
    first, other = ({f.path: f.sha256 for f in runs[name].bundle.manifest.files} for name in ("json", "tensorrt"))
    assert first["onnx/model.onnx"] != other["onnx/model.onnx"]
    assert first["onnx/model_int8.onnx"] != other["onnx/model_int8.onnx"]
    golden = read_golden(runs["json"].bundle)
    spec = runs["json"].bundle.manifest.input_spec
    logits = []
    for name in ("json", "tensorrt"):
        graph = exact_graph(Path(runs[name].bundle.file(FP32_ONNX)))
        with open_image_model(graph, spec, 3, batch=1) as model:
            logits.append(model.logits(golden.pixels))
    assert sqnr_db(*logits) > 90.0


def test_tensorrt_alone(runs: dict[str, Finished]) -> None:
    manifest = runs["tensorrt"].bundle.manifest
    assert [f.path for f in manifest.files] == [GOLDEN, "onnx/model.onnx", *TENSORRT_MODELS]
    assert manifest.accuracy is None
    assert manifest.latency is None
    assert manifest.rounded is None  # no CPU runs it
    assert [s.name for s in manifest.schemes] == ["int8", "int8_pointwise", "fp16", "fp32"]
    assert runs["tensorrt"].out.rstrip().endswith("--data YOUR_IMAGES --scheme int8")


def test_validate_measures_a_tensorrt_graph(command: Run, root: Path, runs: dict[str, Finished]) -> None:
    bundle = runs["tensorrt"].bundle
    flags = ("validate", bundle.path, "--data", root / "data")  # val/ beside train/ is found
    code, out, err = command(*flags, "--scheme", "int8", "--json")
    assert code == 0, err
    # another engine than when it was recorded, computing the same graph: it breaks ties of rounding otherwise
    seconds = {"images_per_s", "decode_s", "inference_s", "wait_s", "classes", "logit_sqnr_db"}
    recorded = next(s.accuracy for s in bundle.manifest.schemes if s.name == "int8")
    found, expected = json.loads(out), json.loads(msgspec.json.encode(recorded))
    assert {k: v for k, v in found.items() if k not in seconds} == {
        k: v for k, v in expected.items() if k not in seconds
    }
    assert found["logit_sqnr_db"] == pytest.approx(expected["logit_sqnr_db"], abs=2.0)
    code, _, err = command(*flags)
    assert code == 2
    assert "no OpenVINO model" in error_line(err)
    assert "int8|int8_pointwise|fp16|fp32" in error_line(err)
    code, _, err = command(*flags, "--scheme", "int4")
    assert (code, "int4" in error_line(err)) == (2, True)


def test_openvino_with_overrides(runs: dict[str, Finished]) -> None:
    manifest = runs["camera"].bundle.manifest
    assert [f.path for f in manifest.files] == [m for m in MODELS if m not in TENSORRT_MODELS]
    spec = manifest.input_spec
    assert (spec.size, spec.source_size, spec.crop) == ((32, 40), (64, 80), 0.8)
    assert (spec.mean, spec.std, spec.classes) == ((0.4, 0.4, 0.4), (0.3, 0.4, 0.5), CLASSES)
    assert manifest.recipe.max_drop_points == 100
    assert manifest.accuracy is not None
    assert manifest.accuracy.images == 9


def test_a_trained_bundle(root: Path, runs: dict[str, Finished]) -> None:
    done, calibrated = runs["qat"], runs["json"].bundle
    manifest = done.bundle.manifest
    assert (manifest.method, manifest.recipe.method, manifest.recipe.qat.steps) == ("qat", "qat", 4)
    assert (manifest.recipe.samples, manifest.calibration.images) == (20, 24)
    assert "Training openvino ..." in done.err
    files = [{f.path: f.sha256 for f in bundle.manifest.files} for bundle in (done.bundle, calibrated)]
    assert files[0][FP32_IR] == files[1][FP32_IR]  # what it is compared with is the network as it came
    assert files[0][INT8_IR.replace(".xml", ".bin")] != files[1][INT8_IR.replace(".xml", ".bin")]


def test_a_training_that_was_killed_ends_with_the_same_bytes(
    root: Path, runs: dict[str, Finished], tmp_path: Path
) -> None:
    """By SIGKILL, after two of its four steps."""
    flags = ("quantize", *qat_flags(root), "--output", tmp_path / "b")
    process = start(*flags, before=killed_after(2))
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    [kept] = (tmp_path / ".b.training").glob("*.pt")
    state = torch.load(kept, weights_only=True)
    assert state["state"]["step"] == 2
    assert not (tmp_path / "b").exists()
    code, _, err = run_here(*flags)
    assert code == 0, err
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    again = {f.path: f.sha256 for f in open_bundle(tmp_path / "b").manifest.files}
    assert again == {f.path: f.sha256 for f in runs["qat"].bundle.manifest.files}


@pytest.mark.usefixtures("hears_sigint")
@pytest.mark.parametrize(("number", "ours"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, True)])
def test_an_interrupted_training_says_that_one_can_go_on(
    command: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, ours: bool
) -> None:
    """Not where all that lies there is the state of another."""
    save = qat.save_training_state

    def save_and_stop(path: Path, key: str, state: dict[str, Any]) -> None:
        if ours:
            save(path, key, state)
        signal.raise_signal(number)

    monkeypatch.setattr(qat, "SAVE_EVERY_STEPS", 1)
    monkeypatch.setattr(qat, "save_training_state", save_and_stop)
    if not ours:
        (tmp_path / ".b.training").mkdir()
        save(tmp_path / ".b.training" / "int8.pt", "another", {})
    code, _, err = command("quantize", *qat_flags(root), "--output", tmp_path / "b")
    assert code == 128 + number
    note = "; the same command goes on where it was stopped" if ours else ""
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert err.splitlines()[-1] == f"edge-van: {what}; nothing half-written was left{note}"


def test_validate_with_the_resize_inside(command: Run, root: Path, runs: dict[str, Finished]) -> None:
    bundle = runs["camera"].bundle
    code, out, err = command("validate", bundle.path, "--data", root / "camera" / "val", "--json")
    assert code == 0, err
    assert bundle.manifest.accuracy is not None
    assert json.loads(out)["int8_percent"] == bundle.manifest.accuracy.int8_percent


def test_validate_measures_what_the_manifest_says(command: Run, root: Path, runs: dict[str, Finished]) -> None:
    bundle = runs["json"].bundle
    code, out, err = command("validate", bundle.path, "--data", root / "data" / "val", "--json")
    assert code == 0, err
    seconds = {"images_per_s", "decode_s", "inference_s", "wait_s"}
    measured = {k: v for k, v in json.loads(out).items() if k not in seconds}
    recorded = json.loads((bundle.path / "manifest.json").read_text())["accuracy"]
    assert measured == {k: v for k, v in recorded.items() if k not in seconds}
    assert err == "Measuring accuracy ...\n"


def test_validate_without_one_of_the_classes(
    command: Run, root: Path, runs: dict[str, Finished], tmp_path: Path
) -> None:
    data = tmp_path / "some"
    shutil.copytree(root / "data" / "val", data)
    shutil.rmtree(data / "bee")
    code, out, err = command("validate", runs["json"].bundle.path, "--data", data, "--json")
    assert code == 0, err
    measured = json.loads(out)
    assert measured["images"] == 16
    assert [entry["name"] for entry in measured["classes"]] == ["ant", "cow"]
    right = [entry["recall_fp32_percent"] for entry in measured["classes"]]
    assert measured["fp32_percent"] == pytest.approx(sum(right) / 2)
    assert "some has no image of 1 of the model's 3 classes (bee)" in err


def test_the_gate_of_validate(
    command: Run, root: Path, runs: dict[str, Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("validate", runs["json"].bundle.path, "--data", root / "data" / "val", "--limit", 6)
    assert command(*flags, "--max-drop", 100)[0] == 0
    monkeypatch.setattr(edge_van, "validate", lambda *a, **k: ACCURACY)
    code, out, err = command(*flags, "--max-drop", 0.5)
    assert code == 3
    assert "top-1" in out
    assert "points of top-1" in error_line(err)
    assert command(*flags, "--max-drop", 1)[0] == 0
    for wrong in ("nan", "-1", "101", "inf"):
        assert command(*flags, f"--max-drop={wrong}")[0] == 2
    monkeypatch.undo()
    assert command(*flags, "--limit", 0)[0] == 2


@pytest.mark.parametrize("precision", ["bf16", "int8_bf16"])
def test_validate_measures_in_another_precision(
    command: Run, root: Path, runs: dict[str, Finished], precision: str
) -> None:
    bundle = runs["json"].bundle
    flags = ("validate", bundle.path, "--data", root / "data", "--precision", precision)
    code, out, err = command(*flags, "--json")
    if not has_bf16():
        assert code == 5
        assert "has no BF16 units" in error_line(err)
        return
    assert code == 0, err
    found = json.loads(out)
    assert found["model"] == {"bf16": "BF16", "int8_bf16": "INT8, rest BF16"}[precision]
    assert found["logit_sqnr_db"] < 100.0
    known = bundle.manifest.precisions.get(precision)
    assert known is None or found["drop_points"] == known.drop_points
    code, _, err = command(*flags, "--scheme", "int8")
    assert code == 2
    assert "--precision is OpenVINO's" in error_line(err)


@pytest.mark.usefixtures("replayed")
def test_layers_in_float_by_name_and_by_measurement(
    command: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def chosen(trials: Trials, recipe: Recipe) -> tuple[str, ...]:
        asked.append(recipe)
        return ("head",)

    monkeypatch.setattr(edge_van.pipeline, "faster_in_float", chosen)
    flags = ("quantize", "--checkpoint", root / "n.safetensors", "--data", root / "data", "--samples", 6)
    flags = (*flags, "--recipe", root / "any.toml", "--target", "openvino")
    code, _, err = command(*flags, "--output", tmp_path / "a", "--float-layers", "auto")
    assert code == 0, err
    assert "shown to be faster in float than in INT8 on this CPU: head" in err
    assert [(recipe.method, recipe.float_layers) for recipe in asked] == [("ptq", ())]
    assert command(*flags, "--output", tmp_path / "b", "--float-layers", "head")[0] == 0
    a, b = (open_bundle(tmp_path / name) for name in "ab")
    assert a.manifest.recipe.float_layers == b.manifest.recipe.float_layers == ("head",)
    assert a.file(OPENVINO_ONNX).read_bytes() == b.file(OPENVINO_ONNX).read_bytes()
    code, _, err = command(*flags, "--output", tmp_path / "c", "--float-layers", "auto", "--target", "tensorrt")
    assert code == 2
    assert "float_layers are OpenVINO's, which --target leaves out" in error_line(err)


@pytest.mark.usefixtures("replayed")
def test_the_gate_of_latency(command: Run, root: Path, tmp_path: Path) -> None:
    flags = ("quantize", "--checkpoint", root / "n.safetensors", "--data", root / "data", "--samples", 6)
    assert command(*flags, "--output", tmp_path / "a", "--recipe", root / "any.toml", "--min-speedup", 0)[0] == 0
    code, _, err = command(*flags, "--output", tmp_path / "b", "--recipe", root / "any.toml", "--min-speedup", 1000)
    assert code == 4
    assert "times as fast as FP32" in error_line(err)
    assert verify(open_bundle(tmp_path / "b")) == []


@pytest.mark.usefixtures("replayed")
def test_latency_has_a_bound_that_is_said_before_and_after(
    command: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no time at all: one round is made, and whatever reads the bundle can do with that."""
    monkeypatch.setattr(evidence, "LATENCY_BOUND_S", 0.0)
    flags = ("quantize", "--checkpoint", root / "n.safetensors", "--data", root / "data", "--samples", 6)
    code, out, err = command(*flags, "--output", tmp_path / "b", "--recipe", root / "any.toml", "--min-speedup", 0)
    assert code == 0, err
    assert "Measuring latency, at most 0 s ..." in err.splitlines()
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.latency is not None
    assert (manifest.latency.rounds, manifest.latency.warmup_rounds) == (1, 0)
    assert manifest.cpu is None  # of one round nothing is chosen
    [warning] = [text for text in manifest.warnings if "edge-van benchmark measures it properly" in text]
    assert warning.startswith(f"latency is of 1 of {MIN_ROUNDS} rounds, too few for an interval of 95 %")
    assert warning == manifest.latency.notes[0]
    assert f"warning: {warning}" in err.splitlines()
    assert "latency is of 1 of" in out
    assert command("info", tmp_path / "b")[0] == 0
    code, _, err = command("report", tmp_path / "b")
    assert code == 0, err


def test_doctor_finds_a_flipped_bit(command: Run, runs: dict[str, Finished], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs["json"].bundle.path, copy)
    assert command("doctor", copy)[0] == 0
    data = bytearray((copy / INT8_IR).with_suffix(".bin").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / INT8_IR).with_suffix(".bin").write_bytes(data)
    code, out, err = command("doctor", copy)
    assert code == 1
    assert "openvino/model.bin" in error_line(err)
    assert "sha256 differs" in out


class At:
    """A reporter that does something when a stage begins, and remembers what it was told."""

    def __init__(self, stage: str = "", act: Callable[[], None] = lambda: None) -> None:
        self.stage_name, self.act, self.notes = stage, act, list[str]()

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        if self.stage_name and name.startswith(self.stage_name):
            self.act()
        yield lambda amount: None

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def replayed(runs: dict[str, Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    """The files and records of a real run stand in for exporting, and latency is measured for a moment."""
    done = runs["json"]

    def export(job: ExportJob, prepared: Prepared, recipe: Recipe, targets: Sequence[str]) -> Exported:
        with job.work.reporter.stage("Exporting"):
            for entry in done.bundle.manifest.files:
                with job.place(entry.path).open("wb") as file:
                    file.write((done.bundle.path / entry.path).read_bytes())
        models = tuple(
            ModelFile(name, "openvino", job.place(file)) for name, file in (("fp32", FP32_IR), ("int8", INT8_IR))
        )
        return Exported(done.bundle.manifest.schemes, models)

    monkeypatch.setattr(edge_van.pipeline, "export_files", export)
    monkeypatch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
    monkeypatch.setattr(evidence, "LATENCY_S", 0.0)


Quantize = Callable[..., Bundle]


@pytest.fixture
def small_job(root: Path, tmp_path: Path) -> Quantize:
    """``quantize`` of the narrow checkpoint on a few images; keyword arguments over that."""

    def job(
        reporter: Reporter = SILENT, *, force: bool = False, seed: int = 0, samples: int = 6, **given: Any
    ) -> Bundle:
        usual = {"data": root / "data", "output": tmp_path / "new" / "b"}
        return quantize(
            root / "n.safetensors",
            recipe=replace(load_recipe(), samples=samples),
            options=QuantizeOptions(force=force, seed=seed),
            work=Work(reporter),
            **{**usual, **given},
        )

    return job


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_at_any_stage(small_job: Quantize, tmp_path: Path, stage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_job(At(stage, interrupt))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("replayed")
def test_an_interrupt_leaves_the_old_bundle(small_job: Quantize, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = small_job()
    before = tree(bundle.path.parent)
    with pytest.raises(KeyboardInterrupt):
        small_job(At("Measuring accuracy", interrupt), force=True)
    assert tree(bundle.path.parent) == before
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_durably", lambda *a: interrupt())
        with pytest.raises(KeyboardInterrupt):
            small_job(force=True)
    assert tree(bundle.path.parent) == before
    replaced = small_job(force=True, seed=5)
    assert open_bundle(replaced.path).manifest.calibration.seed == 5


@pytest.mark.parametrize(
    ("stage", "number"),
    [("Looking", signal.SIGINT), ("Exporting FP32", signal.SIGINT), ("Exporting FP32", signal.SIGTERM)],
)
def test_a_signal_to_the_real_process(
    root: Path, runs: dict[str, Finished], tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    shutil.copytree(runs["json"].bundle.path, tmp_path / "b")
    before = tree(tmp_path)
    process = start("quantize", *runs["again"].flags, "--output", tmp_path / "b", "--force")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith(stage):
        assert line, "ended before the signal"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in DROPPED_BY_PYTHON.sub("", err)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1] == "edge-van: interrupted; nothing half-written was left"
    else:
        assert process.returncode == 128 + signal.SIGTERM
        assert err.splitlines()[-1] == "edge-van: terminated; nothing half-written was left"
    assert tree(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 2 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") is not None and os.geteuid() == 0
    if mounted:
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, spare: int) -> None:
    left = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(left.f_bavail * left.f_bsize - spare))


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize(("stage", "spare"), [("Exporting", 200_000), ("Measuring latency", 0)])
def test_a_disk_that_runs_full(small_job: Quantize, small_disk: Path, stage: str, spare: int) -> None:
    """While the models are written, and when only the manifest is missing."""
    with pytest.raises(BundleError, match="the disk is full"):
        small_job(At(stage, lambda: fill(small_disk, spare)), output=small_disk / "b")
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_a_disk_that_is_too_small_from_the_start(small_job: Quantize, small_disk: Path) -> None:
    fill(small_disk, 100_000)
    with pytest.raises(BundleError, match="MiB are free"):
        small_job(output=small_disk / "b")
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_a_disk_that_is_read_only(small_job: Quantize, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(BundleError, match="cannot be written"):
        small_job(output=small_disk / "b")


def _png(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def odd_images(folder: Path, label: int) -> None:
    """Sound images of every unusual kind."""
    generator = np.random.default_rng(7)
    image = Image.fromarray(pixels_of(label, 32, generator))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "cmyk.jpg": _png(image.convert("CMYK"), "jpeg"),
        "palette.png": _png(image.quantize(64)),
        "rgba.png": _png(image.convert("RGBA")),
        "turned.jpg": _png(image, "jpeg", exif=exif, quality=95),
        "deep.png": _png(Image.fromarray(generator.integers(0, 65535, (32, 32)).astype(np.uint16))),
    }
    for name, data in kinds.items():
        (folder / name).write_bytes(data)


def broken_images(folder: Path) -> list[str]:
    """A cut off, a garbled and an empty image; their names in the set."""
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "garbled.png").write_bytes(whole[:200] + bytes(300) + whole[500:])
    (folder / "zero.jpg").touch()
    return [f"{folder.name}/{name}" for name in ("cut.png", "garbled.png", "zero.jpg")]


@pytest.mark.usefixtures("replayed")
def test_odd_images_are_read_and_broken_ones_named(small_job: Quantize, tmp_path: Path, root: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(root / "data", data)
    odd_images(data / "val" / "ant", 0)
    broken = broken_images(data / "val" / "bee")
    in_training = broken_images(data / "train" / "cow")[:2]  # the empty one has the bytes of that in val/: left out
    reporter = At()
    manifest = small_job(reporter, data=data, samples=1000).manifest
    assert manifest.accuracy is not None
    assert manifest.accuracy.broken == 3
    assert manifest.accuracy.images == 24 + 5
    assert manifest.calibration.images == 30
    for name in (*broken, *in_training):
        assert sum(note.startswith(f"warning: {name} is broken") for note in reporter.notes) == 1
    assert "2 broken images left out of calibration" in manifest.warnings
    assert "3 broken images left out of accuracy" in manifest.warnings
    assert "calibrated on 30 images, 1000 were asked for" in manifest.warnings


def test_strict_is_said_before_any_export(command: Run, root: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "b"
    shutil.copytree(root / "data", data)
    (data / "val" / "bee" / "zero.jpg").touch()
    flags = ("--checkpoint", root / "n.safetensors", "--data", data, "--samples", 6, "--output", output)
    for target in ("openvino", "tensorrt"):
        code, out, err = command("quantize", *flags, "--strict", "--target", target)
        assert (code, out) == (1, "")
        assert "bee/zero.jpg" in error_line(err)
        assert "Exporting" not in err
    for file in (data / "val").rglob("*.*"):
        file.write_bytes(b"")
    code, _, err = command("quantize", *flags)
    assert code == 1
    assert "none of" in error_line(err)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.usefixtures("replayed")
def test_a_folder_whose_name_is_no_text(small_job: Quantize, root: Path, tmp_path: Path) -> None:
    data = tmp_path / "v\udcff"
    shutil.copytree(root / "data" / "val", data)
    manifest = small_job(data=data, calibration=root / "data" / "train").manifest
    assert manifest.accuracy is not None
    assert manifest.accuracy.data == "v\\udcff"


def test_images_of_another_size_are_said_before_any_work(command: Run, root: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", root / "n.safetensors", "--data", root / "data", "--output", tmp_path / "b")
    code, out, err = command("quantize", *flags, "--source-size", "48x40")
    assert (code, out) == (1, "")
    assert "48" in error_line(err)
    assert "..." not in err  # no stage began
    assert list(tmp_path.iterdir()) == []


def test_strict_validate(command: Run, root: Path, runs: dict[str, Finished], tmp_path: Path) -> None:
    shutil.copytree(root / "data" / "val", tmp_path / "val")
    (name, *_) = broken_images(tmp_path / "val" / "bee")
    flags = ("validate", runs["json"].bundle.path, "--data", tmp_path / "val")
    code, out, err = command(*flags)
    assert code == 0
    assert "3 broken images were left out" in out
    assert f"warning: {name} is broken and left out" in err
    code, out, err = command(*flags, "--strict")
    assert (code, out) == (1, "")
    assert name in error_line(err)


@pytest.mark.usefixtures("replayed")
def test_the_gate_of_quantize_keeps_the_bundle(
    command: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "measure_accuracy", lambda *a, **k: Measured({"int8": ACCURACY}, ()))
    flags = ("--checkpoint", root / "n.safetensors", "--data", root / "data", "--samples", 6)
    for limit in ("0.5", "1"):
        (tmp_path / f"{limit}.toml").write_text(f"max_drop_points = {limit}\n")
    code, out, err = command(
        "quantize", *flags, "--output", tmp_path / "b", "--recipe", tmp_path / "0.5.toml", "--json"
    )
    assert code == 3
    assert json.loads(out)["accuracy"]["drop_points"] == 1.0
    assert "0.5 are allowed: more --samples" in error_line(err)
    assert verify(open_bundle(tmp_path / "b")) == []
    assert command("quantize", *flags, "--output", tmp_path / "c", "--recipe", tmp_path / "1.toml")[0] == 0
