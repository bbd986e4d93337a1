"""mAP against pycocotools' own summary of the same detections, and what a resample of the images is."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from edge_van.errors import DataError
from edge_van.tasks.boxes import Detections, anchors
from edge_van.tasks.detection import DetectionTally, Objects, mean_average_precision
from edge_van.tasks.ranking import of_all

pytest.importorskip("pycocotools", reason="no pycocotools here: pip install 'edge-van[dense]'")
CLASSES, IMAGES = 3, 30


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 60, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32)


def drawn(seed: int = 0) -> tuple[list[Detections], list[Objects]]:
    """Some objects found, some badly, some not at all; one image without objects, one without detections."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for image in range(IMAGES):
        count = 0 if image == 3 else int(rng.integers(1, 6))
        boxes, classes = boxes_of(rng, count), rng.integers(0, CLASSES, count)
        truth.append(Objects(boxes, classes))
        seen = rng.random(count) < 0.8
        near = boxes[seen] + rng.uniform(-2, 2, (seen.sum(), 4)).astype(np.float32)  # sides stay over 0
        extra = boxes_of(rng, 0 if image == 4 else 2)
        near = near[:0] if image == 4 else near
        kinds = np.concatenate([classes[seen][: len(near)], rng.integers(0, CLASSES, len(extra))])
        scores = np.sort(rng.uniform(0.05, 1, len(near) + len(extra)))[::-1].astype(np.float32)
        found.append(Detections(np.concatenate([near, extra]), scores, kinds))
    return found, truth


def by_pycocotools(found: list[Detections], truth: list[Objects], images: list[int]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(of: Detections | Objects, number: int) -> list[dict[str, object]]:
        sides = np.concatenate([of.boxes[:, :2], of.boxes[:, 2:] - of.boxes[:, :2]], 1).tolist()
        return [
            {"image_id": number, "category_id": int(c), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for box, c in zip(sides, of.classes, strict=True)
        ]

    coco = COCO()
    annotations = [row for number, image in enumerate(images) for row in rows(truth[image], number)]
    coco.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": c} for c in range(CLASSES)],
        "annotations": [{**row, "id": number} for number, row in enumerate(annotations, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = [
            {**row, "score": float(score)}
            for number, image in enumerate(images)
            for row, score in zip(rows(found[image], number), found[image].scores, strict=True)
        ]
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.mark.parametrize("seed", range(3))
def test_it_is_cocos(seed: int) -> None:
    found, truth = drawn(seed)
    metric = mean_average_precision(found, truth, CLASSES)
    expected = by_pycocotools(found, truth, list(range(IMAGES)))
    assert 0.1 < expected < 0.9
    assert of_all(metric, IMAGES) == pytest.approx(expected, abs=1e-9)


def test_a_resample_is_those_images() -> None:
    """Some twice, some not at all. Of equal scores pycocotools takes one image's after the other, here they are one
    after the other, too."""
    found, truth = drawn()
    images = sorted(np.random.default_rng(5).integers(0, IMAGES, IMAGES).tolist())
    counts = np.bincount(images, minlength=IMAGES).astype(np.float32)
    metric = mean_average_precision(found, truth, CLASSES)
    assert float(metric(counts[None])[0]) == pytest.approx(by_pycocotools(found, truth, images), abs=2e-3)


def test_nothing_found_and_nothing_there() -> None:
    _, truth = drawn()
    none = [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))] * IMAGES
    assert of_all(mean_average_precision(none, truth, CLASSES), IMAGES) == 0
    with pytest.raises(DataError, match="none of the 1 images has an object"):
        mean_average_precision(none[:1], [Objects(np.zeros((0, 4)), np.zeros(0))], CLASSES)


def test_both_models_of_a_batch() -> None:
    size = (64, 64)
    places = anchors(size)
    chosen = [row for row, (x, y, r, b) in enumerate(places) if x >= 0 and y >= 0 and r <= 64 and b <= 64][:4]
    fp32 = np.zeros((4, len(places), CLASSES + 4), np.float32)
    fp32[..., :CLASSES] = -20
    for image, row in enumerate(chosen):
        fp32[image, row, image % CLASSES] = 3
    int8 = fp32.copy()
    int8[0, chosen[0], 0] = -20  # one object is lost
    truth = [Objects(places[row : row + 1], np.array([image % CLASSES])) for image, row in enumerate(chosen)]
    tally = DetectionTally(CLASSES, size)
    tally.add_objects(fp32[:3], int8[:3], truth[:3])
    tally.add_objects(fp32[3:], int8[3:], truth[3:])
    metric = tally.figures(()).metric
    assert (tally.images, metric.name) == (4, "mAP")
    assert metric.fp32_percent == pytest.approx(100)
    assert metric.int8_percent < 90
    assert metric.drop_points == pytest.approx(metric.fp32_percent - metric.int8_percent)
    assert tally.agreement_percent == pytest.approx(75)
