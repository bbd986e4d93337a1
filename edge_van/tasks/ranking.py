"""F1 and average precision of labels that an image may have or not, with paired intervals.

In: scores and the truth, (images, labels) each. Out: shares, and drops in points with their 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
Drawn = NDArray[np.float32]
Shares = NDArray[np.float64]
Metric = Callable[[Drawn], Shares]
"""From how often each image was drawn, (resamples, images), to the metric of each resample, a share 0 to 1."""
RESAMPLES, FEWER_RESAMPLES, MANY_SCORES = 1000, 200, 500_000
"""Fewer where images times labels are many: their intervals are narrow, and a thousand would take minutes."""
NOTHING_SEEN = 3.0
"""What never happened in n images happens in at most 3 / n of all, with 95 % confidence (Hanley and Lippman-Hand, "If
nothing goes wrong, is everything all right?", JAMA 249, 1983)."""
_AT_ONCE = 50
_SEED = 0


def paired_bootstrap(fp32: Metric, int8: Metric, images: int, labels: int = 1) -> tuple[float, float, float]:
    """(drop, low, high) in points: FP32 less INT8, with the percentile interval of resampled images, both models on
    the same ones (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3).

    A resample in which a metric is not defined, with no image of any label, counts for nothing. Resamples of images on
    which nothing changed do not change either, and of a few images say little: the interval is at least what
    ``NOTHING_SEEN`` leaves open.
    """
    whole = np.ones((1, images), np.float32)
    drop = 100.0 * float((fp32(whole) - int8(whole))[0])
    resamples = RESAMPLES if images * labels <= MANY_SCORES else FEWER_RESAMPLES
    drops = 100.0 * np.concatenate([fp32(drawn) - int8(drawn) for drawn in _draws(images, resamples)])
    low, high = np.percentile(drops[np.isfinite(drops)], (2.5, 97.5))
    open_points = 100.0 * NOTHING_SEEN / images
    return drop, max(min(float(low), drop - open_points), -100.0), min(max(float(high), drop + open_points), 100.0)


def _draws(images: int, resamples: int) -> Iterator[Drawn]:
    """How often each image is in each resample, (up to 50, images) at once; the same for every metric."""
    rng = np.random.default_rng(_SEED)
    for _ in range(resamples // _AT_ONCE):
        drawn = rng.integers(0, images, (_AT_ONCE, images))
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float32)


def mean_average_precision(scores: Scores, truth: Truth) -> Metric:
    """The mean over the labels of ``average_precision``, of those labels that an image of the resample has."""
    labels = [average_precision(scores[:, c], truth[:, c]) for c in range(scores.shape[1]) if truth[:, c].any()]

    def metric(drawn: Drawn) -> Shares:
        values = np.stack([label(drawn) for label in labels])
        return _mean_of_finite(values, 0)

    return metric


def average_precision(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> Metric:
    """The sum over the thresholds n, from the highest score down, of (R_n - R_(n-1)) P_n, with precision P and recall R
    of the images (N,) at or over the threshold; equal scores are one threshold (as scikit-learn defines it). NaN where
    no image has the label."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    places = np.flatnonzero(truth[order])
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # of the images of each threshold
    ends = last[np.searchsorted(last, places)]  # of the threshold that each image with the label is at
    upto = np.searchsorted(places, ends, side="right") - 1

    def metric(drawn: Drawn) -> Shares:
        counts = drawn[:, order]  # whole numbers, exact in float32 up to 16 million images
        own = counts[:, places]
        precision = np.cumsum(own, 1)[:, upto] / np.maximum(np.cumsum(counts, 1)[:, ends], 1.0)
        return _ratio((own * precision).sum(1, dtype=np.float64), own.sum(1, dtype=np.float64))

    return metric


def micro_f1(chosen: Truth, truth: Truth) -> Metric:
    """2 TP / (2 TP + FP + FN) over all images and labels; NaN where no label is or was said to be there."""
    hits = (chosen & truth).sum(1).astype(np.float32)
    sizes = (chosen.sum(1) + truth.sum(1)).astype(np.float32)
    return lambda drawn: _ratio(2.0 * drawn @ hits, drawn @ sizes)


def macro_f1(chosen: Truth, truth: Truth) -> Metric:
    """The mean of the labels' own F1, of those that are or were said to be in an image of the resample."""
    hits = (chosen & truth).astype(np.float32)
    sizes = chosen.astype(np.float32) + truth.astype(np.float32)

    def metric(drawn: Drawn) -> Shares:
        values = _ratio(2.0 * drawn @ hits, drawn @ sizes)
        return _mean_of_finite(values, 1)

    return metric


def ratio_of_sums(parts: NDArray[Any], wholes: NDArray[Any]) -> Shares:
    """The mean over the classes, the last axis, of part over whole, of those whose whole is not 0."""
    return _mean_of_finite(_ratio(parts, wholes), -1)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Shares:
    """NaN where the whole is 0."""
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _mean_of_finite(values: Shares, axis: int) -> Shares:
    """NaN where none is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0.0).sum(axis), there.sum(axis))


def of_all(metric: Metric, images: int) -> float:
    """The metric of the images themselves, each once; 0 where it is not defined."""
    value = float(metric(np.ones((1, images), np.float32))[0])
    return value if np.isfinite(value) else 0.0
