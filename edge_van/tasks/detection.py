"""Objects of an image: COCO's mean average precision of both models, with a paired interval by image.

In: what a RetinaNet's graph gives, (N, anchors, classes + 4), and each image's ``Objects``. Out: ``Figures`` whose
metric is mAP, averaged over overlaps of 0.50 to 0.95.

pycocotools matches detections to objects, as it does for everybody; what it then accumulates is accumulated here, with
how often each image was drawn, and equals its own figure where each counts once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import DataError, MissingRuntimeError
from edge_van.tasks.base import Figures, Tally, change
from edge_van.tasks.boxes import Detections, detections
from edge_van.tasks.ranking import Drawn, Metric, Shares, of_all, paired_bootstrap

RECALLS = np.linspace(0.0, 1.0, 101)
"""At which COCO reads the precision."""


@dataclass(frozen=True)
class Objects:
    """What is true of an image: boxes float32 (N, 4), left, top, right, bottom in pixels; classes (N,)."""

    boxes: NDArray[Any]
    classes: NDArray[Any]


class DetectionTally(Tally):
    """mAP of images of ``size``, (height, width)."""

    def __init__(self, classes: int, size: tuple[int, int]) -> None:
        super().__init__(classes)
        self.size = size
        self._truth: list[Objects] = []
        self._found: dict[str, list[Detections]] = {"fp32": [], "int8": []}

    def add_objects(self, fp32: NDArray[Any], int8: NDArray[Any], truth: Sequence[Objects]) -> None:
        """One batch; raises as ``add``."""
        self._truth += truth
        self.add(fp32, int8, np.array([len(objects.boxes) for objects in truth]))

    def _agreeing(self, fp32: NDArray[Any], int8: NDArray[Any]) -> float:
        """By the class that is likeliest, of the anchors where one of the two sees something."""
        shares = []
        for first, second in zip(fp32, int8, strict=True):
            one, other = first[:, : self.outputs], second[:, : self.outputs]
            seen = np.maximum(one.max(1), other.max(1)) > 0
            same = (one.argmax(1) == other.argmax(1)) & ((one.max(1) > 0) == (other.max(1) > 0))
            shares.append(float(same[seen].mean()) if seen.any() else 1.0)
        return sum(shares)

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        for name, outputs in (("fp32", fp32), ("int8", int8)):
            self._found[name] += [detections(output, self.size) for output in outputs]

    def figures(self, names: tuple[str, ...]) -> Figures:
        """``names`` are not shown. ``DataError`` where no image has an object."""
        metrics = [mean_average_precision(self._found[n], self._truth, self.outputs) for n in ("fp32", "int8")]
        shares = [of_all(metric, self.images) for metric in metrics]
        drop = paired_bootstrap(metrics[0], metrics[1], self.images, self.outputs)
        return Figures(change("mAP", shares[0], shares[1], drop), 0.0)


def mean_average_precision(found: Sequence[Detections], truth: Sequence[Objects], classes: int) -> Metric:
    """Over the classes that a resample has objects of, and ten overlaps; areas are all one, 100 detections an image.

    ``DataError`` without any object, ``MissingRuntimeError`` without pycocotools.
    """
    if not any(len(objects.boxes) for objects in truth):
        raise DataError(f"none of the {len(truth)} images has an object: there is nothing to measure; give others")
    evaluated = _matched(found, truth, classes)
    per_class = [_average_precision(evaluated[c], len(truth)) for c in range(classes) if evaluated[c].objects.any()]

    def metric(drawn: Drawn) -> Shares:
        values = np.stack([of(drawn) for of in per_class])
        there = np.isfinite(values)
        total = np.where(there, values, 0.0).sum(0)
        out: Shares = np.full(len(drawn), np.nan)
        np.divide(total, there.sum(0), out=out, where=there.any(0))
        return out

    return metric


@dataclass(frozen=True)
class _Matched:
    """Of one class, detections the best first: each one's image, and (overlaps, D) whether it found an object; how many
    ``objects`` each image has."""

    images: NDArray[np.intp]
    hits: NDArray[np.bool_]
    objects: NDArray[np.float32]


def _average_precision(matched: _Matched, images: int) -> Metric:
    """The mean over the overlaps of the precision at 101 recalls, each the best of that recall and all above it."""

    def metric(drawn: Drawn) -> Shares:
        shares = np.full(len(drawn), np.nan)
        for row, counts in enumerate(drawn.astype(np.float64)):
            wanted = float(counts @ matched.objects)
            if wanted == 0:
                continue
            weights = counts[matched.images]
            right = np.cumsum(matched.hits * weights, 1)
            all_of_them = np.cumsum(weights)
            precision = right / np.maximum(all_of_them, np.finfo(np.float64).tiny)
            best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            total = 0.0
            for recall, reached in zip(right / wanted, best, strict=True):
                places = np.searchsorted(recall, RECALLS, side="left")
                total += float(np.append(reached, 0.0)[places].mean())
            shares[row] = total / len(right)
        return shares

    assert len(matched.objects) == images
    return metric


def _matched(found: Sequence[Detections], truth: Sequence[Objects], classes: int) -> list[_Matched]:
    """By pycocotools' ``evaluateImg``."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError:
        raise MissingRuntimeError("mAP is measured by pycocotools: pip install 'edge-van[dense]'") from None

    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        objects = COCO()
        objects.dataset = {
            "images": [{"id": number} for number in range(len(truth))],
            "categories": [{"id": c} for c in range(classes)],
            "annotations": [
                {"image_id": image, "category_id": int(c), "bbox": _sides(box), "area": _area(box), "iscrowd": 0}
                for image, of in enumerate(truth)
                for box, c in zip(of.boxes, of.classes, strict=True)
            ],
        }
        for number, annotation in enumerate(objects.dataset["annotations"], 1):  # 0 would be no match
            annotation["id"] = number
        objects.createIndex()
        rows = [
            {"image_id": image, "category_id": int(c), "bbox": _sides(box), "score": float(score)}
            for image, of in enumerate(found)
            for box, score, c in zip(of.boxes, of.scores, of.classes, strict=True)
        ]
        results = objects.loadRes(rows) if rows else None
        evaluation = COCOeval(objects, results or COCO(), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        if results is None:
            evaluation.cocoDt.dataset = {"images": [], "categories": [], "annotations": []}
            evaluation.cocoDt.createIndex()
        evaluation.evaluate()
    by_class: list[list[dict[str, Any]]] = [[] for _ in range(classes)]
    for row in filter(None, evaluation.evalImgs):
        by_class[row["category_id"]].append(row)
    overlaps = len(evaluation.params.iouThrs)
    return [_joined(rows_of, len(truth), overlaps) for rows_of in by_class]


def _joined(rows: Sequence[dict[str, Any]], images: int, overlaps: int) -> _Matched:
    counts = np.zeros(images, np.float32)
    scores, places, hits = [np.zeros(0)], [np.zeros(0, np.intp)], [np.zeros((overlaps, 0), np.bool_)]
    for row in rows:
        counts[row["image_id"]] = len(row["gtIds"])
        scores.append(np.array(row["dtScores"], float))
        places.append(np.full(len(row["dtScores"]), row["image_id"], np.intp))
        hits.append(np.asarray(row["dtMatches"]).reshape(overlaps, -1) > 0)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return _Matched(np.concatenate(places)[order], np.concatenate(hits, 1)[:, order], counts)


def _sides(box: NDArray[Any]) -> list[float]:
    """Left, top, width, height."""
    left, top, right, bottom = map(float, box)
    return [left, top, right - left, bottom - top]


def _area(box: NDArray[Any]) -> float:
    _, _, width, height = _sides(box)
    return width * height
