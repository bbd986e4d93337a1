"""Which images a step of a training takes: every one as often as every other, in a new order each time round.

In: how many images there are, a batch size, a step, a seed. Out: indices, of these alone: a training that goes on after
an interrupt draws what it would have drawn.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray


def batch_indices(images: int, batch: int, step: int, seed: int) -> NDArray[np.int64]:
    """(batch,) int64."""
    places = np.arange(step * batch, (step + 1) * batch)
    rounds, within = places // images, places % images
    return np.array([_order(images, seed, int(r))[place] for r, place in zip(rounds, within, strict=True)], np.int64)


@functools.lru_cache(maxsize=4)
def _order(images: int, seed: int, round_: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, round_)).permutation(images)
