"""Softmax and sigmoid against scipy's, and what is no probability."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import softmax as reference

from edge_van.errors import VerificationError
from edge_van.tasks.probabilities import sigmoid, softmax


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_softmax_is_scipys(scale: float) -> None:
    logits = (np.random.default_rng(0).normal(size=(3, 5)) * scale).astype(np.float32)
    found = softmax(logits)
    assert found.dtype == np.float64
    assert np.allclose(found, reference(logits.astype(np.float64), axis=-1), rtol=1e-12, atol=0)
    assert np.array_equal(found[1], softmax(logits[1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_no_probabilities(bad: float) -> None:
    with pytest.raises(VerificationError, match="not finite: run edge-van doctor"):
        softmax(np.array([[0.0, 1.0], [bad, 1.0]]))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_sigmoid_is_scipys(scale: float) -> None:
    logits = (np.random.default_rng(0).normal(size=(3, 5)) * scale).astype(np.float32)
    assert np.allclose(sigmoid(logits), expit(logits.astype(np.float64)), rtol=1e-12, atol=0)
