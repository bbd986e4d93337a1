"""What ``scenes.py`` trains and measures of each kind of head: its truth, its loss, its tally, its picture.

In: scenes, a network's outputs. Out: a loss for torch, a ``Tally`` that is filled, colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from edge_van.images.scenes import ARROW, CLASSES, POINTS, SHAPES, UNKNOWN, Scene
from edge_van.model.dense.network import KINDS
from edge_van.tasks.boxes import anchors, detections, overlaps
from edge_van.tasks.detection import DetectionTally, Objects
from edge_van.tasks.pose import PoseTally, key_points
from edge_van.tasks.segmentation import SegmentationTally, resized

COLOURS = np.array([(0, 0, 0), (230, 60, 60), (60, 200, 60), (70, 110, 240), (240, 200, 40), (200, 80, 220)], np.uint8)
POSITIVE, NEGATIVE = 0.5, 0.4
"""An anchor is of an object that it overlaps by the former, and of none where it overlaps all by less than the latter
(Lin et al., 2017, "Focal Loss for Dense Object Detection", section 4)."""
ALPHA, GAMMA = 0.25, 2.0
SIGMA = 2.0


class Segmentation:
    """mIoU of the shapes and the ground."""

    outputs = len(CLASSES)
    drawing: ClassVar[dict[str, Any]] = {}

    def __init__(self, size: int) -> None:
        self.size = size

    def loss(self, output: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Cross-entropy at the labels' size."""
        labels = torch.from_numpy(np.stack([s.labels for s in scenes])).long()
        logits = nn.functional.interpolate(output, labels.shape[1:], mode="bilinear")
        return nn.functional.cross_entropy(logits, labels, ignore_index=UNKNOWN)

    def tally(self) -> SegmentationTally:
        """An empty one."""
        return SegmentationTally(self.outputs)

    def add(self, tally: Any, fp32: NDArray[Any], int8: NDArray[Any], scenes: Sequence[Scene]) -> None:
        """One batch."""
        tally.add(fp32, int8, np.stack([s.labels for s in scenes]))

    def picture(self, scenes: Sequence[Scene], answers: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
        """Rows: images, truth, and each model's answers."""
        labels = np.stack([s.labels for s in scenes])
        chosen = [resized(answer, labels.shape[1:]).argmax(1) for answer in answers]
        rows = [np.stack([s.image for s in scenes])]
        rows += [COLOURS[np.where(c == UNKNOWN, 0, c)] for c in (labels, *chosen)]
        return np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)


