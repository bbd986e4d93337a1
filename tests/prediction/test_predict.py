"""``edge-van predict``: the same answers as the engines give, what it writes, what it refuses; through the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_samples import MANIFEST
from cli_samples import error_line, run
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet, SchemeTiming
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.writer import BundleWriter
from edge_van.cli.predict import predict
from edge_van.errors import DataError, UsageError, VerificationError
from edge_van.images.decode import decode
from edge_van.input_spec import InputSpec
from edge_van.prediction import predict as predict_module
from edge_van.prediction.answers import Failure
from edge_van.prediction.gradcam import GradCAM
from edge_van.prediction.model import choose_model
from edge_van.prediction.overlay import overlay
from edge_van.prediction.scores import ClassScore, rank
from edge_van.runtimes import RUNTIMES, open_model
from edge_van.runtimes.image_model import ImageModel
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.runtimes.stage_map import STAGE_MAP

NAMES = ("ant", "b[e]e", "\x1b[31mcow", "dog", "elk", "fox", "gnu")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(capfd, monkeypatch, "predict", *arguments)


@pytest.fixture(scope="module")
def bundle(timed_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The narrow one with class names that a terminal must not obey."""
    spec = replace(timed_bundle.manifest.input_spec, classes=NAMES)
    with BundleWriter(tmp_path_factory.mktemp("predict") / "bundle") as writer:
        for entry in timed_bundle.manifest.files:
            shutil.copy(timed_bundle.path / entry.path, writer.path(entry.path))
        return writer.finish(replace(MANIFEST, num_classes=7, input_spec=spec))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png and b.jpg, sub/a.png; an archive of the same; a text and a broken image."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "sub").mkdir()
    generator = np.random.default_rng(1)
    for name in ("a.png", "b.jpg", "sub/a.png"):
        pixels = generator.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((120, 90)).save(root / name)
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.write(root / "a.png", "x/a.png")
        archive.write(root / "b.jpg", "x/b.jpg")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return root


def logits_of(bundle: Bundle, runtime: str, file: str, path: Path) -> np.ndarray:
    spec = bundle.manifest.input_spec
    session = open_model(runtime, bundle.file(file))
    with session if runtime == "openvino" else NormalizedSession(session, spec) as opened:
        return opened.run({"images": decode(path.read_bytes(), spec)[None]})["logits"][0]


@pytest.mark.parametrize(
    ("flags", "runtime", "file"),
    [
        ((), "openvino", INT8_IR),
        (("--precision", "fp32"), "openvino", FP32_IR),
        (("--runtime", "onnxruntime"), "onnxruntime", OPENVINO_ONNX),
        (("--runtime", "onnxruntime", "--precision", "fp32"), "onnxruntime", FP32_ONNX),
        (("--runtime", "torch"), "torch", FP32_ONNX),
    ],
)
def test_answers_are_the_engines(
    command: Command, bundle: Bundle, pictures: Path, flags: tuple[str, ...], runtime: str, file: str
) -> None:
    code, out, err = command(bundle.path, pictures / "a.png", pictures / "sub", *flags, "--top-k", 99, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [f["image"] for f in found] == [str(pictures / "a.png"), str(pictures / "sub" / "a.png")]
    for entry in found:
        assert (entry["model"], entry["runtime"], entry["grad_cam"]) == (file, runtime, None)
        logits = logits_of(bundle, runtime, file, Path(entry["image"])).astype(np.float64)
        scores = entry["predictions"]
        assert [s["index"] for s in scores] == np.argsort(-logits, kind="stable").tolist()
        assert [s["name"] for s in scores] == [NAMES[s["index"]] for s in scores]
        assert np.allclose([s["logit"] for s in scores], logits[[s["index"] for s in scores]], rtol=1e-6)
        expected = np.exp(logits) / np.exp(logits).sum()
        assert np.allclose([s["probability"] for s in scores], expected[[s["index"] for s in scores]], atol=1e-9)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12), st.integers(1, 20))
def test_rank_is_a_sorted_softmax(logits: list[float], top_k: int) -> None:
    names = [f"class {i}" for i in range(len(logits))]
    scores = rank(np.array(logits), names, top_k)
    assert len(scores) == min(top_k, len(logits))
    assert [s.logit for s in scores] == sorted(logits, reverse=True)[:top_k]
    assert all(isinstance(s, ClassScore) and s.name == names[s.index] for s in scores)
    assert sum(s.probability for s in rank(np.array(logits), names, len(logits))) == pytest.approx(1.0)


