"""Logits as classes with their probabilities.

In: the logits of one image, the classes' names. Out: ``ClassScore`` records, the highest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.prediction.softmax import softmax


@dataclass(frozen=True)
class ClassScore:
    """One class: its index among the logits, its name, softmax probability and logit."""

    index: int
    name: str
    probability: float
    logit: float


def class_names(bundle: Bundle) -> tuple[str, ...]:
    """Of all logits in their order; numbered where the bundle names none."""
    manifest = bundle.manifest
    return manifest.input_spec.classes or tuple(f"class {i}" for i in range(manifest.num_classes))


def rank(logits: NDArray[Any], names: Sequence[str], top_k: int) -> tuple[ClassScore, ...]:
    """The ``top_k`` highest of the logits (classes,), or all where there are fewer; a tie goes to the lower index.

    ``VerificationError`` for logits that are not finite.
    """
    values, probabilities = logits.astype(np.float64), softmax(logits)
    order = np.argsort(-values, kind="stable")[:top_k]
    return tuple(ClassScore(int(i), names[i], float(probabilities[i]), float(values[i])) for i in order)