class Detection:
    """mAP of the shapes."""

    outputs = len(SHAPES)
    drawing: ClassVar[dict[str, Any]] = {}

    def __init__(self, size: int) -> None:
        self.size = size
        self.anchors = anchors((size, size))

    def loss(self, output: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Focal loss of the classes, absolute difference of the deltas, by the number of anchors that are of one."""
        wanted, deltas, weights = (
            torch.from_numpy(np.stack(part)) for part in zip(*map(self._truth, scenes), strict=True)
        )
        logits, moves = output[..., : self.outputs], output[..., self.outputs :]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        sure = torch.where(wanted > 0, logits.sigmoid(), 1 - logits.sigmoid())
        focal = torch.where(wanted > 0, ALPHA, 1 - ALPHA) * (1 - sure) ** GAMMA * loss
        positive = wanted.amax(-1) > 0
        count = max(int(positive.sum()), 1)
        boxes = (moves - deltas).abs()[positive].sum()
        return ((focal * weights[..., None]).sum() + boxes) / count

    def _truth(self, scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(A, classes) ones, (A, 4) deltas, (A,) 0 of anchors that count for nothing."""
        count = len(self.anchors)
        wanted, deltas = np.zeros((count, self.outputs), np.float32), np.zeros((count, 4), np.float32)
        weights = np.ones(count, np.float32)
        if len(scene.boxes):
            shares = overlaps(self.anchors, scene.boxes)
            best, share = shares.argmax(1), shares.max(1)
            own = shares.argmax(0)  # every object has an anchor, however little it overlaps
            best[own], share[own] = np.arange(len(own)), 1.0
            weights[(share >= NEGATIVE) & (share < POSITIVE)] = 0.0
            rows = np.flatnonzero(share >= POSITIVE)
            wanted[rows, scene.classes[best[rows]]] = 1.0
            places, boxes = self.anchors[rows], scene.boxes[best[rows]]
            sides, own_sides = places[:, 2:] - places[:, :2], boxes[:, 2:] - boxes[:, :2]
            centres = (boxes[:, :2] + boxes[:, 2:] - places[:, :2] - places[:, 2:]) / 2
            deltas[rows] = np.concatenate([centres / sides, np.log(own_sides / sides)], 1)
        return wanted, deltas, weights

    def tally(self) -> DetectionTally:
        """An empty one."""
        return DetectionTally(self.outputs, (self.size, self.size))

    def add(self, tally: Any, fp32: NDArray[Any], int8: NDArray[Any], scenes: Sequence[Scene]) -> None:
        """One batch."""
        tally.add_objects(fp32, int8, [Objects(s.boxes, s.classes) for s in scenes])

    def picture(self, scenes: Sequence[Scene], answers: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
        """Rows: truth, and each model's answers over a score of a half."""
        rows = [[self._drawn(s, s.boxes, s.classes) for s in scenes]]
        for answer in answers:
            found = [detections(one, (self.size, self.size), least_score=0.5) for one in answer]
            rows.append([self._drawn(s, f.boxes, f.classes) for s, f in zip(scenes, found, strict=True)])
        return np.concatenate([np.concatenate(row, 1) for row in rows], 0)

    def _drawn(self, scene: Scene, boxes: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.uint8]:
        image = Image.fromarray(scene.image)
        pen = ImageDraw.Draw(image)
        for (left, top, right, bottom), kind in zip(boxes.tolist(), classes.tolist(), strict=True):
            pen.rectangle((left, top, right - 1, bottom - 1), outline=tuple(COLOURS[1 + kind].tolist()), width=2)
        return np.asarray(image)


class Pose:
    """PCK of the five points of one arrow a scene."""

    outputs = len(POINTS)
    drawing: ClassVar[dict[str, Any]] = {"shapes": (1, 1), "kinds": (ARROW,)}

    def __init__(self, size: int) -> None:
        self.size = size

    def loss(self, output: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Squared difference from a Gaussian of two cells around each point that is seen (Xiao et al., 2018)."""
        points = torch.from_numpy(np.stack([_arrow(s) for s in scenes]))
        height, width = output.shape[-2:]
        rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
        x, y, seen = (part[..., None, None] for part in points.unbind(-1))
        scale = width / self.size
        wanted = torch.exp(-((columns - x * scale) ** 2 + (rows - y * scale) ** 2) / (2 * SIGMA**2))
        return (((output - wanted) ** 2) * seen).sum() / seen.sum().clamp_min(1)

    def tally(self) -> PoseTally:
        """An empty one."""
        return PoseTally(self.outputs, (self.size, self.size))

    def add(self, tally: Any, fp32: NDArray[Any], int8: NDArray[Any], scenes: Sequence[Scene]) -> None:
        """One batch."""
        truth = np.stack([_arrow(s) for s in scenes])
        tally.add_points(fp32, int8, truth, np.array([_side(s, self.size) for s in scenes]))

    def picture(self, scenes: Sequence[Scene], answers: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
        """Rows: truth, and each model's points, lines from the centre."""
        rows = [[self._drawn(s, _arrow(s)) for s in scenes]]
        for answer in answers:
            found = key_points(answer, (self.size, self.size))
            rows.append([self._drawn(s, points) for s, points in zip(scenes, found, strict=True)])
        return np.concatenate([np.concatenate(row, 1) for row in rows], 0)

    def _drawn(self, scene: Scene, points: NDArray[Any]) -> NDArray[np.uint8]:
        image = Image.fromarray(scene.image)
        pen = ImageDraw.Draw(image)
        for colour, (x, y, _) in zip(COLOURS[1:].tolist(), points[1:].tolist(), strict=False):
            pen.line((*points[0, :2].tolist(), x, y), fill=tuple(colour), width=2)
        return np.asarray(image)


def _arrow(scene: Scene) -> NDArray[np.float32]:
    """Its points; such as count for nothing where too little of it is seen."""
    return scene.points[0] if len(scene.points) else np.zeros((len(POINTS), 3), np.float32)


def _side(scene: Scene, size: int) -> float:
    return float((scene.boxes[0, 2:] - scene.boxes[0, :2]).max()) if len(scene.boxes) else float(size)


Task = Segmentation | Detection | Pose


def task_of(head: str, size: int) -> Task:
    """Of a head's kind."""
    if KINDS[head].attribute == "decode_head":
        return Segmentation(size)
    return Detection(size) if head == "retinanet" else Pose(size)
