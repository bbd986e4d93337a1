"""Any number of labels an image, each output its own: mean average precision, F1 at the threshold, exact match.

In: logits (N, labels), the truth bool (N, labels). Out: ``Figures`` whose metric is mAP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import ClassChange, MetricChange
from edge_van.errors import DataError
from edge_van.head import Head
from edge_van.statistics import paired_drop_interval
from edge_van.tasks.base import ClassifierTally, Figures, change
from edge_van.tasks.ranking import Metric, macro_f1, mean_average_precision, micro_f1, of_all, paired_bootstrap


class MultiLabelTally(ClassifierTally):
    """Labels that no image has are left out of the means. All logits are kept: a few bytes an image and label."""

    def __init__(self, head: Head, outputs: int) -> None:
        super().__init__(head, outputs)
        self._truth: list[NDArray[np.bool_]] = []
        self._logits: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        self._truth.append(truth.astype(np.bool_))
        for kept, logits in zip(self._logits, (fp32, int8), strict=True):
            kept.append(logits)

    def figures(self, names: tuple[str, ...]) -> Figures:
        truth = np.concatenate(self._truth)
        if not truth.any():
            raise DataError(f"none of the {self.images} images has a label: there is nothing to measure; give others")
        first, second = (np.concatenate(kept).astype(np.float64) for kept in self._logits)
        chosen = [self.head.has_label(logits) for logits in (first, second)]
        exact = [(said == truth).all(1) for said in chosen]
        others = (
            # what a product acts on: a ranking may stay whole while every probability moves over the threshold
            self._change("F1, micro", *(micro_f1(said, truth) for said in chosen), gated=True),
            self._change("F1, macro", *(macro_f1(said, truth) for said in chosen)),
            self._change("label accuracy", *(_label_accuracy(said == truth) for said in chosen)),
            change("exact match", float(exact[0].mean()), float(exact[1].mean()), paired_drop_interval(*exact)),
        )
        metric = self._change("mAP", *(mean_average_precision(logits, truth) for logits in (first, second)))
        there = np.flatnonzero(truth.any(0))
        # a ranking that has nothing to do with the images has the precision that their share of the label gives
        chance = 100.0 * float(truth[:, there].mean())
        return Figures(metric, chance, others, classes=_classes(names, truth, chosen))

    def _change(self, name: str, fp32: Metric, int8: Metric, *, gated: bool = False) -> MetricChange:
        shares = [of_all(metric, self.images) for metric in (fp32, int8)]
        return change(name, shares[0], shares[1], paired_bootstrap(fp32, int8, self.images, self.outputs), gated=gated)


def _label_accuracy(right: NDArray[np.bool_]) -> Metric:
    """The share of right answers over all images and labels: one less the Hamming loss."""
    share = right.mean(1)
    return lambda drawn: (drawn @ share) / drawn.sum(1)


def _classes(
    names: tuple[str, ...], truth: NDArray[np.bool_], chosen: list[NDArray[np.bool_]]
) -> tuple[ClassChange, ...]:
    """Of every label that an image has."""
    counts = truth.sum(0)
    hits = [(said & truth).sum(0) for said in chosen]
    return tuple(
        ClassChange(
            name=names[c],
            images=int(counts[c]),
            recall_fp32_percent=100.0 * float(hits[0][c] / counts[c]),
            recall_int8_percent=100.0 * float(hits[1][c] / counts[c]),
        )
        for c in np.flatnonzero(counts).tolist()
    )
