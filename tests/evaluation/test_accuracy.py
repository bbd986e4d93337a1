"""``evaluation.accuracy``: every figure against a naive computation over all logits at once; what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from PIL import Image
from torch import Tensor, nn
from watching import Watching

from edge_van.bundle.records import Accuracy
from edge_van.errors import BundleError, DataError, UsageError
from edge_van.evaluation.accuracy import Measured, measure_accuracy
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.images.decode import decode
from edge_van.images.sets import ImageSet, open_images
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN, Block
from edge_van.model.variants import Variant
from edge_van.progress import Work
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.image_model import ImageModel
from edge_van.statistics import paired_drop_interval

SPEC = InputSpec(size=(32, 32), crop=1.0)
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
PER_CLASS = 4


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Pictures of differing tint and contrast, so that the predictions spread."""
    generator = np.random.default_rng(seed)
    tint = generator.uniform(0, 255, (*shape[:-3], 1, 1, 3))
    return np.clip(tint + generator.normal(0, generator.uniform(5, 80), shape), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Models:
    fp32: Path
    int8: Path

    def opened(self, stack_batch: int) -> tuple[Session, Session]:
        first, second = (open_model("openvino", p, batch=stack_batch, threads=1) for p in (self.fp32, self.int8))
        return first, second


def with_fewer_classes(source: Path, path: Path, classes: int) -> Path:
    """The same network with the first ``classes`` logits alone."""
    model = ov.Core().read_model(source)
    result = model.get_results()[0]
    logits = result.input_value(0)
    names = logits.get_names()
    logits.set_names(set())
    sliced = ops.gather(logits, ops.constant(np.arange(classes)), ops.constant(1))
    sliced.output(0).set_names(names)
    ov.save_model(ov.Model([ops.result(sliced)], model.get_parameters()), path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory, randomize_bn_: Callable[[nn.Module, int], nn.Module]) -> Models:
    """A shallow VAN of six classes as FP32 and, coarsely calibrated so that some predictions differ, as INT8."""
    torch.manual_seed(0)
    van = VAN(Variant("shallow", (4, 6, 8, 12), (1, 1, 1, 1), 0.0, 0.0, None), len(NAMES))
    randomize_bn_(van, 3)
    with torch.no_grad():  # as small as trained ones
        for block in (m for m in van.modules() if isinstance(m, Block)):
            block.layer_scale_1.mul_(0.2)
            block.layer_scale_2.mul_(0.2)
    folded, _ = fold(van.eval(), SPEC.size)
    calibration = CalibrationImages(noise((2, *SPEC.size, 3), 99), SPEC, 2)
    with torch.no_grad():  # else the same class would win for every picture
        pictures = np.stack([noise((*SPEC.size, 3), 1000 + i) for i in range(8)])
        folded.head.bias -= folded(calibration.normalized(pictures)).mean(0)
    quantized = post_training_quantize(folded, calibration, SCHEMES["openvino"])
    folder = tmp_path_factory.mktemp("six")
    check: Tensor = calibration[0]
    paths = []
    for name, model in (("fp32", folded), ("int8", quantized)):
        written = export_onnx(model, folder / f"{name}.onnx", check)
        paths.append(export_openvino(written, SPEC, folder / f"{name}.xml"))
    return Models(*paths)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo") / "zoo"
    return fill(root, NAMES)


def fill(root: Path, names: tuple[str, ...]) -> Path:
    for c, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            Image.fromarray(noise((*SPEC.size, 3), 10 * c + i)).save(root / name / f"{i}.png")
    return root


def measure(
    fp32: Session,
    int8: Session,
    images: ImageSet,
    *,
    num_classes: int = 6,
    limit: int | None = None,
    strict: bool = False,
    watch: list[int] | None = None,
) -> Measured:
    first, second = (ImageModel(session, SPEC, num_classes, name=name) for session, name in ((fp32, "a"), (int8, "b")))
    work = Work(Watching(watch), strict)
    return measure_accuracy(first, {"int8": first if int8 is fp32 else second}, images, work, limit=limit)


def validate(fp32: Session, int8: Session, images: ImageSet, **options: Any) -> Accuracy:
    return measure(fp32, int8, images, **options).accuracy["int8"]


@pytest.fixture
def pair(six: Models) -> Iterator[tuple[Session, Session]]:
    first, second = six.opened(5)
    with first, second:
        yield first, second


def all_logits(models: Models, zoo: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FP32's and INT8's logits of every image, one at a time, and the labels."""
    with open_images(zoo) as images:
        pixels = [decode(images.read(i), SPEC) for i in range(len(images))]
        labels = np.array([item.label for item in images.items])
    found = []
    for path in (models.fp32, models.int8):
        with open_model("openvino", path, threads=1) as session:
            found.append(np.concatenate([session.run({"images": p[None]})["logits"] for p in pixels]))
    return found[0], found[1], labels


def test_figures_are_those_of_all_logits_at_once(six: Models, zoo: Path, pair: tuple[Session, Session]) -> None:
    fp32, int8, labels = all_logits(six, zoo)
    n = len(labels)
    done: list[int] = []
    with open_images(zoo) as images:  # 24 images by batches of 5: the last one is short
        record = validate(*pair, images, watch=done)
    assert (record.data, record.images, record.broken) == ("zoo", n, 0)
    assert done == [5, 5, 5, 5, 4]
    first, second = fp32.argmax(1), int8.argmax(1)
    assert len(set(first)) > 1
    assert record.fp32_percent == pytest.approx(100 * np.mean(first == labels))
    assert record.int8_percent == pytest.approx(100 * np.mean(second == labels))
    top5 = [100 * np.mean([y in np.argsort(-row)[:5] for row, y in zip(x, labels, strict=True)]) for x in (fp32, int8)]
    assert (record.top5_fp32_percent, record.top5_int8_percent) == pytest.approx(top5)
    assert record.drop_points == pytest.approx(record.fp32_percent - record.int8_percent)
    _, low, high = paired_drop_interval(first == labels, second == labels)
    assert (record.drop_interval.low, record.drop_interval.high) == (low, high)
    assert record.agreement_percent == pytest.approx(100 * np.mean(first == second))
    wide = fp32.astype(np.float64)
    expected = 10 * np.log10((wide**2).sum() / ((wide - int8) ** 2).sum())
    assert record.logit_sqnr_db == pytest.approx(expected, abs=0.05)
    assert 5 < record.logit_sqnr_db < 100
    assert record.images_per_s > 0
    assert min(record.decode_s, record.inference_s) > 0
    assert record.wait_s >= 0


def test_class_changes_add_up(six: Models, zoo: Path, pair: tuple[Session, Session]) -> None:
    fp32, int8, labels = all_logits(six, zoo)
    with open_images(zoo) as images:
        record = validate(*pair, images)
    assert [change.name for change in record.classes] == list(NAMES)
    assert sum(change.images for change in record.classes) == record.images
    for c, change in enumerate(record.classes):
        own = labels == c
        moved = own & (fp32.argmax(1) != int8.argmax(1))
        assert change.images == PER_CLASS
        assert change.recall_fp32_percent == pytest.approx(100 * np.mean(fp32.argmax(1)[own] == c))
        assert change.recall_int8_percent == pytest.approx(100 * np.mean(int8.argmax(1)[own] == c))
        assert change.moved_to == Counter(NAMES[k] for k in int8.argmax(1)[moved])
    moves = sum(sum(change.moved_to.values()) for change in record.classes)
    assert moves == round(record.images * (1 - record.agreement_percent / 100))
    for name in ("fp32", "int8"):
        recall = np.mean([getattr(change, f"recall_{name}_percent") for change in record.classes])
        assert recall == pytest.approx(getattr(record, f"{name}_percent"))


def test_a_model_against_itself_loses_nothing(six: Models, zoo: Path) -> None:
    with open_model("openvino", six.fp32) as session, open_images(zoo) as images:
        record = validate(session, session, images)
    assert record.drop_points == 0
    assert record.drop_interval.low <= 0 <= record.drop_interval.high
    assert (record.agreement_percent, record.logit_sqnr_db) == (100.0, 200.0)
    assert all(not change.moved_to for change in record.classes)


def test_swapped_models_turn_the_drop_around(zoo: Path, pair: tuple[Session, Session]) -> None:
    with open_images(zoo) as images:
        there = validate(*pair, images)
        back = validate(*pair[::-1], images)
    assert back.drop_points == pytest.approx(-there.drop_points)
    assert back.drop_interval.low == pytest.approx(-there.drop_interval.high)
    assert back.agreement_percent == there.agreement_percent


def test_four_classes_have_no_top_5(six: Models, tmp_path: Path) -> None:
    paths = [with_fewer_classes(p, tmp_path / f"{p.stem}.xml", 4) for p in (six.fp32, six.int8)]
    first, second = Models(*paths).opened(5)
    with first, second, open_images(fill(tmp_path / "few", NAMES[:4])) as images:
        record = validate(first, second, images, num_classes=4)
        assert (record.top5_fp32_percent, record.top5_int8_percent) == (None, None)
        assert record.images == 16
        with pytest.raises(BundleError) as caught:
            validate(first, second, images)
        assert "a returns (5, 4) logits for 5 images" in str(caught.value)
        assert "has 6 classes: make the bundle again" in str(caught.value)
    with (
        open_model("openvino", paths[0], batch=5) as first,
        open_model("openvino", six.int8, batch=5) as wider,
        open_images(tmp_path / "few") as images,
        pytest.raises(BundleError, match=r"b returns \(5, 6\) logits for 5 images, its checkpoint has 4"),
    ):
        validate(first, wider, images, num_classes=4)


@pytest.mark.parametrize("limit", [1, 6, 99])
def test_limit_gives_every_class_its_share(zoo: Path, pair: tuple[Session, Session], limit: int) -> None:
    done: list[int] = []
    with open_images(zoo) as images:
        record = validate(*pair, images, limit=limit, watch=done)
    assert record.images == sum(done) == min(limit, 24)
    if limit == 6:
        assert len(record.classes) >= 5
        assert max(change.images for change in record.classes) <= 2


def test_a_limit_of_nothing_is_refused(zoo: Path, pair: tuple[Session, Session]) -> None:
    with open_images(zoo) as images, pytest.raises(UsageError, match="--limit takes at least 1 image, got 0"):
        validate(*pair, images, limit=0)


def test_a_broken_image_is_counted_and_named(tmp_path: Path, pair: tuple[Session, Session]) -> None:
    root = fill(tmp_path / "zoo", NAMES)
    (root / "bee" / "1.png").write_bytes(b"no image")
    done: list[int] = []
    with open_images(root) as images:
        measured = measure(*pair, images, watch=done)
        record = measured.accuracy["int8"]
        assert (record.images, record.broken) == (23, 1)
        assert sum(done) == 24
        assert [b.name for b in measured.broken] == ["bee/1.png"]
        assert {change.name: change.images for change in record.classes}["bee"] == PER_CLASS - 1
        with pytest.raises(DataError, match=r"bee/1\.png .* cannot be used"):
            validate(*pair, images, strict=True)


def test_nothing_readable_and_nothing_labelled_are_data_errors(tmp_path: Path, pair: tuple[Session, Session]) -> None:
    for name in NAMES:
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "x.png").write_bytes(b"no image")
    with open_images(tmp_path / "bad") as images, pytest.raises(DataError, match="none of the 6 images could be read"):
        validate(*pair, images)
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.fromarray(noise((*SPEC.size, 3), 0)).save(flat / "x.png")
    with open_images(flat, labelled=False) as images, pytest.raises(DataError, match="accuracy needs labelled images"):
        validate(*pair, images)
