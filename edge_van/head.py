"""``Head``: what a network's outputs are, which says how they are shown and measured.

In: an activation, a threshold. Out: a frozen record that checks itself, the task and the answers that follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from edge_van.errors import UsageError

if TYPE_CHECKING:  # the command line's --help must not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

ACTIVATIONS = ("softmax", "sigmoid", "none")
Task = Literal["single_label", "binary", "multi_label"]
HALF = 0.5


@dataclass(frozen=True)
class Head:
    """What stands behind a network's outputs (classes,), outside of the exported graphs, which end in logits.

    activation  "softmax": one class an image. "sigmoid": each output by itself, one label an image may have or not;
                a single output tells two classes apart, its own and the other. "none": one class an image, whose
                scores are no probabilities (a hinge loss, a distance)
    threshold   of the sigmoid: from this probability on an image has the label. In (0, 1)
    """

    activation: str = "softmax"
    threshold: float = HALF

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UsageError(f"a head is one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        number = isinstance(self.threshold, float | int) and not isinstance(self.threshold, bool)
        if not number or not 0.0 < self.threshold < 1.0:
            raise UsageError(f"a threshold is a probability over 0 and under 1; got {self.threshold!r}")
        if self.activation != "sigmoid" and self.threshold != HALF:
            raise UsageError(self._without_threshold)

    @property
    def _without_threshold(self) -> str:
        return f"a threshold is that of --head sigmoid, a head of {self.activation} has none: leave it out"

    def with_threshold(self, threshold: float | None) -> Head:
        """A copy with another threshold; itself for None. ``UsageError`` for a head that has none."""
        if threshold is None:
            return self
        if self.activation != "sigmoid":
            raise UsageError(self._without_threshold)
        return replace(self, threshold=threshold)

    def task(self, outputs: int) -> Task:
        """Of a network with so many outputs; a ``UsageError`` where this head cannot stand behind them."""
        if self.activation == "sigmoid":
            return "binary" if outputs == 1 else "multi_label"
        if outputs < 2:
            raise UsageError(
                f"a head of {outputs} output has nothing that {self.activation} could choose from: give --head sigmoid "
                f"if it tells two classes apart; regression is not supported"
            )
        return "single_label"

    def names_fit(self, names: int, outputs: int) -> bool:
        """Whether so many class names do: one an output, or of one output those of both classes, its own last, or its
        own alone."""
        return names == outputs or (names == 2 and outputs == 1)

    @property
    def logit_threshold(self) -> float:
        """The logit whose sigmoid is ``threshold``."""
        return math.log(self.threshold) - math.log1p(-self.threshold)

    def has_label(self, logits: NDArray[Any]) -> NDArray[np.bool_]:
        """Of a sigmoid head: which outputs are at or over the threshold, of the shape of ``logits``."""
        return logits.astype("float64") >= self.logit_threshold

    def choices(self, logits: NDArray[Any]) -> NDArray[np.int64]:
        """What the network says of each image, (N, columns) of logits (N, outputs): two rows are equal where the
        answers are. The highest output's number, or 1 for each label that is over the threshold."""
        if self.activation == "sigmoid":
            return self.has_label(logits).astype("int64")
        highest: NDArray[np.int64] = logits.argmax(1)[:, None].astype("int64")
        return highest

    def agreement_percent(self, reference: NDArray[Any], other: NDArray[Any]) -> float:
        """Share of images (N, outputs) of which both logits say the same, in percent."""
        return 100.0 * float((self.choices(reference) == self.choices(other)).all(1).mean())
