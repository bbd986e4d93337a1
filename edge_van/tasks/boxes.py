"""Boxes of objects, in numpy alone as on a device: anchors, deltas, non-maximum suppression.

In: what a RetinaNet's graph gives, (anchors, classes + 4). Out: ``Detections``: boxes in pixels, scores, classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.tasks.probabilities import sigmoid

Boxes = NDArray[np.float32]
STRIDES, BASE, SCALES, RATIOS = (8, 16, 32, 64, 128), 4, 3, (0.5, 1.0, 2.0)
LARGEST_GROWTH = math.log(1000 / 16)
LEAST_SCORE, MOST_A_LEVEL, MOST, OVERLAP = 0.05, 1000, 100, 0.5
"""RetinaNet's: scores from this on, at most so many of a level, so many in all; a box that overlaps a better one of its
class by more is left out (Lin et al., 2017, section 4, and OpenMMLab's configuration)."""


@dataclass(frozen=True)
class Detections:
    """boxes float32 (N, 4): left, top, right, bottom in pixels; scores (N,), the best first; classes (N,)."""

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the five maps that RetinaNet's head sees, of an image of ``size``: each rounds up."""
    height, width = size
    found = []
    for stride in (4, 2, 2, 2, 2, 2):
        height, width = -(-height // stride), -(-width // stride)
        found.append((height, width))
    return found[1:]


def anchors(size: tuple[int, int]) -> Boxes:
    """(A, 4) in the order of RetinaNet's output: level by level, row by row; of a cell first by ratio, then by scale.

    Their centres are the cells' corners: stride times column and row, without half a cell.
    """
    levels = []
    for stride, (height, width) in zip(STRIDES, level_sizes(size), strict=True):
        scales = stride * BASE * 2.0 ** (np.arange(SCALES) / SCALES)
        root = np.sqrt(np.array(RATIOS))  # of height over width
        widths, heights = (np.outer(way, scales).ravel() for way in (1 / root, root))
        base = np.stack([-widths, -heights, widths, heights], 1) / 2
        rows, columns = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
        corners = np.stack([columns, rows, columns, rows], -1).reshape(-1, 1, 4)
        levels.append((corners + base).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def moved(boxes: Boxes, deltas: NDArray[Any], size: tuple[int, int]) -> Boxes:
    """``boxes`` (N, 4) by ``deltas`` (N, 4): centres by shares of width and height, sides by the exponential of the
    rest; inside an image of ``size`` (Girshick et al., 2014, "Rich feature hierarchies", appendix C)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + deltas[:, :2] * sides
    grown = sides * np.exp(np.clip(deltas[:, 2:], -LARGEST_GROWTH, LARGEST_GROWTH))
    found = np.concatenate([centres - grown / 2, centres + grown / 2], 1)
    return np.asarray(np.clip(found, 0, np.array([size[1], size[0]] * 2)), np.float32)


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """Intersection over union, (N, M); 0 where either box is empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (first, second)]
    either = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, either, out=np.zeros_like(shared), where=either > 0), np.float32)


def suppressed(boxes: Boxes, scores: NDArray[Any], classes: NDArray[Any], overlap: float = OVERLAP) -> NDArray[np.intp]:
    """The numbers of the boxes that stay, the best first: none overlaps a better one of its own class by more."""
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        same = classes[left] == classes[best]
        left = left[~(same & (overlaps(boxes[left], boxes[best : best + 1])[:, 0] > overlap))]
    return np.array(kept, np.intp)


def detections(output: NDArray[Any], size: tuple[int, int], *, least_score: float = LEAST_SCORE) -> Detections:
    """What a RetinaNet says of one image of ``size``: ``output`` (A, classes + 4), class logits and deltas.

    ``VerificationError`` for logits that are not finite.
    """
    places, classes = anchors(size), output.shape[1] - 4
    scores = sigmoid(output[:, :classes])
    parts, start = [], 0
    for height, width in level_sizes(size):
        end = start + height * width * SCALES * len(RATIOS)
        rows, kinds = np.nonzero(scores[start:end] > least_score)
        order = np.argsort(-scores[start + rows, kinds], kind="stable")[:MOST_A_LEVEL]
        parts.append((start + rows[order], kinds[order]))
        start = end
    rows, kinds = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    boxes, found = moved(places[rows], output[rows, classes:], size), scores[rows, kinds]
    kept = suppressed(boxes, found, kinds)[:MOST]
    return Detections(boxes[kept], found[kept].astype(np.float32), kinds[kept].astype(np.int64))
