"""Two classes told apart by a single output: accuracy and F1 at the threshold, average precision.

In: logits (N, 1), class numbers (N,), 1 that of the output's own class. Out: ``Figures`` whose metric is accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.head import Head
from edge_van.statistics import paired_drop_interval
from edge_van.tasks.base import ClassifierTally, Figures, change
from edge_van.tasks.ranking import average_precision, micro_f1, of_all, paired_bootstrap
from edge_van.tasks.single_label import ClassCounts


class BinaryTally(ClassifierTally):
    """Accuracy with Newcombe's paired interval; F1 and average precision of the output's own class, bootstrapped."""

    def __init__(self, head: Head, outputs: int) -> None:
        super().__init__(head, outputs)
        self._counts = ClassCounts(2)
        self._truth: list[NDArray[np.bool_]] = []
        self._logits: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        first, second = (self.head.choices(logits)[:, 0] for logits in (fp32, int8))
        self._counts.add(first, second, truth)
        self._truth.append(truth == 1)
        for kept, logits in zip(self._logits, (fp32, int8), strict=True):
            kept.append(logits[:, 0])

    def figures(self, names: tuple[str, ...]) -> Figures:
        fp32, int8 = self._counts.all_right()
        metric = change("accuracy", float(fp32.mean()), float(int8.mean()), paired_drop_interval(fp32, int8))
        truth = np.concatenate(self._truth)
        logits = [np.concatenate(kept).astype(np.float64) for kept in self._logits]
        chosen = [self.head.has_label(values) for values in logits]
        others = []
        if truth.any():  # without an image of the class there is neither
            kinds = {
                "F1": [micro_f1(said[:, None], truth[:, None]) for said in chosen],
                "average precision": [average_precision(values, truth) for values in logits],
            }
            for name, (first, second) in kinds.items():
                shares = [of_all(of, self.images) for of in (first, second)]
                others.append(change(name, shares[0], shares[1], paired_bootstrap(first, second, self.images)))
        share = float(truth.mean())
        always = max(share, 1.0 - share) if 0.0 < share < 1.0 else 0.0  # of one class alone chance says nothing
        return Figures(metric, 100.0 * always, tuple(others), classes=self._counts.changes(names))
