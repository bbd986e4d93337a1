"""mIoU against scikit-learn's of the same pixels, and the resize against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from edge_van.errors import VerificationError
from edge_van.tasks.segmentation import UNKNOWN, SegmentationTally, resized

CLASSES = 4


def filled(seed: int = 0, images: int = 12) -> tuple[SegmentationTally, np.ndarray, list[np.ndarray]]:
    """(tally, truth, answers of both models), at the logits' own size. The last class is in no image."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES - 1, (images, 6, 8)).astype(np.uint8)
    right = np.moveaxis(np.eye(CLASSES)[truth], -1, 1)
    fp32 = (right + rng.normal(0, 0.6, right.shape)).astype(np.float32)
    int8 = (fp32 + rng.normal(0, 0.4, right.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.1] = UNKNOWN
    tally = SegmentationTally(CLASSES)
    for part in np.array_split(np.arange(images), 3):
        tally.add(fp32[part], int8[part], truth[part])
    return tally, truth, [logits.argmax(1) for logits in (fp32, int8)]


def test_it_is_scikit_learns() -> None:
    tally, truth, chosen = filled()
    figures = tally.figures(("a", "b", "c", "d"))
    known = truth != UNKNOWN
    expected = [
        100 * jaccard_score(truth[known], said[known], average="macro", labels=np.unique([*truth[known], *said[known]]))
        for said in chosen
    ]
    metric = figures.metric
    assert metric.name == "mIoU"
    assert [metric.fp32_percent, metric.int8_percent] == pytest.approx(expected)
    assert metric.drop_points == pytest.approx(expected[0] - expected[1])
    assert metric.drop_interval.low < metric.drop_points < metric.drop_interval.high
    assert tally.agreement_percent == pytest.approx(100 * np.mean(chosen[0] == chosen[1]))
    assert tally.images == 12


def test_the_same_answers_lose_nothing() -> None:
    tally = SegmentationTally(CLASSES)
    logits = np.random.default_rng(1).normal(size=(5, CLASSES, 4, 4)).astype(np.float32)
    tally.add(logits, logits, np.zeros((5, 16, 16), np.uint8))
    assert tally.figures(()).metric.drop_points == 0
    assert tally.agreement_percent == 100


def test_whoever_says_the_ground_everywhere_is_near_chance() -> None:
    tally = SegmentationTally(CLASSES)
    truth = np.zeros((10, 8, 8), np.uint8)
    truth[:, :2] = 1
    logits = np.zeros((10, CLASSES, 8, 8), np.float32)
    logits[:, 0] = 1
    tally.add(logits, logits, truth)
    figures = tally.figures(())
    assert figures.metric.fp32_percent == pytest.approx(37.5)
    assert figures.chance_percent == pytest.approx(37.5)
    assert figures.is_near_chance


def test_pixels_nobody_knows_count_for_nothing() -> None:
    """Nor does an image of such alone."""
    tally = SegmentationTally(2)
    truth = np.full((2, 4, 4), UNKNOWN, np.uint8)
    truth[0, 0] = 1
    logits = np.zeros((2, 2, 4, 4), np.float32)
    logits[:, 1, 0] = 1
    tally.add(logits, logits, truth)
    assert tally.figures(()).metric.fp32_percent == 100


def test_logits_that_are_not_finite() -> None:
    logits = np.full((1, 2, 4, 4), np.nan, np.float32)
    with pytest.raises(VerificationError, match="FP32 model returned logits that are not finite"):
        SegmentationTally(2).add(logits, logits, np.zeros((1, 4, 4), np.uint8))


@given(before=st.tuples(st.integers(1, 9), st.integers(1, 9)), after=st.tuples(st.integers(1, 30), st.integers(1, 30)))
@settings(deadline=None)
def test_the_resize_is_torchs(before: tuple[int, int], after: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, *before)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(logits), after, mode="bilinear").numpy()
    np.testing.assert_allclose(resized(logits, after), expected, atol=1e-5)