def test_a_tie_goes_to_the_lower_index_and_nan_to_nobody() -> None:
    assert [s.index for s in rank(np.zeros(4), "abcd", 3)] == [0, 1, 2]
    for bad in (np.nan, np.inf):
        with pytest.raises(VerificationError, match="not finite"):
            rank(np.array([0.0, bad]), "ab", 1)


def test_the_table_is_escaped(command: Command, bundle: Bundle, pictures: Path) -> None:
    code, out, err = command(bundle.path, pictures / "a.png", "--top-k", 7)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "\\x1b[31mcow" in out
    assert "b[e]e" in out
    assert "heat map" not in out.splitlines()[2]  # the columns' names


def test_the_runtimes_are_all_there_are_and_one_unreadable_image_is_no_usage_error() -> None:
    types = {parameter.name: parameter.type for parameter in predict.params}
    assert tuple(types["runtime"].choices) == tuple(RUNTIMES)
    assert types["images"].readable is False


def test_classes_without_names_are_numbered(command: Command, timed_bundle: Bundle, pictures: Path) -> None:
    code, out, _ = command(timed_bundle.path, pictures / "a.png", "--json", "--top-k", 1)
    assert code == 0
    [score] = json.loads(out)[0]["predictions"]
    assert score["name"] == f"class {score['index']}"


@pytest.mark.parametrize("flags", [(), ("--stage", 4), ("--stage", 4, "--runtime", "onnxruntime")])
def test_heat_maps_are_written_one_an_image(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path, flags: tuple[object, ...]
) -> None:
    inputs = (pictures / "a.png", pictures / "sub" / "a.png", pictures / "all.zip")
    heat_maps = tmp_path / "new" / "heat"
    code, out, err = command(bundle.path, *inputs, "--grad-cam", heat_maps, "--json", *flags)
    assert code == 0, err
    found = json.loads(out)
    written = [Path(f["grad_cam"]["file"]).name for f in found]
    assert written == ["a_grad_cam.png", "a_2_grad_cam.png", "a_3_grad_cam.png", "b_grad_cam.png"]
    assert sorted(p.name for p in heat_maps.iterdir()) == sorted(written)  # and no partial file
    first, third = (np.asarray(Image.open(heat_maps / written[i])) for i in (0, 2))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, third)  # the archive holds the same image
    runtime, file = ("onnxruntime", OPENVINO_ONNX) if "onnxruntime" in flags else ("openvino", INT8_IR)
    spec = bundle.manifest.input_spec
    cam = GradCAM(bundle, stage=4 if flags else None, graph=OPENVINO_ONNX)
    session = open_model(runtime, bundle.file(file), stage_map=cam.stage)
    pixels = decode((pictures / "a.png").read_bytes(), spec)
    with session if runtime == "openvino" else NormalizedSession(session, spec) as opened:
        output = opened.run({"images": pixels[None]})
    heat = cam.heat_maps(output[STAGE_MAP], output["logits"].argmax(1))[0]
    assert np.array_equal(first, np.asarray(overlay(pixels, heat)))
    for entry in found:  # before the last stage the gradient is the float32 network's
        assert entry["grad_cam"]["stage"] == (4 if flags else 2)
        assert entry["grad_cam"]["gradient_file"] == (OPENVINO_ONNX if flags else FP32_ONNX)


