"""``edge_van.timing.unpaired``: the interval of a factor between two sets of samples that share no rounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from edge_van.timing.unpaired import factor_interval


def test_the_ends_are_the_quotients_that_the_tables_of_the_test_name() -> None:
    """At 95 % Mann and Whitney's U for ten and ten may be 24 at least (Conover, table A7), so 23 of 100 lie outside."""
    generator = np.random.default_rng(0)
    above, below = generator.lognormal(0.3, 0.1, 10), generator.lognormal(0.0, 0.1, 10)
    quotients = np.sort((above[:, None] / below).ravel())
    interval = factor_interval(above, below)
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(quotients[23]), pytest.approx(quotients[-24]))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (10, 10), (6, 30), (25, 20), (300, 40)])
@pytest.mark.parametrize("confidence", [0.95, 0.998])
def test_the_test_rejects_what_lies_outside_and_nothing_inside(n: int, m: int, confidence: float) -> None:
    generator = np.random.default_rng(n)
    above, below = generator.lognormal(0.3, 0.2, n), generator.lognormal(0.0, 0.2, m)
    interval = factor_interval(above, below, confidence)

    def rejected(factor: float, side: str) -> bool:
        method = "exact" if n * m <= 400 else "asymptotic"
        return bool(mannwhitneyu(above / factor, below, alternative=side, method=method).pvalue <= (1 - confidence) / 2)

    if interval is None:
        assert not rejected(1e-3, "greater")
        return
    assert rejected(0.999 * interval.low, "greater")
    assert not rejected(1.02 * interval.low, "greater")
    assert not rejected(0.98 * interval.high, "less")
    assert rejected(1.001 * interval.high, "less")


def test_it_holds_the_factor_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    for n, m in ((10, 10), (8, 60), (5, 5)):
        inside = 0
        for _ in range(400):
            interval = factor_interval(generator.lognormal(0.3, 0.2, n), generator.lognormal(0.0, 0.2, m))
            assert interval is not None
            inside += interval.low <= np.exp(0.3) <= interval.high
        assert 0.93 < inside / 400 <= 1.0


def test_a_higher_confidence_is_wider_and_another_unit_changes_nothing() -> None:
    generator = np.random.default_rng(2)
    above, below = generator.lognormal(0.0, 0.1, 200), generator.lognormal(0.0, 0.1, 100)
    narrow, wide = factor_interval(above, below), factor_interval(above, below, 0.999)
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < 1.0 < narrow.high < wide.high
    scaled = factor_interval(1000.0 * above, below)
    assert scaled is not None
    assert (scaled.low, scaled.high) == (pytest.approx(1000.0 * narrow.low), pytest.approx(1000.0 * narrow.high))


def test_samples_without_a_spread_leave_one_factor() -> None:
    interval = factor_interval(np.full(10, 2.0), np.full(12, 1.6))
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(1.25), pytest.approx(1.25))


def test_too_few_samples_have_no_interval() -> None:
    """Three and three lie wholly apart by chance in one of ten cases, five and five in one of 126."""
    assert factor_interval(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0])) is None
    five = np.arange(1.0, 6.0)
    assert factor_interval(10 * five, five) is not None
    assert factor_interval(10 * five, five, 0.995) is None
