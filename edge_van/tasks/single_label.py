"""One class an image, the one with the highest output: top-1 and top-5.

In: logits (N, classes), class numbers (N,). Out: ``Figures`` whose metric is top-1.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import ClassChange
from edge_van.head import Head
from edge_van.statistics import in_top_k, paired_drop_interval
from edge_van.tasks.base import ClassifierTally, Figures, change

TOP_K = 5


class ClassCounts:
    """How often each class was right, and where INT8's answers moved."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.right: dict[str, list[NDArray[np.bool_]]] = {"fp32": [], "int8": []}
        self.images = np.zeros(classes, np.int64)
        self.hits = {"fp32": np.zeros(classes, np.int64), "int8": np.zeros(classes, np.int64)}
        self.moved: Counter[tuple[int, int]] = Counter()  # (true class, INT8's class) where INT8 differs from FP32

    def add(self, fp32: NDArray[np.int64], int8: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """The classes (N,) that both models chose."""
        for name, chosen in (("fp32", fp32), ("int8", int8)):
            right = chosen == labels
            self.right[name].append(right)
            self.hits[name] += np.bincount(labels[right], minlength=self.classes)
        self.images += np.bincount(labels, minlength=self.classes)
        differs = fp32 != int8
        self.moved.update(zip(labels[differs].tolist(), int8[differs].tolist(), strict=True))

    def all_right(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(images,) of FP32 and of INT8."""
        return np.concatenate(self.right["fp32"]), np.concatenate(self.right["int8"])

    def changes(self, names: tuple[str, ...]) -> tuple[ClassChange, ...]:
        """Of every class that an image was of."""
        return tuple(
            ClassChange(
                name=names[c],
                images=int(self.images[c]),
                recall_fp32_percent=100.0 * float(self.hits["fp32"][c] / self.images[c]),
                recall_int8_percent=100.0 * float(self.hits["int8"][c] / self.images[c]),
                moved_to={names[to]: k for (true, to), k in sorted(self.moved.items()) if true == c},
            )
            for c in range(self.classes)
            if self.images[c]
        )


class SingleLabelTally(ClassifierTally):
    """Top-1, with Newcombe's paired interval, and top-5 where there are more classes than that."""

    def __init__(self, head: Head, outputs: int) -> None:
        super().__init__(head, outputs)
        self._counts = ClassCounts(outputs)
        self._top5 = [0, 0]

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        self._counts.add(fp32.argmax(1), int8.argmax(1), truth)
        for i, logits in enumerate((fp32, int8)):
            self._top5[i] += int(in_top_k(logits, truth, TOP_K).sum())

    def figures(self, names: tuple[str, ...]) -> Figures:
        fp32, int8 = self._counts.all_right()
        top5 = (100.0 * self._top5[0] / self.images, 100.0 * self._top5[1] / self.images)
        return Figures(
            change("top-1", float(fp32.mean()), float(int8.mean()), paired_drop_interval(fp32, int8)),
            100.0 / self.outputs,
            top5=top5 if self.outputs > TOP_K else None,
            classes=self._counts.changes(names),
        )
