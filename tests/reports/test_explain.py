"""``edge_van.reports.explain`` on real engines: which predictions flipped, and Grad-CAM of both models."""

from __future__ import annotations

import io
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from real_bundle import SPEC

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.files import file_entry
from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.errors import BundleError, DataError, MissingRuntimeError, VerificationError
from edge_van.images.decode import decode
from edge_van.machine import describe_machine
from edge_van.prediction.gradcam import GradCAM, similarity
from edge_van.progress import SILENT
from edge_van.reports import explain as module
from edge_van.reports.explain import MOST_FLIPS, NoModelsError, explain
from edge_van.reports.record import Explanation
from edge_van.runtimes import open_model


@pytest.fixture(scope="module")
def made(real: tuple[Bundle, Path]) -> tuple[Bundle, Path]:
    return real


@pytest.fixture(scope="module")
def found(made: tuple[Bundle, Path]) -> Explanation:
    return explain(*made, SILENT, image_limit=1000, cam_limit=10)


def logits_of(bundle: Bundle, data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(FP32's, INT8's) logits of every image by its name, one image at a time."""
    found = {}
    with (
        open_model("openvino", bundle.file(FP32_IR)) as fp32,
        open_model("openvino", bundle.file(INT8_IR)) as int8,
    ):
        for path in sorted(data.rglob("[0-9]*.png")):
            feed = {"images": decode(path.read_bytes(), SPEC)[None]}
            name = path.relative_to(data).as_posix()
            found[name] = fp32.run(feed)["logits"][0], int8.run(feed)["logits"][0]
    return found


def test_flips_are_those_of_the_models(made: tuple[Bundle, Path], found: Explanation) -> None:
    logits = logits_of(*made)
    classes = list(SPEC.classes or ())
    flipped = {name for name, (a, b) in logits.items() if a.argmax() != b.argmax()}
    kinds = {"lost": 0, "gained": 0, "both_wrong": 0}
    for name in flipped:
        a, b = (classes[v.argmax()] for v in logits[name])
        true = name.split("/")[0]
        kinds["lost" if a == true else "gained" if b == true else "both_wrong"] += 1
    assert len(flipped) > 3, "the coarse model is too good for this test"
    assert (found.images, found.broken) == (60, 1)
    assert (found.lost, found.gained, found.both_wrong) == tuple(kinds.values())
    assert len(found.flips) == min(MOST_FLIPS, len(flipped))
    for flip in found.flips:
        a, b = logits[flip.image]
        for prediction, v in ((flip.fp32, a), (flip.int8, b)):
            softmax = np.exp(v.astype(np.float64)) / np.exp(v.astype(np.float64)).sum()
            assert prediction.name == classes[v.argmax()]
            assert prediction.probability == pytest.approx(softmax.max(), abs=1e-4)
        assert flip.true_class == flip.image.split("/")[0]


def test_lost_images_come_first_and_the_surest_of_them(found: Explanation) -> None:
    order = ["lost", "gained", "both_wrong"]
    keys = [(order.index(f.kind), -f.fp32.probability - f.int8.probability) for f in found.flips]
    assert keys == sorted(keys)


def test_pictures_are_small_jpegs(found: Explanation) -> None:
    assert found.cams is not None
    pictures = [f.thumbnail for f in found.flips] + [p for c in found.cams.pairs for p in (c.thumbnail, c.fp32, c.int8)]
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, image.size) == ("JPEG", (160, 160))
        assert len(picture) < 20_000


def test_grad_cam_shows_flips_first_and_their_own_correlation(made: tuple[Bundle, Path], found: Explanation) -> None:
    bundle, data = made
    cams = found.cams
    assert cams is not None
    assert found.note == ""
    assert len(cams.pairs) == 6
    assert cams.images == 9  # the tenth is the broken one
    assert [pair.image for pair in cams.pairs[:3]] == [flip.image for flip in found.flips[:3]]
    cam = GradCAM(bundle, stage=cams.stage)
    with (
        open_model("openvino", bundle.file(FP32_IR), stage_map=cams.stage) as fp32,
        open_model("openvino", bundle.file(INT8_IR), stage_map=cams.stage) as int8,
    ):
        for pair in cams.pairs[:2]:
            feed = {"images": decode((data / pair.image).read_bytes(), SPEC)[None]}
            first, second = fp32.run(feed), int8.run(feed)
            predicted = first["logits"].argmax(1)
            assert pair.class_name == (SPEC.classes or ())[predicted[0]]
            maps = [cam.heat_maps(r["stage_map"], predicted)[0] for r in (first, second)]
            assert pair.correlation == similarity(*maps)
            assert pair.fp32 != pair.thumbnail


def test_fewer_images_are_spread_over_all(made: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cams_of", _no_torch)
    notes: list[str] = []

    class Noting(type(SILENT)):  # type: ignore[misc]
        def note(self, text: str) -> None:
            notes.append(text)

    found = explain(*made, Noting(), image_limit=7, cam_limit=10)
    assert (found.images, found.broken) == (6, 1)
    assert found.cams is None
    assert found.note == f"not shown (it needs torch for {made[0].path.name})."
    assert notes == [f"no Grad-CAM: it needs torch for {made[0].path}"]


def _no_torch(bundle: Bundle, *arguments: object, **options: object) -> None:
    raise MissingRuntimeError(f"it needs torch for {bundle.path}")


def test_what_cannot_be_run_is_refused(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = made
    without = replace(bundle, manifest=replace(bundle.manifest, files=()))
    with pytest.raises(NoModelsError, match="no OpenVINO models"):
        explain(without, data, SILENT, image_limit=5, cam_limit=5)
    damaged = Bundle(tmp_path / "copy", bundle.manifest)
    shutil.copytree(bundle.path, damaged.path)
    (damaged.path / INT8_IR).write_bytes(b"<net/>")
    with pytest.raises(BundleError, match="damaged"):
        explain(damaged, data, SILENT, image_limit=5, cam_limit=5)
    other = tmp_path / "other" / "yak"
    other.mkdir(parents=True)
    (other / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the model's 3 classes"):
        explain(bundle, other.parent, SILENT, image_limit=5, cam_limit=5)


def test_the_machine_that_ran_the_images_is_recorded(found: Explanation) -> None:
    here = describe_machine()
    assert (found.machine.cpu, found.machine.versions) == (here.cpu, here.versions)


def test_names_that_are_no_utf_8_can_be_written(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    """Classes by the folders' names, since the bundle names none."""
    bundle = replace(
        made[0], manifest=replace(made[0].manifest, input_spec=replace(made[0].manifest.input_spec, classes=None))
    )
    data = tmp_path / os.fsdecode(b"im\xffages")
    shutil.copytree(made[1], data)
    for folder in sorted(data.iterdir()):
        folder.rename(data / os.fsdecode(os.fsencode(folder.name) + b"\xfe"))
    found = explain(bundle, data, SILENT, image_limit=1000, cam_limit=2)
    assert found.flips
    assert found.cams is not None
    assert found.data == "im\\udcffages"
    for name in (found.flips[0].true_class, found.flips[0].int8.name, found.cams.pairs[0].class_name):
        assert name.endswith("\\udcfe")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


@pytest.mark.parametrize(
    ("classes", "error", "words"), [(3, VerificationError, "not finite"), (2, BundleError, ", 2) logits")]
)
def test_a_model_that_returns_no_logits_of_its_classes_is_refused(
    made: tuple[Bundle, Path], tmp_path: Path, classes: int, error: type[Exception], words: str
) -> None:
    bundle, data = made
    shutil.copytree(bundle.path, tmp_path / "bundle")
    _write_not_a_number(tmp_path / "bundle" / INT8_IR, classes)
    files = tuple(file_entry(tmp_path / "bundle", entry.path) for entry in bundle.manifest.files)
    with pytest.raises(error, match=re.escape(words)):
        explain(
            Bundle(tmp_path / "bundle", replace(bundle.manifest, files=files)),
            data,
            SILENT,
            image_limit=20,
            cam_limit=1,
        )


def _write_not_a_number(path: Path, classes: int) -> None:
    """An OpenVINO model of the bundle's input that returns nothing but NaN."""
    import openvino as ov
    from openvino import opset13 as ops

    images = ops.parameter([1, 32, 32, 3], np.uint8, name="images")
    images.output(0).get_tensor().set_names({"images"})
    pooled = ops.reduce_mean(ops.convert(images, np.float32), np.array([1, 2]))
    negative = ops.subtract(ops.multiply(pooled, np.float32(0)), np.float32(1))
    logits = ops.log(ops.slice(negative, [0], [classes], [1], [1]) if classes < 3 else negative)
    logits.output(0).get_tensor().set_names({"logits"})
    ov.save_model(ov.Model([logits], [images], "nan"), path, compress_to_fp16=False)
