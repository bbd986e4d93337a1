"""A class for every pixel: mean intersection over union of both models, with a paired interval by image.

In: logits (N, classes, h, w) at the head's stride, class numbers (N, H, W), 255 where nobody knows. Out: ``Figures``
whose metric is mIoU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.tasks.base import Figures, Tally, change
from edge_van.tasks.ranking import Drawn, Metric, Shares, of_all, paired_bootstrap, ratio_of_sums

UNKNOWN = 255
"""The label of pixels that count for nothing, as in ADE20K and Cityscapes."""


class SegmentationTally(Tally):
    """Intersections and unions of each class are summed over all images and divided, then averaged over the classes
    that are there (Everingham et al., 2015, "The Pascal Visual Object Classes Challenge", section 4.1.3; OpenMMLab's
    ``IoUMetric`` likewise)."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self._counts: dict[str, list[NDArray[np.int64]]] = {"fp32": [], "int8": []}  # (N, 2, classes) each
        self._pixels = np.zeros(classes, np.int64)

    def _agreeing(self, fp32: NDArray[Any], int8: NDArray[Any]) -> float:
        """By pixel of the logits."""
        return float((fp32.argmax(1) == int8.argmax(1)).mean((1, 2)).sum())

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        for name, logits in (("fp32", fp32), ("int8", int8)):
            chosen = resized(logits, truth.shape[1:]).argmax(1)
            rows = [_overlaps(c, t, self.outputs) for c, t in zip(chosen, truth, strict=True)]
            self._counts[name].append(np.stack(rows))
        known = truth[truth != UNKNOWN]
        self._pixels += np.bincount(known, minlength=self.outputs)

    def figures(self, names: tuple[str, ...]) -> Figures:
        """``names`` are not shown: what is recorded of a class is of whole images."""
        fp32, int8 = (mean_iou(np.concatenate(self._counts[name])) for name in ("fp32", "int8"))
        shares = [of_all(metric, self.images) for metric in (fp32, int8)]
        drop = paired_bootstrap(fp32, int8, self.images, self.outputs)
        there = self._pixels > 0
        # whoever says the commonest class everywhere has its share of that class, and nothing of the others
        chance = float(self._pixels.max() / max(self._pixels.sum(), 1) / max(there.sum(), 1))
        return Figures(change("mIoU", shares[0], shares[1], drop), 100.0 * chance)


def mean_iou(counts: NDArray[np.int64]) -> Metric:
    """Of counts (images, 2, classes), intersections and unions: the mean over the classes of a resample that are in its
    truth or were said to be."""
    overlaps, unions = (counts[:, which].astype(np.float64) for which in (0, 1))

    def metric(drawn: Drawn) -> Shares:
        return ratio_of_sums(drawn @ overlaps, drawn @ unions)

    return metric


def _overlaps(chosen: NDArray[np.int64], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """(2, classes): the pixels where both say a class, and where one of them does, of those that are known."""
    known = truth != UNKNOWN
    chosen, truth = chosen[known], truth[known]
    both = np.bincount(chosen[chosen == truth], minlength=classes)
    either = np.bincount(chosen, minlength=classes) + np.bincount(truth, minlength=classes) - both
    return np.stack([both, either])


def resized(logits: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    """(N, C, h, w) bilinearly at (N, C, *size), pixel centres kept: what torch calls ``align_corners=False``."""
    rows, columns = (_weights(before, after) for before, after in zip(logits.shape[2:], size, strict=True))
    taller = np.einsum("Hh,nchw->ncHw", rows, logits.astype(np.float32, copy=False), optimize=True)
    return np.asarray(np.einsum("Ww,nchw->nchW", columns, taller, optimize=True), np.float32)


def _weights(before: int, after: int) -> NDArray[np.float32]:
    """(after, before): each row has the two neighbours of a pixel's centre."""
    place = np.maximum((np.arange(after) + 0.5) * before / after - 0.5, 0.0)
    low = np.minimum(place.astype(np.int64), before - 1)
    weights = np.zeros((after, before), np.float32)
    share = (place - low).astype(np.float32)
    np.add.at(weights, (np.arange(after), low), 1.0 - share)
    np.add.at(weights, (np.arange(after), np.minimum(low + 1, before - 1)), share)
    return weights
