"""How a learning rate goes. Imports no torch.

In: a step and how many there are. Out: the share of the highest rate.
"""

from __future__ import annotations

import math


def warm_up_and_cosine(step: int, steps: int, warm_up: int) -> float:
    """Linear over the first ``warm_up`` steps, at least one, then a cosine to 0."""
    warm_up = max(warm_up, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))
