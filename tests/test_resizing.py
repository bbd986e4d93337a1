"""A bundle for another input size, the whole way: its files against the checkpoint itself at that size, what its
manifest says and what it does not say any more, and the ways it ends in a clear no."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cli_samples import CLASSES, error_line, image_folders, narrow_checkpoint, run, tree

import edge_van
from edge_van.bundle.bundle import Bundle, open_bundle, update_manifest, verify
from edge_van.bundle.engine_record import EngineChoice, EngineSet
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import ARM_IR, FP32_IR, FP32_ONNX, INT8_IR
from edge_van.bundle.records import SchemeResult
from edge_van.checkpoint.load import load_checkpoint
from edge_van.errors import BundleError, UsageError, VerificationError
from edge_van.evaluation import evidence
from edge_van.evaluation.accuracy import Measured, measure_accuracy
from edge_van.evaluation.gates import NO_VNNI
from edge_van.export import resized as resized_module
from edge_van.export.float16_range import LargestActivation, largest_in_file
from edge_van.export.job import ExportJob
from edge_van.export.results import file_result
from edge_van.pipeline import QuantizeOptions
from edge_van.progress import Silent, Work
from edge_van.quantization.calibration import normalized
from edge_van.quantization.recipe import load_recipe
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import ModelFile, exact_graph
from edge_van.statistics import relative_error, sqnr_db
from edge_van.timing.latency import MIN_ROUNDS

Run = Callable[..., tuple[int, str, str]]
OLD, NEW = (48, 48), (32, 40)
ADVICE = "edge-van quantize --input-size 32x40 sets the ranges at this size"


@pytest.fixture(scope="module", autouse=True)
def _briefly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
        patch.setattr(evidence, "LATENCY_S", 0.0)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resizing")
    narrow_checkpoint(root / "n.safetensors")
    image_folders(root / "data", {"train": 4, "val": 4}, size=56)
    image_folders(root / "others", {"val": 2}, size=40)
    return root


def made(root: Path, options: QuantizeOptions, **recipe: Any) -> Bundle:
    return edge_van.quantize(
        root / "n.safetensors",
        data=root / "data",
        output=root / ("b" if len(options.targets) == 3 else "camera"),
        recipe=replace(load_recipe(), samples=8, max_drop_points=100.0, **recipe),
        options=options,
    )


class Noted(Silent):
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def note(self, text: str) -> None:
        self.notes.append(text)


def with_changes(bundle: Bundle, **changes: Any) -> Bundle:
    """The same folder, as if its manifest had other fields."""
    return Bundle(bundle.path, replace(bundle.manifest, **changes))


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return made(root, QuantizeOptions(spec_overrides={"size": OLD, "classes": CLASSES}))


@pytest.fixture(scope="module")
def unmeasured(bundle: Bundle) -> Bundle:
    """Without images: nothing but the old bundle is there, which has engines."""
    engines = {"gpu": EngineSet((), EngineChoice(None, 1.0, "none", ()))}
    notes: list[str] = []
    done = edge_van.resize(with_changes(bundle, engines=engines), NEW, work=Work(Noted(notes)))
    assert any("edge-van build" in note for note in notes)
    return done


@pytest.fixture(scope="module")
def measured(bundle: Bundle, root: Path) -> Bundle:
    return edge_van.resize(bundle, NEW, data=root / "data", output=root / "measured")


@pytest.fixture(scope="module")
def camera(root: Path) -> Bundle:
    """Every image of one size, the resize inside the IRs; hard-swish; graphs for TensorRT that take bytes."""
    spec = {"size": OLD, "classes": CLASSES, "source_size": (56, 56), "crop": 0.8}
    return made(
        root,
        QuantizeOptions(targets=("openvino", "tensorrt"), spec_overrides=spec),
        tensorrt_input="uint8",
        activation="hardswish",
    )


def float_logits(root: Path, bundle: Bundle, pixels: np.ndarray) -> np.ndarray:
    """Of the checkpoint itself, BatchNorms and whole kernels, in plain PyTorch."""
    van = load_checkpoint(str(root / "n.safetensors")).van.eval()
    with torch.no_grad():
        result: np.ndarray = van(normalized(pixels, bundle.manifest.input_spec)).numpy()
    return result


def logits(bundle: Bundle, file: str, pixels: np.ndarray) -> np.ndarray:
    path, spec = bundle.file(file), bundle.manifest.input_spec
    model = ModelFile(file, "openvino", path, {"exact": True}) if file.endswith(".xml") else exact_graph(path)
    with open_image_model(model, spec, len(CLASSES), batch=1) as opened:
        return opened.logits(pixels)


def graphs_of(bundle: Bundle) -> list[str]:
    return [scheme.file for scheme in bundle.manifest.schemes]


def test_every_file_is_there_and_whole(bundle: Bundle, unmeasured: Bundle) -> None:
    assert unmeasured.path == bundle.path.with_name("b_32x40")
    assert [f.path for f in unmeasured.manifest.files] == [f.path for f in bundle.manifest.files]
    assert verify(unmeasured) == []
    assert verify(bundle) == []
    assert open_bundle(unmeasured.path).manifest == unmeasured.manifest


def test_the_float_files_are_the_checkpoint_at_the_new_size(root: Path, unmeasured: Bundle) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, *NEW, 3), np.uint8)
    expected = float_logits(root, unmeasured, pixels)
    for file in (FP32_ONNX, FP32_IR):
        assert relative_error(logits(unmeasured, file, pixels), expected) <= 1e-4, file


def test_the_quantised_files_are_near_it(root: Path, unmeasured: Bundle) -> None:
    golden = read_golden(unmeasured)
    expected = float_logits(root, unmeasured, golden.pixels)
    assert golden.pixels.shape == (8, *NEW, 3)
    for scheme in unmeasured.manifest.schemes:
        got = logits(unmeasured, scheme.file, golden.pixels)
        assert sqnr_db(expected, got) == pytest.approx(
            scheme.logit_sqnr_db, abs=2.0 if scheme.quantized_layers else 5.0
        )
        assert scheme.images == 8
        assert scheme.logit_sqnr_db > 25.0
    for ir, graph in ((INT8_IR, "onnx/model_openvino.onnx"), (ARM_IR, "onnx/model_openvino_arm.onnx")):
        other = logits(unmeasured, graph, golden.pixels)
        assert sqnr_db(other, logits(unmeasured, ir, golden.pixels)) > 25.0


def test_weights_scales_and_zero_points_are_the_same(bundle: Bundle, unmeasured: Bundle) -> None:
    for file in graphs_of(bundle):
        old, new = (
            {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(b.file(file)).graph.initializer}
            for b in (bundle, unmeasured)
        )
        names = [name for name in old if "shape" not in name]
        assert set(names) == {name for name in new if "shape" not in name}
        cropped = 0
        for name in names:
            if old[name].shape == new[name].shape:
                np.testing.assert_array_equal(old[name], new[name], err_msg=name)
            else:
                cropped += 1
                assert new[name].size < old[name].size
                assert np.isin(new[name], old[name]).all()
        assert cropped


def test_no_figure_of_the_old_size_is_left(bundle: Bundle, unmeasured: Bundle) -> None:
    manifest, old = unmeasured.manifest, bundle.manifest
    assert old.accuracy is not None
    assert (manifest.accuracy, manifest.latency, manifest.rounded, manifest.engines) == (None, None, None, {})
    assert all(scheme.accuracy is None for scheme in manifest.schemes)
    assert manifest.input_spec == replace(old.input_spec, size=NEW)
    assert manifest.fold.kernels_cropped > old.fold.kernels_cropped
    same = ("variant", "num_classes", "checkpoint_sha256", "method", "recipe", "calibration")
    assert all(getattr(manifest, name) == getattr(old, name) for name in same)
    text = "\n".join(manifest.warnings)
    for part in ("made for 32x40 px of b, which is for 48x48 px", "were not measured at 32x40 px", "8 images of 48x48"):
        assert part in text
    own = [warning for warning in old.warnings if warning != NO_VNNI]
    assert [w for w in manifest.warnings if w.startswith("at 48x48 px: ")] == [f"at 48x48 px: {w}" for w in own]


def test_with_images_all_is_measured_as_quantize_does(measured: Bundle, bundle: Bundle, root: Path) -> None:
    manifest = measured.manifest
    assert manifest.accuracy is not None
    assert (manifest.accuracy.images, manifest.accuracy.data) == (12, "val")
    assert manifest.latency is not None
    assert {row.name for row in manifest.latency.rows} >= {"fp32", "int8"}
    assert manifest.rounded is not None
    assert all(s.accuracy is not None for s in manifest.schemes if s.target != "openvino")
    assert {s.images for s in manifest.schemes} == {12}
    assert not [w for w in manifest.warnings if "not measured" in w or "golden" in w or "is not known" in w]
    assert manifest.calibration == bundle.manifest.calibration  # the images are those that it left out
    again = edge_van.validate(measured, root / "data")
    assert again.int8_percent == manifest.accuracy.int8_percent


def test_other_images_may_have_set_the_ranges(bundle: Bundle, root: Path, tmp_path: Path) -> None:
    """They also do where there are no golden images, as in a bundle of an older version."""
    old = with_changes(bundle, golden=None)
    manifest = edge_van.resize(old, (32, 32), data=root / "others" / "val", output=tmp_path / "o").manifest
    assert "val is not the set that calibration left out" in "\n".join(manifest.warnings)
    assert manifest.calibration.validation_sha256 != bundle.manifest.calibration.validation_sha256
    assert manifest.calibration.images_sha256 == bundle.manifest.calibration.images_sha256
    assert manifest.golden is not None
    with pytest.raises(UsageError, match=r"no golden images .* --data"):
        edge_van.resize(old, (32, 32), output=tmp_path / "none")


def test_a_camera_keeps_its_size(root: Path, camera: Bundle, tmp_path: Path) -> None:
    done = edge_van.resize(camera, NEW, data=root / "data", output=tmp_path / "c")
    spec = done.manifest.input_spec
    assert (spec.size, spec.source_size, spec.crop) == (NEW, (56, 56), 0.8)
    golden = read_golden(done)
    assert golden.camera is not None
    assert (golden.pixels.shape[1:3], golden.camera.shape[1:3]) == (NEW, (56, 56))
    int8 = onnx.load(done.file("onnx/model_int8.onnx")).graph.input[0].type.tensor_type
    assert [d.dim_value for d in int8.shape.dim][1:] == [*NEW, 3]
    assert int8.elem_type == onnx.TensorProto.UINT8
    assert done.manifest.accuracy is not None
    image = next((root / "data" / "val").rglob("*.png"))
    with edge_van.open_classifier(done) as classify:
        assert classify(image).top1.name in CLASSES
    without = edge_van.resize(camera, (40, 32), output=tmp_path / "without")
    assert without.manifest.input_spec.source_size == (56, 56)
    assert read_golden(without).pixels.shape == (8, 40, 32, 3)


def test_one_of_one(unmeasured: Bundle, root: Path, tmp_path: Path) -> None:
    """A resized bundle is a bundle: it can be resized, validated and reported on, with nothing measured too."""
    manifest = edge_van.resize(unmeasured, (24, 32), output=tmp_path / "again").manifest
    assert manifest.input_spec.size == (24, 32)
    assert any(w.startswith("at 32x40 px: at 48x48 px: ") or "of b_32x40" in w for w in manifest.warnings)
    assert edge_van.validate(unmeasured, root / "data").images == 12
    assert edge_van.report(unmeasured).html.is_file()
    with pytest.raises(UsageError, match="cropped to what 32x40 px can reach"):
        edge_van.resize(unmeasured, OLD, output=tmp_path / "back")


def test_a_larger_size_is_refused_with_those_there_are(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        edge_van.resize(bundle, (96, 48), output=tmp_path / "b")
    for part in ("96x48 px", "cropped to what 48x48 px", "heights up to 48 ", "edge-van quantize --input-size 96x48"):
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="is for 48x48 px already"):
        edge_van.resize(bundle, OLD, output=tmp_path / "b")
    with pytest.raises(UsageError, match="size is \\(height, width\\)"):
        edge_van.resize(bundle, (0, 48), output=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def copied(bundle: Bundle, tmp_path: Path) -> Path:
    for name, content in tree(bundle.path).items():
        path = tmp_path / "b" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if (bundle.path / name).is_file():
            path.write_bytes(content)
    return tmp_path / "b"


def test_what_it_is_made_of_must_be_there_and_whole(bundle: Bundle, tmp_path: Path) -> None:
    part = with_changes(bundle, files=tuple(f for f in bundle.manifest.files if f.path != FP32_ONNX))
    with pytest.raises(UsageError, match=r"has no onnx/model\.onnx.*give the whole bundle"):
        edge_van.resize(part, (24, 24))
    path = copied(bundle, tmp_path)
    damaged = path / "onnx/model_int8.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"damaged: onnx/model_int8\.onnx"):
        edge_van.resize(path, (24, 24))
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_does_not_fit_the_new_size_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that float16 does not hold is left out, one whose ranges do not fit is kept with a warning."""
    largest = largest_in_file(bundle.file("onnx/model_int8.onnx"), [np.zeros((1, 3, *OLD), np.float32)])
    assert 0.0 < largest.value < 1e3
    assert largest.module

    def too_large(path: Path, images: object) -> LargestActivation:
        return replace(largest, value=4e4 if "pointwise" in path.name else largest.value)

    def worse(job: ExportJob, scheme: SchemeResult) -> SchemeResult:
        result = file_result(job, scheme)
        return replace(result, logit_sqnr_db=24.0) if result.name == "int8" else result

    monkeypatch.setattr(resized_module, "largest_in_file", too_large)
    monkeypatch.setattr(resized_module, "file_result", worse)
    manifest = edge_van.resize(bundle, NEW, output=tmp_path / "b").manifest
    assert [s.name for s in manifest.schemes] == ["openvino", "openvino_arm", "int8", "fp16", "fp32"]
    assert "onnx/model_int8_pointwise.onnx" not in {f.path for f in manifest.files}
    assert any("there is no int8_pointwise graph" in w and "4e+04" in w for w in manifest.warnings)
    [warning] = [w for w in manifest.warnings if ADVICE in w]
    assert "onnx/model_int8.onnx at 32x40 px is 24.0 dB" in warning


