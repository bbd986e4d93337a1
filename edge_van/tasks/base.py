"""The base of the tasks' tallies: what is counted of every network, whatever its outputs mean.

In: batches of FP32 and INT8 logits (N, outputs) with the truth. Out: ``Figures``, agreement and SQNR.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import ClassChange, Interval, MetricChange
from edge_van.errors import VerificationError
from edge_van.head import Head
from edge_van.statistics import to_db

NEAR_CHANCE = 0.05
"""A metric that is not this share of the way from chance to perfect points to a wrong class order or input."""


@dataclass(frozen=True)
class Figures:
    """A task's metric of both models, and what else is known of it; percentages."""

    metric: MetricChange
    chance_percent: float
    """What the metric is where the answers have nothing to do with the images."""
    others: tuple[MetricChange, ...] = ()
    top5: tuple[float, float] | None = None
    classes: tuple[ClassChange, ...] = ()

    @property
    def is_near_chance(self) -> bool:
        chance = self.chance_percent
        return self.metric.fp32_percent < chance + NEAR_CHANCE * (100.0 - chance)


class Tally(ABC):
    """Sums over batches of a task's logits (N, outputs, ...) and its truth (N, ...)."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.images = 0
        self._agree = 0.0
        self._signal = self._noise = 0.0

    def add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        """One batch; ``VerificationError`` for logits that are not finite."""
        for name, logits in (("fp32", fp32), ("int8", int8)):
            if not np.isfinite(logits).all():
                raise VerificationError(
                    f"the {name.upper()} model returned logits that are not finite: run edge-van doctor BUNDLE, and "
                    f"make the bundle again"
                )
        self.images += len(truth)
        self._agree += self._agreeing(fp32, int8)
        self._signal += float((fp32.astype(np.float64) ** 2).sum())
        self._noise += float(((fp32.astype(np.float64) - int8) ** 2).sum())
        self._add(fp32, int8, truth)

    @abstractmethod
    def _agreeing(self, fp32: NDArray[Any], int8: NDArray[Any]) -> float:
        """Of how many images of the batch both say the same; shares of images count."""

    @abstractmethod
    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None: ...

    @abstractmethod
    def figures(self, names: tuple[str, ...]) -> Figures:
        """Of all that was added; ``names`` are those of the classes."""

    @property
    def agreement_percent(self) -> float:
        return 100.0 * self._agree / self.images

    @property
    def logit_sqnr_db(self) -> float:
        return to_db(self._signal, self._noise)


class ClassifierTally(Tally):
    """Of whole images. The truth is (N,) class numbers, or (N, outputs) of a multi-label network."""

    def __init__(self, head: Head, outputs: int) -> None:
        super().__init__(outputs)
        self.head = head

    def _agreeing(self, fp32: NDArray[Any], int8: NDArray[Any]) -> float:
        return float((self.head.choices(fp32) == self.head.choices(int8)).all(1).sum())


def change(
    name: str, fp32: float, int8: float, drop: tuple[float, float, float], *, gated: bool = False
) -> MetricChange:
    """Of shares, 0 to 1, and a drop with its interval in points; ``gated`` where a gate asks for it."""
    points, low, high = drop
    return MetricChange(name, 100.0 * fp32, 100.0 * int8, points, Interval(low, high), gated)
