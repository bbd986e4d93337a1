"""Anchors in the order of the network's output, boxes by deltas, and what non-maximum suppression leaves.

Beside OpenMMLab's own anchors and decoder they are compared by ``benchmarks/parity_heads.py``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow import NARROW

from edge_van.errors import VerificationError
from edge_van.model.dense.network import DenseVAN
from edge_van.tasks.boxes import MOST, OVERLAP, anchors, detections, level_sizes, moved, overlaps, suppressed

SIZE = (72, 100)
CLASSES = 3


def test_there_is_an_anchor_for_every_row_of_the_output() -> None:
    network = DenseVAN("retinanet", NARROW, CLASSES).eval()
    for size in (SIZE, (64, 64), (33, 47)):
        with torch.no_grad():
            output = network(torch.zeros(1, 3, *size))
        assert output.shape == (1, len(anchors(size)), CLASSES + 4)


def test_the_first_anchors() -> None:
    """Of the first cell, around the image's corner: 32 pixels of stride 8 at the first scale, wide ones first."""
    first = anchors(SIZE)[:9]
    assert np.allclose(first[:, :2], -first[:, 2:])
    sides = first[:, 2:] - first[:, :2]
    assert sides[3] == pytest.approx([32, 32])
    assert sides[0] == pytest.approx([32 * math.sqrt(2), 32 / math.sqrt(2)], rel=1e-5)
    assert sides[5] == pytest.approx([32 * 2 ** (2 / 3)] * 2, rel=1e-5)
    assert anchors(SIZE)[9] == pytest.approx(first[0] + np.array([8, 0, 8, 0]), abs=1e-4)


def output_of(*objects: tuple[int, int, float]) -> np.ndarray:
    """What says nothing but that the anchors of those rows are of a class, with those scores; no box is moved."""
    output = np.zeros((len(anchors(SIZE)), CLASSES + 4), np.float32)
    output[:, :CLASSES] = -20
    for row, kind, score in objects:
        output[row, kind] = math.log(score / (1 - score))
    return output


def inside() -> list[int]:
    """Anchors that lie in the image."""
    boxes = anchors(SIZE)
    fits = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= SIZE[1]) & (boxes[:, 3] <= SIZE[0])
    return [int(row) for row in np.flatnonzero(fits)]


def test_detections_are_sorted_and_suppressed() -> None:
    boxes, rows = anchors(SIZE), inside()
    near = next(r for r in rows[1:] if overlaps(boxes[r : r + 1], boxes[rows[0] : rows[0] + 1])[0, 0] > OVERLAP)
    far = next(r for r in rows if overlaps(boxes[r : r + 1], boxes[rows[0] : rows[0] + 1])[0, 0] < 0.1)
    output = output_of((rows[0], 1, 0.7), (near, 1, 0.9), (near, 2, 0.6), (far, 0, 0.8), (rows[0], 0, 0.01))
    found = detections(output, SIZE)
    assert found.classes.tolist() == [1, 0, 2]
    assert found.scores == pytest.approx([0.9, 0.8, 0.6])
    np.testing.assert_allclose(found.boxes, boxes[[near, far, near]], atol=1e-4)


def test_no_objects_at_all() -> None:
    found = detections(output_of(), SIZE)
    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))


def test_no_more_than_a_hundred() -> None:
    output = output_of()
    output[:, 0] = 3
    found = detections(output, SIZE)
    assert 1 <= len(found.boxes) <= MOST


def test_what_is_not_finite() -> None:
    output = output_of()
    output[5, 0] = np.nan
    with pytest.raises(VerificationError, match="not finite"):
        detections(output, SIZE)


def test_boxes_stay_in_the_image_and_cannot_explode() -> None:
    boxes = anchors(SIZE)
    deltas = np.full((len(boxes), 4), 1e3, np.float32)
    found = moved(boxes, deltas, SIZE)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= np.array([SIZE[1], SIZE[0]] * 2)).all()


def test_levels_round_up() -> None:
    assert level_sizes((64, 64)) == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    assert level_sizes(SIZE) == [(9, 13), (5, 7), (3, 4), (2, 2), (1, 1)]


_SIDES = st.tuples(*[st.integers(0, 20)] * 4)


@given(rows=st.lists(st.tuples(_SIDES, st.integers(0, 100), st.integers(0, 2)), max_size=12))
@settings(deadline=None)
def test_suppression_is_what_it_says(rows: list[tuple[tuple[int, ...], int, int]]) -> None:
    boxes = np.array([(x, y, x + w, y + h) for (x, y, w, h), _, _ in rows], np.float32).reshape(-1, 4)
    scores, classes = np.array([s for _, s, _ in rows], float), np.array([c for _, _, c in rows], int)
    kept = suppressed(boxes, scores, classes).tolist()
    shares = overlaps(boxes, boxes)
    order = np.argsort(-scores, kind="stable").tolist()
    expected: list[int] = []
    for row in order:
        if all(classes[row] != classes[better] or shares[row, better] <= OVERLAP for better in expected):
            expected.append(row)
    assert kept == expected


def test_overlaps_of_empty_boxes() -> None:
    empty, box = np.zeros((1, 4), np.float32), np.array([[0, 0, 2, 2]], np.float32)
    assert overlaps(empty, empty)[0, 0] == 0
    assert overlaps(box, box + np.float32(1))[0, 0] == pytest.approx(1 / 7)
