"""Heads that are no softmax, all the way: the demo's network with other heads, on the demo's real images.

The right values are those of plain PyTorch on pixels that Pillow prepared, judged by scikit-learn.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from cli_samples import run
from PIL import Image
from scipy.special import expit
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

import edge_van
from edge_van.assets import DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.bundle.bundle import Bundle
from edge_van.checkpoint.load import load_checkpoint
from edge_van.errors import UsageError
from edge_van.evaluation import evidence
from edge_van.head import Head
from edge_van.model.van import VAN
from edge_van.quantization.recipe import load_recipe
from edge_van.reports.collect import ReportOptions
from edge_van.starting_point import QuantizeOptions
from edge_van.timing.latency import MIN_ROUNDS

LABELS = {
    "animal": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "flies": ("airplane", "bird"),
    "hooves": ("deer", "horse"),
    "wheels": ("airplane", "automobile", "truck"),
}
IMAGES = 120
THRESHOLD = 0.4


@dataclass(frozen=True)
class Made:
    """A bundle, what plain PyTorch answers to its images (N, outputs), what is true of them, and where they are."""

    bundle: Bundle
    logits: np.ndarray
    truth: np.ndarray  # bool (N, labels)
    data: Path
    names: list[str]


def with_head(labels: dict[str, tuple[str, ...]]) -> VAN:
    """The demo's network, each output the mean of its classes' own less that of the others'."""
    loaded = load_checkpoint(asset(DEMO_CHECKPOINT))
    van, classes = loaded.van, loaded.spec.classes or ()
    own = torch.stack([torch.tensor([float(c in chosen) for c in classes]) for chosen in labels.values()])
    mixed = own / own.sum(1, keepdim=True) - (1 - own) / (1 - own).sum(1, keepdim=True)
    head = torch.nn.Linear(van.head.in_features, len(labels))
    with torch.no_grad():
        head.weight.copy_(mixed @ van.head.weight)
        head.bias.copy_(mixed @ van.head.bias)
    van.head, van.num_classes = head, len(labels)
    return van


