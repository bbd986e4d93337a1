"""Logits to probabilities, in numpy alone as on a device.

In: logits as an engine returned them. Out: softmax in float64, or a ``VerificationError``.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import VerificationError


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities along the last axis, (..., classes). ``VerificationError`` for logits that are not finite."""
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        raise VerificationError(
            "the model returned logits that are not finite: run edge-van doctor BUNDLE, and make the bundle again"
        )
    powers = np.exp(values - values.max(-1, keepdims=True))
    return cast(NDArray[np.float64], powers / powers.sum(-1, keepdims=True))
