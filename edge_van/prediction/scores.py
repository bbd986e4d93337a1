"""Logits as classes with their probabilities.

In: the logits of one image, what they become, the classes' names. Out: ``ClassScore`` records, the likeliest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.head import Head
from edge_van.tasks.probabilities import check_finite, sigmoid, softmax


@dataclass(frozen=True)
class ClassScore:
    """One class: its number, its name, its probability, its logit.

    The probability is None where the head gives none. Of two classes that a single output tells apart both have a
    score, the other class with the logit's negative.
    """

    index: int
    name: str
    probability: float | None
    logit: float


def class_names(bundle: Bundle) -> tuple[str, ...]:
    """Of all answers in their order, numbered where the bundle names none: one a logit, but two of a single one."""
    manifest = bundle.manifest
    count = 2 if is_binary(bundle) else manifest.num_classes
    names = manifest.input_spec.classes or tuple(f"class {i}" for i in range(count))
    return names if len(names) == count else (f"not {names[0]}", *names)


def is_binary(bundle: Bundle) -> bool:
    """Whether a single output tells two classes apart."""
    manifest = bundle.manifest
    return manifest.head.task(manifest.num_classes) == "binary"


def rank(logits: NDArray[Any], names: Sequence[str], top_k: int, head: Head | None = None) -> tuple[ClassScore, ...]:
    """The ``top_k`` first of the answers to the logits (classes,), or all where there are fewer.

    The highest come first and a tie goes to the lower index; of two classes told apart by a single output the one that
    the threshold gives does. ``head`` None is a softmax. ``VerificationError`` for logits that are not finite.
    """
    head = head or Head()
    values = check_finite(logits)
    if head.activation == "sigmoid" and len(values) == 1:
        return _of_two(float(values[0]), names, head)[:top_k]
    probabilities: NDArray[np.float64] | None = None
    if head.activation != "none":
        probabilities = softmax(values) if head.activation == "softmax" else sigmoid(values)
    order = np.argsort(-values, kind="stable")[:top_k].tolist()
    return tuple(
        ClassScore(i, names[i], None if probabilities is None else float(probabilities[i]), float(values[i]))
        for i in order
    )


def _of_two(logit: float, names: Sequence[str], head: Head) -> tuple[ClassScore, ClassScore]:
    own, other = (float(sigmoid(np.array(value))) for value in (logit, -logit))
    scores = ClassScore(0, names[0], other, -logit), ClassScore(1, names[1], own, logit)
    return scores[::-1] if head.has_label(np.array(logit)) else scores


def labels_of(logits: NDArray[Any], names: Sequence[str], head: Head) -> tuple[str, ...] | None:
    """The labels that reach the threshold, the likeliest first; None for a head that chooses one class."""
    if head.activation != "sigmoid" or len(logits) == 1:
        return None
    there = head.has_label(logits)
    return tuple(names[i] for i in np.argsort(-logits, kind="stable").tolist() if there[i])