def make(folder: Path, labels: dict[str, tuple[str, ...]], *, two_folders: bool) -> Made:
    with zipfile.ZipFile(asset(DEMO_VALIDATION)) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))[:: 1000 // IMAGES]
        pictures = {name: archive.read(name) for name in names}
    data, rows, pixels = folder / "val", [], []
    for i, (name, content) in enumerate(pictures.items()):
        of = name.split("/")[-2]
        there = [of in chosen for chosen in labels.values()]
        place = data / (next(iter(labels)) if there[0] else "zzz the rest") if two_folders else data
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.jpg").write_bytes(content)
        rows.append(there)
        pixels.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB").resize((64, 64), 3)))
    truth = np.array(rows)
    van, spec = with_head(labels), load_checkpoint(asset(DEMO_CHECKPOINT)).spec
    normalised = (np.stack(pixels) / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    with torch.no_grad():
        logits = van(torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()).numpy()
    torch.save({"state_dict": van.state_dict()}, folder / "van.pth")
    about = {"input_size": 64, "crop": 1.0, "interpolation": "bicubic", "mean": spec.mean, "std": spec.std}
    if two_folders:
        (folder / "van.json").write_text(json.dumps({**about, "classes": ["zzz the rest", *labels]}))
    else:
        (folder / "van.json").write_text(json.dumps({**about, "head": "sigmoid", "threshold": THRESHOLD}))
        with (data / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image", *labels]])
            csv.writer(file).writerows([f"{i:03}", *map(int, row)] for i, row in enumerate(truth))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
        patch.setattr(evidence, "LATENCY_S", 0.0)
        bundle = edge_van.quantize(
            folder / "van.pth",
            data=data,
            calibration=asset(DEMO_CALIBRATION),
            output=folder / "bundle",
            recipe=replace(load_recipe(), samples=32, tensorrt_images=40),
            options=QuantizeOptions(targets=("openvino",)),
        )
    order = [f"{i:03}.jpg" for i in range(len(truth))]
    return Made(bundle, logits, truth, data, order)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("several"), LABELS, two_folders=False)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("binary"), {"animal": LABELS["animal"]}, two_folders=True)


def test_several_labels_are_measured_as_scikit_learn_does(several: Made) -> None:
    manifest = several.bundle.manifest
    assert manifest.head == Head("sigmoid", THRESHOLD)
    assert manifest.input_spec.classes == tuple(LABELS)
    a = manifest.accuracy
    assert a is not None
    assert (a.metric, a.images) == ("mAP", len(several.truth))
    expected = 100 * average_precision_score(several.truth, several.logits, average="macro")
    assert expected > 70
    assert a.fp32_percent == pytest.approx(expected, abs=0.05)
    assert a.drop_interval.low <= a.drop_points <= a.drop_interval.high
    said = expit(several.logits) >= THRESHOLD
    others = {m.name: m for m in a.others}
    assert others["F1, micro"].fp32_percent == pytest.approx(100 * f1_score(several.truth, said, average="micro"))
    assert others["exact match"].fp32_percent == pytest.approx(100 * accuracy_score(several.truth, said))
    assert [c.images for c in a.classes] == several.truth.sum(0).tolist()
    assert manifest.rounded is not None
    assert manifest.rounded.metric == "mAP"


def test_two_classes_are_measured_as_scikit_learn_does(binary: Made) -> None:
    manifest = binary.bundle.manifest
    assert (manifest.head, manifest.num_classes) == (Head("sigmoid"), 1)
    assert manifest.input_spec.classes == ("zzz the rest", "animal")
    assert [w for w in manifest.warnings if "single output" in w]
    a = manifest.accuracy
    assert a is not None
    said = binary.logits[:, 0] >= 0
    assert a.metric == "accuracy"
    assert 75 < a.fp32_percent < 100  # it can be wrong
    assert a.fp32_percent == pytest.approx(100 * accuracy_score(binary.truth[:, 0], said))
    f1 = next(m for m in a.others if m.name == "F1")
    assert f1.fp32_percent == pytest.approx(100 * f1_score(binary.truth[:, 0], said), abs=1e-3)
    assert sum(c.images for c in a.classes) == a.images


def test_probabilities_are_sigmoids(several: Made, binary: Made) -> None:
    names = list(LABELS)
    with edge_van.open_classifier(several.bundle, precision="fp32") as classify:
        for i in (0, 50, 100):
            answer = classify(several.data / several.names[i])
            likely = expit(several.logits[i])
            assert {s.name: s.probability for s in answer.top()} == pytest.approx(
                dict(zip(names, likely, strict=True)), abs=1e-3
            )
            assert set(answer.labels) == {n for n, p in zip(names, likely, strict=True) if p >= THRESHOLD}
    with edge_van.open_classifier(binary.bundle, precision="fp32") as classify:
        for i in (0, 50, 100):
            folder = "animal" if binary.truth[i, 0] else "zzz the rest"
            answer = classify(binary.data / folder / binary.names[i])
            p = float(expit(binary.logits[i, 0]))
            assert answer.top1.name == ("animal" if p >= 0.5 else "zzz the rest")
            assert answer.top1.probability == pytest.approx(max(p, 1 - p), abs=1e-3)
            assert sum(s.probability or 0.0 for s in answer.top()) == pytest.approx(1.0)


def test_the_commands_say_it(
    several: Made, binary: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capfd, monkeypatch, "validate", several.bundle.path, "--data", several.data, "--json")
    record = json.loads(out)
    assert (code, record["metric"]) == (0, "mAP")
    assert record["int8_percent"] == pytest.approx(several.bundle.manifest.accuracy.int8_percent)
    code, out, _ = run(
        capfd, monkeypatch, "validate", several.bundle.path, "--data", several.data, "--threshold", "0.9", "--json"
    )
    strict = {m["name"]: m["fp32_percent"] for m in json.loads(out)["others"]}
    said = expit(several.logits) >= 0.9
    assert strict["F1, micro"] == pytest.approx(100 * f1_score(several.truth, said, average="micro"), abs=1e-3)
    image = several.data / several.names[0]
    code, out, _ = run(capfd, monkeypatch, "predict", several.bundle.path, image)
    with edge_van.open_classifier(several.bundle) as classify:
        there = set(classify(image).labels)
    rows = {name: next(line for line in out.splitlines() if f" {name} " in line) for name in LABELS}
    assert {name for name, line in rows.items() if " yes" in line} == there
    code, out, _ = run(capfd, monkeypatch, "predict", several.bundle.path, image, "--threshold", "0.001", "--json")
    assert json.loads(out)[0]["labels"] == [s["name"] for s in json.loads(out)[0]["predictions"]]
    code, out, _ = run(capfd, monkeypatch, "info", binary.bundle.path)
    assert code == 0
    assert "accuracy %" in out


def test_the_gate_fails_where_int8_says_otherwise(
    binary: Made, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold where FP32 is right and INT8, whose logits are a little off, is not."""
    from edge_van.errors import AccuracyGateError
    from edge_van.evaluation.gates import accuracy_gate

    found = {}
    for threshold in np.linspace(0.05, 0.95, 19).round(2).tolist():
        options = edge_van.ValidateOptions(threshold=threshold)
        found[threshold] = edge_van.validate(binary.bundle, binary.data, options=options)
    at = max(found, key=lambda threshold: found[threshold].drop_points)
    worst = found[at]
    assert worst.drop_points > 0
    with pytest.raises(AccuracyGateError, match="points of accuracy"):
        accuracy_gate(worst, worst.drop_points - 0.01)
    accuracy_gate(worst, worst.drop_points)
    arguments = ["validate", binary.bundle.path, "--data", binary.data, "--threshold", at, "--max-drop"]
    code, _, err = run(capfd, monkeypatch, *arguments, f"{worst.drop_points - 0.01:.3f}")
    assert (code, "points of accuracy" in err) == (3, True)
    assert run(capfd, monkeypatch, *arguments, f"{worst.drop_points + 0.01:.3f}")[0] == 0


def test_the_report_says_it(several: Made, binary: Made, tmp_path: Path) -> None:
    for made, words in ((several, ("mAP", "F1, micro", "exact match")), (binary, ("accuracy", "F1", "average"))):
        written = edge_van.report(
            [made.bundle.path], output=tmp_path / words[0], options=ReportOptions(made.data, cam_limit=2)
        )
        page = written.files["report.md"].read_text()
        for word in words:
            assert word in page
        assert "top-1" not in page.lower()
        explanation = written.report.sides[0].explanation
        assert explanation is not None
        for flip in explanation.flips:
            assert flip.fp32.name != flip.int8.name
            assert flip.fp32.probability is not None
            assert flip.fp32.probability >= (1 - THRESHOLD if flip.fp32.name.startswith("no ") else THRESHOLD)


def test_the_heat_map_of_the_other_class_is_that_of_the_negative(binary: Made, tmp_path: Path) -> None:
    from edge_van.prediction.gradcam import GradCAM, grad_cam

    cam = GradCAM(binary.bundle, stage=4)
    maps = np.random.default_rng(0).normal(size=(2, 256, 2, 2))
    own, other = cam.heat_maps(maps[[0, 0]], np.array([1, 0]))
    weights = torch.load(binary.data.parent / "van.pth", weights_only=True)["state_dict"]["head.weight"].numpy()
    gradient = np.broadcast_to(weights[0][None, :, None, None], (1, 256, 1, 1))
    assert np.allclose(own, grad_cam(maps[:1], gradient), atol=0.02)
    assert np.allclose(other, grad_cam(maps[:1], -gradient), atol=0.02)


def test_another_size_keeps_the_head(several: Made, tmp_path: Path) -> None:
    made = edge_van.resize(several.bundle, (48, 48), data=several.data, output=tmp_path / "b48")
    manifest = made.manifest
    assert manifest.head == Head("sigmoid", THRESHOLD)
    assert manifest.accuracy is not None
    assert (manifest.accuracy.metric, manifest.accuracy.images) == ("mAP", len(several.truth))
    assert manifest.accuracy.fp32_percent > 60
    for file in ("onnx/model.onnx", "onnx/model_openvino.onnx"):
        said = {p.key: p.value for p in onnx.load(made.file(file), load_external_data=False).metadata_props}
        assert json.loads(said["edge_van.input_size"]) == [48, 48]
        assert said["edge_van.outputs"] == "a logit for each label: sigmoid, there from 0.4 on"
    ir = dict(openvino.Core().read_model(made.file("openvino/model.xml")).get_rt_info("edge_van").value)
    assert json.loads(ir["input_size"]) == [48, 48]
    assert ir["outputs"] == "a logit for each label: sigmoid, there from 0.4 on"
    with pytest.raises(UsageError, match="give them, too"):
        edge_van.resize(several.bundle, (48, 48), labels=several.data / "labels.csv", output=tmp_path / "x")


def test_what_flipped_is_the_label_that_changed_most() -> None:
    from edge_van.reports.explain import _flipped

    fp32 = np.array([[2.0, -2.0, 0.1], [1.0, 1.0, 1.0], [3.0, -1.0, -0.1]])
    int8 = np.array([[1.0, -1.0, -0.1], [1.0, 1.0, 1.0], [-3.0, -1.0, 0.1]])
    truth = np.array([[True, False, True], [True, True, True], [True, False, False]])
    first, second = _flipped(Head("sigmoid"), fp32, int8, np.array([7, 8, 9]), truth)
    # answers are "no a", "a", "no b", "b", ...: the third label of image 7, the first of image 9, not its third
    assert (first.index, first.label, first.fp32[0], first.int8[0], first.kind) == (7, 5, 5, 4, "lost")
    assert (second.index, second.label, second.fp32[0], second.int8[0], second.kind) == (9, 1, 1, 0, "lost")
    assert second.fp32[1] == pytest.approx(float(expit(3.0)))
    assert second.int8[1] == pytest.approx(1 - float(expit(-3.0)))
    [binary] = _flipped(Head("sigmoid"), fp32[:, 2:], int8[:, 2:], np.array([7, 8, 9]), np.array([0, 1, 0]))[:1]
    assert (binary.index, binary.label, binary.fp32[0], binary.int8[0], binary.kind) == (7, 0, 1, 0, "gained")
    [single] = _flipped(Head("none"), fp32[2:], int8[2:], np.array([9]), np.array([0]))
    assert (single.fp32, single.int8, single.kind) == ((0, None), (2, None), "lost")
