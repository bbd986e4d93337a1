"""Logits to probabilities, in numpy alone as on a device.

In: logits as an engine returned them. Out: probabilities in float64, or a ``VerificationError``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import VerificationError


def check_finite(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The logits in float64; ``VerificationError`` where one is not finite."""
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        raise VerificationError(
            "the model returned logits that are not finite: run edge-van doctor BUNDLE, and make the bundle again"
        )
    return values


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, (..., classes). ``VerificationError`` for logits that are not finite."""
    values = check_finite(logits)
    powers = np.exp(values - values.max(-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities, each output by itself. ``VerificationError`` for logits that are not finite."""
    values = check_finite(logits)
    # exp of what is not over 0 alone, which cannot overflow
    small = np.exp(-np.abs(values))
    shares: NDArray[np.float64] = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return shares
