"""Distances between two models' logits, and paired statistics of their accuracy and of their times.

In: logits (N, classes), labels (N,), times (rounds,) of both. Out: plain floats.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LARGEST_DB = 200.0
QUIET_DB = 120.0
"""No noise that matters: above it float32's own rounding begins."""
STRETCHES = 10
NORMAL = 1.959963984540054
T_OF_STRETCHES = 2.2621571627409915
"""The 97.5th percentile of the normal distribution, and of Student's t with ``STRETCHES`` - 1 degrees of freedom."""


def evenly_spread(total: int, limit: int) -> list[int]:
    """``limit`` of ``total`` indices, or all, evenly over them: images sorted by class give every class its share."""
    return sorted(set(np.linspace(0, total - 1, min(limit, total)).round().astype(int).tolist()))


def relative_error(actual: Array, expected: Array) -> float:
    """max |actual - expected| / max |expected|; NaN if either holds one."""
    return float(np.abs(actual - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def sqnr_db(reference: Array, other: Array) -> float:
    """Signal to quantisation noise: 10 log10(sum ref^2 / sum (ref - other)^2), in dB over all values; see ``to_db``."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    return to_db(float((reference**2).sum()), float(((reference - other) ** 2).sum()))


def sqnr_db_per_image(reference: Array, other: Array) -> NDArray[np.float64]:
    """(N,) ``sqnr_db`` of every row of (N, classes), at most ``QUIET_DB``. Its mean is not of the few images whose
    noise is largest, nor of those on which nothing changes."""
    reference, other = reference.astype(np.float64), other.astype(np.float64)
    signal, noise = (reference**2).sum(1), ((reference - other) ** 2).sum(1)
    return np.array([min(to_db(float(s), float(n)), QUIET_DB) for s, n in zip(signal, noise, strict=True)])


def to_db(signal: float, noise: float) -> float:
    """10 log10(signal / noise), held within -200..200 dB: float32 ends near 150, and JSON has no infinity."""
    if math.isnan(noise) or math.isnan(signal):
        return math.nan
    if noise <= 0.0:
        return LARGEST_DB
    # a difference of logarithms: the quotient itself may underflow to 0, which has none
    decibels = 10.0 * (math.log10(max(signal, 1e-300)) - math.log10(noise))
    return min(max(decibels, -LARGEST_DB), LARGEST_DB)


def in_top_k(logits: Array, labels: Array, k: int) -> NDArray[np.bool_]:
    """(N,) whether the label is among the k highest logits. A tie counts for the lower index, as argmax does."""
    own = np.take_along_axis(logits, labels[:, None], 1)
    index = np.arange(logits.shape[1])
    ahead = (logits > own) | ((logits == own) & (index < labels[:, None]))
    result: NDArray[np.bool_] = ahead.sum(1) < k
    return result


def paired_drop_interval(reference_right: Array, other_right: Array) -> tuple[float, float, float]:
    """(drop, low, high) in percentage points: share right in the reference minus share right in the other.

    The 95 % interval is Newcombe's for the difference of paired proportions (Newcombe, "Improved confidence intervals
    for the difference between binomial proportions based on paired data", Statistics in Medicine 17, 1998, method 10).
    """
    n = len(reference_right)
    both = int((reference_right & other_right).sum())
    first_only = int((reference_right & ~other_right).sum())
    second_only = int((~reference_right & other_right).sum())
    neither = n - both - first_only - second_only
    p1, p2 = (both + first_only) / n, (both + second_only) / n
    low1, high1 = wilson_interval(p1, n)
    low2, high2 = wilson_interval(p2, n)
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    phi = 0.0
    if product:
        cross = float(both * neither - first_only * second_only)
        # Newcombe's continuity correction, for positive association alone
        cross = max(cross - n / 2, 0.0) if cross > 0 else cross
        phi = cross / math.sqrt(product)
    drop = (first_only - second_only) / n  # not p1 - p2: a drop that equals a limit must not round above it

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    low = drop - reach(p1 - low1, high2 - p2)
    high = drop + reach(high1 - p1, p2 - low2)
    return 100 * (first_only - second_only) / n, 100 * low, 100 * high


def wilson_interval(p: float, n: int) -> tuple[float, float]:
    """(low, high), the 95 % interval of a share ``p`` (0..1) seen in ``n`` cases (Wilson, "Probable inference, the law
    of succession, and statistical inference", Journal of the American Statistical Association 22, 1927)."""
    z = NORMAL
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def difference_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """(difference, low, high) of second minus first, each (estimate, low, high) of samples independent of the other's.

    The distances to the ends are squared and added (Zou and Donner, "Construction of confidence limits about effect
    measures: a general approach", Statistics in Medicine 27, 2008). With ``wilson_interval`` of two shares this is
    Newcombe's interval for unpaired proportions ("Interval estimation for the difference between independent
    proportions: comparison of eleven methods", Statistics in Medicine 17, 1998, method 10).
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    return b - a, b - a - math.hypot(b - b_low, a_high - a), b - a + math.hypot(b_high - b, a - a_low)


def quotient_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """(quotient, low, high) of second over first, each (estimate, low, high) over 0 of samples independent of the
    other's: ``difference_interval`` of their logarithms."""
    (a, a_low, a_high), (b, b_low, b_high) = (map(math.log, values) for values in (first, second))
    quotient, low, high = map(math.exp, difference_interval((a, a_low, a_high), (b, b_low, b_high)))
    return quotient, low, high


def paired_ratio(base: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, float, float]:
    """(median, low, high) of base / times over the rounds, (rounds,) each, in their order; with its 95 % interval.

    The interval ends at two order statistics, the k-th smallest and the k-th largest ratio, for the largest k with
    P(Binomial(rounds, 1/2) < k) <= 0.025; it needs no distribution (Conover, "Practical Nonparametric Statistics",
    section 3.2). Fewer than six rounds have none of 95 %: it is then from the lowest to the highest. From
    ``STRETCHES`` squared rounds on it is wider by ``dependence``: rounds near one another are alike.
    """
    ratios = base / times
    median, n = float(np.median(ratios)), len(ratios)
    half = (n / 2 - _order_statistic(n)) * dependence(ratios > median)
    k = max(int(n / 2 - half), 1)
    ordered = np.sort(ratios)
    return median, float(ordered[k - 1]), float(ordered[n - k])


def at_confidence(
    ratio: tuple[float, float, float], rounds: int, confidence: float
) -> tuple[float, float, float] | None:
    """What ``paired_ratio`` gave over ``rounds``, with its interval at another confidence than 95 %.

    In logarithms the distances to the ends grow as a normal estimate's would, from what the interval holds to what it
    is to hold: that of ten rounds holds 97.9 %, order statistics have nothing nearer to 95 %. An approximation: of ten
    rounds with normal noise, ends for 99.5 % leave out 0.7 % on either side. None for so few rounds that they have no
    interval of 95 %.
    """
    outside = 0.05
    if rounds <= 1000:
        outside = 2 * sum(math.comb(rounds, i) for i in range(_order_statistic(rounds))) / 2**rounds
    if outside > 0.05:
        return None
    scale = NormalDist().inv_cdf((1 + confidence) / 2) / NormalDist().inv_cdf(1 - outside / 2)
    middle, low, high = ratio
    return middle, middle * (low / middle) ** scale, middle * (high / middle) ** scale


def dependence(over: NDArray[np.bool_]) -> float:
    """By what factor the interval of a median grows because a machine has faster and slower times; at least 1.

    ``over``: (rounds,), which ratios are over the median. The run is cut into ``STRETCHES`` of the same length; were
    its rounds independent, the shares of ``over`` in them would have the variance 1 / (4 x rounds of a stretch). The
    factor is the square root of what they have over that, with Student's t for so few (batch means: Law, "Simulation
    Modeling and Analysis", section 9.5.3). What changes more slowly than a stretch lasts it counts in part, and
    nothing of what changes from one run to the next.
    """
    length = len(over) // STRETCHES
    if length < STRETCHES:
        return 1.0
    shares = over[len(over) - length * STRETCHES :].reshape(STRETCHES, length).mean(axis=1)
    return max(math.sqrt(4.0 * length * float(shares.var(ddof=1))) * T_OF_STRETCHES / NORMAL, 1.0)


@functools.cache
def _order_statistic(n: int) -> int:
    """The k of ``paired_ratio``, at least 1. Over 1,000 the binomial is normal to a thousandth of its width."""
    if n > 1000:
        return max(int(n / 2 - NORMAL * math.sqrt(n) / 2), 1)
    below, k = 0, 0
    while 40 * (below + math.comb(n, k)) <= 2**n:  # P(< k + 1) <= 1 / 40
        below += math.comb(n, k)
        k += 1
    return max(k, 1)
