"""``edge_van.head``: what a head is for, and what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit

from edge_van.errors import UsageError
from edge_van.head import Head


@given(st.floats(0.001, 0.999), st.floats(-20, 20))
def test_the_threshold_is_of_the_probability(threshold: float, logit: float) -> None:
    probability = float(expit(logit))
    assume(abs(probability - threshold) > 1e-9)
    assert bool(Head("sigmoid", threshold).has_label(np.array(logit))) == (probability > threshold)


def test_half_is_a_logit_of_nothing() -> None:
    assert Head("sigmoid").logit_threshold == 0.0
    assert Head("sigmoid").has_label(np.array([0.0, -0.0, -1e-9])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("head", "outputs", "task"),
    [
        (Head(), 2, "single_label"),
        (Head("none"), 2, "single_label"),
        (Head("sigmoid"), 1, "binary"),
        (Head("sigmoid"), 2, "multi_label"),
    ],
)
def test_the_task_follows(head: Head, outputs: int, task: str) -> None:
    assert head.task(outputs) == task


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (("relu", 0.5), "one of softmax, sigmoid, none"),
        (("sigmoid", 0.0), "over 0 and under 1"),
        (("sigmoid", 1), "over 0 and under 1"),
        (("sigmoid", True), "over 0 and under 1"),
        (("sigmoid", float("nan")), "over 0 and under 1"),
        (("softmax", 0.4), "leave it out"),
    ],
)
def test_what_no_head_is(fields: tuple[Any, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Head(*fields)


def test_agreement_counts_rows() -> None:
    reference = np.array([[1, 0], [0, 1], [1, 0], [0, 1.0]])
    other = np.array([[9, 0], [0, 9], [0, 9], [0, 9.0]])
    assert Head().agreement_percent(reference, other) == 75.0
    assert Head().agreement_percent(reference, reference) == 100.0
    assert Head().agreement_percent(reference, -reference) == 0.0
    labels = Head("sigmoid")  # a row agrees where every label does
    assert labels.agreement_percent(reference - 0.5, np.abs(reference) - 0.5) == 100.0
    assert labels.agreement_percent(np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [2.0, 0.5]])) == 50.0
