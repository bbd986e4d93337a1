"""By which factor one set of samples is larger than another that was not taken beside it.

In: samples of two runs, or of two models at different times. Out: the interval of the factor.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Interval

EXACT_UP_TO = 400
"""Pairs of samples up to which the test's distribution is counted out; over it the normal one is near enough."""
HALVINGS = 40
"""Of the bracket in which a quotient is looked for: a hundred thousand samples each have too many pairs to sort."""


def factor_interval(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    confidence: float = 0.95,
    dependence: tuple[float, float] = (1.0, 1.0),
) -> Interval | None:
    """The factors f that leave ``above / f`` and ``below``, (n,) and (m,), all over 0, as if of one distribution.

    It ends at the k-th smallest and the k-th largest of the n m quotients, for the largest k with P(U < k) at most
    (1 - ``confidence``) / 2, U being the statistic of Mann and Whitney's test: what lies outside, the test rejects
    (Hodges and Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34, 1963). No
    distribution is assumed, only the same spread of both. None where the samples are so few that nothing is rejected.

    ``dependence``: of each, by how much more the mean of its ranks varies than that of independent samples would (a
    factor of the standard deviation). Of U's variance n m (n + m) / 12 the first sample brings m's share of n + m and
    the second n's.
    """
    n, m = len(above), len(below)
    factor = math.sqrt((m * dependence[0] ** 2 + n * dependence[1] ** 2) / (n + m))
    k = _rank(n, m, (1.0 - confidence) / 2)
    if k and factor > 1.0:
        k = max(int(n * m / 2 - factor * (n * m / 2 - k)), 1)
    return Interval(_quotient(above, below, k), 1.0 / _quotient(below, above, k)) if k else None


@lru_cache
def _rank(n: int, m: int, tail: float) -> int:
    """The k of ``factor_interval``; 0 where there is none."""
    pairs = n * m
    if pairs > EXACT_UP_TO:
        return max(int(pairs / 2 + NormalDist().inv_cdf(tail) * math.sqrt(pairs * (n + m + 1) / 12)), 0)
    # Of the orders of n + m values, how many have U = u: the coefficient of q^u in the product over i from 1 to n of
    # (1 - q^(m + i)) / (1 - q^i).
    orders = [1] + [0] * pairs
    for i in range(1, n + 1):
        for u in range(pairs, m + i - 1, -1):
            orders[u] -= orders[u - m - i]
        for u in range(i, pairs + 1):
            orders[u] += orders[u - i]
    k, fewer = 0, 0
    while fewer + orders[k] <= tail * math.comb(n + m, n):
        fewer, k = fewer + orders[k], k + 1
    return k


def _quotient(above: NDArray[np.float64], below: NDArray[np.float64], k: int) -> float:
    """The k-th smallest of all ``above / below``, from beneath."""
    ordered = np.sort(above)
    low, high = math.log(above.min() / below.max()) - 1e-9, math.log(above.max() / below.min()) + 1e-9
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at_most = np.searchsorted(ordered, below * math.exp(middle), side="right").sum()
        low, high = (low, middle) if at_most >= k else (middle, high)
    return math.exp(low)