def test_a_heat_map_that_is_there_is_kept(command: Command, bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    kept = tmp_path / "a_grad_cam.png"
    kept.write_bytes(b"mine")
    flags = (bundle.path, pictures / "a.png", "--grad-cam", tmp_path, "--stage", 4)
    code, out, err = command(*flags)
    assert (code, out) == (2, "")
    assert "a_grad_cam.png exists: give --force" in error_line(err)
    assert kept.read_bytes() == b"mine"
    assert command(*flags, "--force")[0] == 0
    assert Image.open(kept).size == (64, 64)


def changed(bundle: Bundle, folder: Path, change: Callable[[Any], None]) -> Bundle:
    """A bundle of the float32 ONNX file alone, its graph changed in place."""
    model = onnx.load(bundle.file(FP32_ONNX))
    change(model.graph)
    with BundleWriter(folder / "changed") as writer:
        onnx.save(model, writer.path(FP32_ONNX))
        return writer.finish(replace(bundle.manifest, files=()))


FLOAT = ("--runtime", "onnxruntime", "--precision", "fp32")


def test_heat_maps_that_are_all_zero_are_counted(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    def zero_head(graph: Any) -> None:
        name = next(node for node in graph.node if node.name == "head").input[1]
        weight = next(tensor for tensor in graph.initializer if tensor.name == name)
        weight.CopyFrom(numpy_helper.from_array(np.zeros(weight.dims, np.float32), name))

    blind = changed(bundle, tmp_path, zero_head)
    images = (pictures / "a.png", pictures / "b.jpg")
    code, out, err = command(blind.path, *images, *FLOAT, "--grad-cam", "heat", "--stage", 4, "--json")
    assert code == 0
    assert err.startswith(
        f"2 of 2 heat maps are all zero, the first is that of {images[0]}: nothing in the map of stage 4 "
    )
    assert len(err.splitlines()) == 1
    for entry, image in zip(json.loads(out), images, strict=True):
        pixels = decode(image.read_bytes(), blind.manifest.input_spec)
        assert np.array_equal(Image.open(entry["grad_cam"]["file"]), overlay(pixels, np.zeros((2, 2))))


def test_a_broken_image_does_not_stop_the_others(command: Command, bundle: Bundle, pictures: Path) -> None:
    broken = pictures / "broken.png"
    code, out, err = command(bundle.path, broken, pictures / "a.png", "--json")
    assert code == 1
    assert [f["image"] for f in json.loads(out)] == [str(pictures / "a.png")]
    assert err.splitlines()[0].startswith(f"{broken} cannot be used: damaged PNG")
    assert "1 of 2 images could not be used: replace or leave them out (each is named above)" in error_line(err)


def test_many_images_are_answered_as_one_by_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    count = predict_module.MANY + 5
    for index in range(count):  # the last request is not full
        Image.fromarray(random.integers(0, 256, (70, 66, 3), np.uint8)).save(tmp_path / f"{index:03d}.png")
    broken = [7, *range(16, 32), 68]  # one among others, all of a request, the last
    for index in broken:
        (tmp_path / f"{index:03d}.png").write_bytes(b"no image")
    failures: list[list[Failure]] = []

    def answers() -> list[Any]:
        said: list[Failure] = []
        found = predict_module.predict(bundle, tmp_path, on_failure=said.append)
        failures.append(said)
        return found

    together = answers()
    monkeypatch.setattr(predict_module, "MANY", 1000)
    alone = answers()
    assert [(p.image, p.predictions[0].index) for p in together] == [(p.image, p.predictions[0].index) for p in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.predictions[0].probability == pytest.approx(other.predictions[0].probability, rel=1e-4)
    assert failures[0] == failures[1]
    assert len(together) == count - len(broken)
    assert [Path(f.image).name for f in failures[0]] == [f"{index:03d}.png" for index in broken]


def test_no_model_is_closed_while_it_computes(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "000.png").write_bytes(b"no image")
    for index in range(4 * predict_module.MANY):
        shutil.copy(tmp_path / "a.png", tmp_path / f"b{index:03d}.png")
    closed: list[bool] = []
    late: list[bool] = []
    close, compute = ImageModel.close, ImageModel.logits_and_maps

    def closing(model: ImageModel) -> None:
        closed.append(True)
        close(model)

    def computing(model: ImageModel, images: Any) -> Any:
        late.extend(closed)
        return compute(model, images)

    monkeypatch.setattr(ImageModel, "close", closing)
    monkeypatch.setattr(ImageModel, "logits_and_maps", computing)
    with pytest.raises(DataError, match=r"000\.png cannot be used"):
        predict_module.predict(bundle, tmp_path)
    assert closed
    assert not late


def test_an_image_without_finite_logits_does_not_stop_the_others(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    def divide_by_the_brightest(graph: Any) -> None:
        """By max(x) + 1, which is 0 for a black image alone: mean and deviation are 0.5."""
        head, [images], [logits] = next(n for n in graph.node if n.name == "head"), graph.input, graph.output
        head.output[0] = "undivided"
        one = numpy_helper.from_array(np.float32(1.0), "one")
        graph.initializer.append(one)
        make = onnx.helper.make_node
        graph.node.append(make("ReduceMax", [images.name], ["brightest"], keepdims=0))
        graph.node.append(make("Add", ["brightest", "one"], ["above_black"]))
        graph.node.append(make("Div", ["undivided", "above_black"], [logits.name]))

    odd = changed(bundle, tmp_path, divide_by_the_brightest)
    black = tmp_path / "black.png"
    Image.new("RGB", (64, 64)).save(black)
    images = (pictures / "a.png", black, pictures / "b.jpg")
    code, out, err = command(odd.path, *images, *FLOAT, "--grad-cam", "heat", "--stage", 4, "--json")
    assert code == 1
    assert [f["image"] for f in json.loads(out)] == [str(images[0]), str(images[2])]
    assert f"{black} cannot be used: the model returned logits that are not finite" in err
    assert "1 of 3 images could not be used" in error_line(err)
    assert sorted(p.name for p in (tmp_path / "heat").iterdir()) == ["a_grad_cam.png", "b_grad_cam.png"]


def test_a_disk_that_fills_up_costs_heat_maps_and_no_answers(
    command: Command, bundle: Bundle, pictures: Path, small_disk: Path
) -> None:
    (small_disk / "filler").write_bytes(bytes(2**18 - 16 * 1024))
    flags = (bundle.path, pictures / "a.png", pictures / "all.zip", "--grad-cam", small_disk, "--stage", 4)
    code, out, err = command(*flags, "--json")
    assert code == 1
    found = json.loads(out)
    assert len(found) == 3
    written = {Path(f["grad_cam"]["file"]).name for f in found if f["grad_cam"] is not None}
    assert 0 < len(written) < 3
    assert {p.name for p in small_disk.iterdir()} == written | {"filler"}
    assert "the heat map of" in err
    assert "the disk is full" in err
    assert f"{3 - len(written)} of 3 heat maps are missing: mend what is said above" in error_line(err)
    (small_disk / "filler").unlink()
    code, out, err = command(*flags, "--force")
    assert (code, err) == (0, "")


def test_a_folder_that_cannot_be_written_to_is_one_line(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = tmp_path / "heat"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != heat)  # root may write everywhere
    code, out, err = command(bundle.path, pictures, "--grad-cam", heat, "--stage", 4)
    assert (code, out) == (1, "")
    assert "permission denied; choose a folder you may write to" in error_line(err)
    assert list(heat.iterdir()) == []


def test_what_a_killed_command_left_of_these_heat_maps_goes(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    for name in (".a_grad_cam.png.partial-0123456789ab", ".other_grad_cam.png.partial-0123456789ab"):
        (tmp_path / name).write_bytes(b"half")
    assert command(bundle.path, pictures / "a.png", "--grad-cam", tmp_path, "--stage", 4)[0] == 0
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [".other_grad_cam.png.partial-0123456789ab", "a_grad_cam.png"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("nothing.png",), "nothing.png is not there"),
        (("a.png", "--stage", "3"), "--stage says where Grad-CAM looks: give --grad-cam DIR"),
        (("a.png", "--force"), "--force replaces heat maps: give --grad-cam DIR"),
        (("a.png/b.png",), "a.png/b.png is not there"),
        (("a.png", "--stage", "5", "--grad-cam", "x"), "5"),
        (("a.png", "--top-k", "0"), "--top-k"),
        (("a.png", "--runtime", "torch", "--precision", "int8"), "torch runs the FP32 network"),
        (("a.png", "--scheme", "int8"), "--scheme picks a graph"),
        (("a.png", "--runtime", "onnxruntime", "--scheme", "int4"), "has no graph 'int4'; it has openvino"),
        (("a.png", "--runtime", "tensorrt"), "give --engine TARGET"),
        (("a.png", "--engine", "orin"), "has no engines for 'orin'"),
        (("a.png", "--engine", "orin", "--precision", "int8"), "an engine's precision is its scheme's"),
        (("a.png", "--grad-cam", "a.png"), "a.png is a file"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    command: Command, bundle: Bundle, pictures: Path, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    shutil.copy(pictures / "a.png", tmp_path / "a.png")
    code, out, err = command(bundle.path, *flags)
    assert (code, out) == (2, "")
    assert said in error_line(err)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_damaged_model_is_not_run(command: Command, bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    content = bytearray((copy / "openvino/model.bin").read_bytes())
    content[100] ^= 1
    (copy / "openvino/model.bin").write_bytes(content)
    code, _, err = command(copy, pictures / "a.png")
    assert code == 1
    assert "damaged" in error_line(err)
    assert command(copy, pictures / "a.png", "--precision", "fp32")[0] == 0


def test_a_camera_size_is_resized_inside_the_graph(
    command: Command, graphs: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    from edge_van.export.openvino import export_openvino

    spec = InputSpec(size=(64, 64), source_size=(90, 120))
    with BundleWriter(tmp_path / "camera") as writer:
        writer.path(FP32_ONNX).write_bytes(graphs["fp32"].read_bytes())
        export_openvino(graphs["fp32"], spec, writer.path(FP32_IR))
        camera = writer.finish(replace(MANIFEST, num_classes=7, input_spec=spec))
    Image.new("RGB", (50, 50)).save(tmp_path / "small.png")
    flags = ("--precision", "fp32", "--grad-cam", tmp_path / "heat", "--stage", 4, "--json")
    code, out, err = command(camera.path, pictures / "a.png", tmp_path / "small.png", *flags)
    assert code == 1
    assert "small.png cannot be used: the image is 50 x 50" in err
    [found] = json.loads(out)
    assert Image.open(found["grad_cam"]["file"]).size == (64, 64)
    code, out, _ = command(camera.path, pictures / "a.png", "--runtime", "torch", "--json")
    assert code == 0
    logits, other = ([s["logit"] for s in f["predictions"]] for f in (found, *json.loads(out)))
    assert np.abs(np.array(logits) - np.array(other)).max() < 0.05 * np.abs(logits).max()


RTX = "rtx4090-1.7.1.116"


@pytest.fixture(scope="module")
def with_engine(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Lists an engine, whose plan is no plan: no GPU is here to open it."""
    record = EngineRecord(1, "int8", "tensorrt_rtx", "1.7.1", ("8.9",), None, "m", "", "", 4, 1.0, "none", ())
    choice = EngineChoice("int8", 1.0, "the only one", (SchemeTiming("int8", 0.0, 1.0),))
    with BundleWriter(tmp_path_factory.mktemp("engines") / "bundle") as writer:
        writer.path(f"tensorrt/{RTX}/int8/model.engine").write_bytes(b"plan")
        for name in (FP32_ONNX, INT8_IR, "openvino/model.bin"):
            shutil.copy(bundle.path / name, writer.path(name))
        engines = {RTX: EngineSet((record,), choice)}
        return writer.finish(replace(bundle.manifest, engines=engines))


def test_an_engine_is_chosen_by_its_target(with_engine: Bundle) -> None:
    for runtime in (None, "tensorrt_rtx"):
        model = choose_model(with_engine, runtime, None, RTX, None)
        assert (model.runtime, model.file) == ("tensorrt_rtx", f"tensorrt/{RTX}/int8/model.engine")
    with pytest.raises(UsageError, match="is one of tensorrt_rtx, not of tensorrt: leave --runtime out"):
        choose_model(with_engine, "tensorrt", None, RTX, None)
    with pytest.raises(UsageError, match=f"give --engine TARGET; the bundle has {RTX}"):
        choose_model(with_engine, "tensorrt_rtx", None, None, None)
    with pytest.raises(UsageError, match="has no fp32 model for openvino; it has openvino int8"):
        choose_model(with_engine, None, "fp32", None, None)


def test_a_scheme_and_a_precision_may_not_contradict_each_other(bundle: Bundle) -> None:
    [quantized] = MANIFEST.schemes
    schemes = (
        replace(quantized, name="int8", file=OPENVINO_ONNX, target="tensorrt"),
        replace(quantized, name="fp32", file=FP32_ONNX, target="tensorrt", quantized_layers=0),
    )
    both = Bundle(bundle.path, replace(bundle.manifest, schemes=schemes))
    assert choose_model(both, "onnxruntime", "int8", None, "int8").file == OPENVINO_ONNX
    assert choose_model(both, "onnxruntime", None, None, "fp32").file == FP32_ONNX
    with pytest.raises(UsageError, match="--precision int8 contradicts --scheme fp32, which quantises nothing"):
        choose_model(both, "onnxruntime", "int8", None, "fp32")
    with pytest.raises(UsageError, match="without --precision fp32"):
        choose_model(both, "onnxruntime", "fp32", None, "int8")


def test_an_engine_shows_no_maps_and_needs_its_gpu(command: Command, with_engine: Bundle, pictures: Path) -> None:
    flags = (with_engine.path, pictures / "a.png", "--engine", RTX)
    code, _, err = command(*flags, "--grad-cam", "heat")
    assert code == 2
    assert "shows no inner maps" in error_line(err)
    assert "--runtime openvino" in error_line(err)
    code, out, err = command(*flags)
    assert (code, out) == (5, "")
    error_line(err)


def test_it_runs_where_torch_is_not(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    """As on a device: numpy, Pillow, OpenVINO; and ``onnx`` for heat maps of the last stage."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[0] = 'edge-van'\nfrom edge_van.cli import main\nmain.main()"
    )
    flags = ("predict", bundle.path, pictures / "a.png", "--grad-cam", tmp_path / "heat", "--json", "--stage")
    for stage, want in ((4, 0), (3, 5)):
        arguments = [sys.executable, "-c", code, *map(str, flags), str(stage), "--force"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == want, done.stderr
    assert "needs torch" in error_line(done.stderr)
    assert "take stage 4" in error_line(done.stderr)


@pytest.mark.parametrize(
    "module", ["cli.predict", "cli.tables_predict", "prediction.gradcam", "prediction.overlay", "runtimes.torch"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "scipy", "matplotlib")
    code = f"import sys, edge_van.{module}; print(*sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