def test_logits_that_are_noise_are_refused(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        resized_module, "file_result", lambda job, scheme: replace(file_result(job, scheme), logit_sqnr_db=5.0)
    )
    with pytest.raises(VerificationError, match=ADVICE):
        edge_van.resize(bundle, NEW, output=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *arguments: run(capfd, monkeypatch, *arguments)


def test_the_command(command: Run, bundle: Bundle, root: Path, tmp_path: Path) -> None:
    flags = ("export", bundle.path, "--input-size", "40x32", "--output", tmp_path / "b")
    code, out, err = command(*flags)
    assert code == 0, err
    assert "40x32 px" in out
    assert f"edge-van validate {tmp_path / 'b'} --data YOUR_IMAGES" in out
    assert "--scheme" not in out
    assert "see above" not in out
    code, out, err = command(*flags, "--json")
    assert (code, out) == (2, "")
    assert "--force" in error_line(err)
    code, out, err = command(*flags, "--force", "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads((tmp_path / "b" / "manifest.json").read_text())
    code, _, err = command("export", bundle.path, "--input-size", "224", "--output", tmp_path / "no")
    assert (code, "up to 48" in error_line(err)) == (2, True)
    code, _, err = command("export", bundle.path)
    assert (code, "--input-size" in error_line(err)) == (2, True)
    code, _, err = command("export", root, "--input-size", "32")
    assert (code, "is no bundle" in error_line(err)) == (1, True)


def test_the_gate_of_the_command(
    command: Run, bundle: Bundle, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where accuracy is measured, the recipe's limit holds as it does for quantize."""
    strict = open_bundle(copied(bundle, tmp_path))
    update_manifest(strict, recipe=replace(strict.manifest.recipe, max_drop_points=0.0))

    def worse(*given: Any, **options: Any) -> Measured:
        found = measure_accuracy(*given, **options)
        return replace(found, accuracy={k: replace(a, drop_points=2.0) for k, a in found.accuracy.items()})

    monkeypatch.setattr(evidence, "measure_accuracy", worse)
    code, out, err = command("export", strict.path, "--input-size", "32", "--data", root / "data")
    assert code == 3, err
    assert "Bundle: " in out
    assert "2.00 points" in error_line(err)
    assert (tmp_path / "b_32x32" / "manifest.json").is_file()
