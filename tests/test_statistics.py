"""``edge_van.statistics``: distances that stay finite, ties as argmax breaks them, and Newcombe's paired interval."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_van.statistics import (
    LARGEST_DB,
    QUIET_DB,
    at_confidence,
    difference_interval,
    in_top_k,
    paired_drop_interval,
    paired_ratio,
    quotient_interval,
    relative_error,
    sqnr_db,
    sqnr_db_per_image,
    to_db,
    wilson_interval,
)

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The two models' right answers, from the four cells of the paired table."""
    reference = np.repeat([True, True, False, False], [both, first, second, neither])
    other = np.repeat([True, False, True, False], [both, first, second, neither])
    return reference, other


def wilson_roots(r: int, n: int) -> tuple[float, float]:
    """Newcombe's (2.3): the roots t of |r/n - t| = z sqrt(t (1 - t) / n), here as a quadratic in t."""
    p = r / n
    low, high = sorted(np.roots([1 + Z * Z / n, -(2 * p + Z * Z / n), p * p]).real)
    return float(low), float(high)


def newcombe_method_10(e: int, f: int, g: int, h: int) -> tuple[float, float, float]:
    """From the paper's text: cells e f g h, delta and epsilon by hand, in percentage points."""
    n = e + f + g + h
    theta = (f - g) / n
    l2, u2 = wilson_roots(e + f, n)
    l3, u3 = wilson_roots(e + g, n)
    dl2, du2 = (e + f) / n - l2, u2 - (e + f) / n
    dl3, du3 = (e + g) / n - l3, u3 - (e + g) / n
    marginals = (e + f) * (g + h) * (e + g) * (f + h)
    if marginals == 0:
        phi = 0.0
    elif e * h > f * g:
        phi = max(e * h - f * g - n / 2, 0) / math.sqrt(marginals)
    else:
        phi = (e * h - f * g) / math.sqrt(marginals)
    delta = math.sqrt(max(dl2**2 - 2 * phi * dl2 * du3 + du3**2, 0))
    epsilon = math.sqrt(max(du2**2 - 2 * phi * du2 * dl3 + dl3**2, 0))
    return 100 * theta, 100 * (theta - delta), 100 * (theta + epsilon)


cells = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda c: sum(c) > 0)


# ── distances ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sqnr_of_a_known_error() -> None:
    reference = np.array([[3.0, 4.0]], np.float32)
    assert sqnr_db(reference, reference + np.array([0.3, 0.4], np.float32)) == pytest.approx(20.0, abs=1e-4)
    assert sqnr_db(reference, 2 * reference) == pytest.approx(0.0)
    assert sqnr_db(reference, 11 * reference) == pytest.approx(-20.0)
    assert sqnr_db(reference, reference) == LARGEST_DB


def test_sqnr_sums_in_float64() -> None:
    # in float32 the squares overflow, and 1e8 + 1 is 1e8
    assert sqnr_db(np.float32([1e30, 1e30]), np.float32([1e30, 9e29])) == pytest.approx(23.0103, abs=1e-3)
    reference = np.full(1_000_000, 1.0, np.float32)
    assert sqnr_db(reference, reference * np.float32(1.001)) == pytest.approx(60.0, abs=0.01)


def test_sqnr_takes_integers() -> None:
    assert sqnr_db(np.uint8([0, 10]), np.uint8([1, 10])) == pytest.approx(20.0)  # 0 - 1 would wrap to 255


@given(signal=st.floats(0, allow_infinity=True), noise=st.floats(0, allow_infinity=True))
def test_decibels_are_always_json(signal: float, noise: float) -> None:
    value = to_db(signal, noise)
    if not math.isnan(value):
        assert -LARGEST_DB <= value <= LARGEST_DB
        assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(0.0, 1.0, -LARGEST_DB), (1.0, 0.0, LARGEST_DB), (0.0, 0.0, LARGEST_DB), (100.0, 1.0, 20.0), (1.0, 1e4, -40.0)],
)
def test_decibels_at_the_ends(signal: float, noise: float, expected: float) -> None:
    assert to_db(signal, noise) == pytest.approx(expected)


def test_no_decibels_of_what_is_not_a_number() -> None:
    assert math.isnan(to_db(1.0, math.nan))
    assert math.isnan(to_db(math.nan, 1.0))
    assert math.isnan(to_db(math.nan, 0.0))


def test_relative_error_is_of_the_largest_value() -> None:
    expected = np.array([1.0, -4.0])
    assert relative_error(np.array([1.0, -3.0]), expected) == pytest.approx(0.25)
    assert relative_error(expected, expected) == 0.0
    assert relative_error(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_error(np.array([0.0, 1e-6]), np.zeros(2)) > 1e20
    assert math.isnan(relative_error(np.array([math.nan, 0.0]), expected))
    assert math.isnan(relative_error(expected, np.array([math.nan, 0.0])))


@settings(max_examples=200)
@given(data=st.data(), classes=st.integers(1, 8), rows=st.integers(1, 6), k=st.integers(1, 9))
def test_top_k_breaks_ties_as_a_stable_sort(data: st.DataObject, classes: int, rows: int, k: int) -> None:
    # few different values, so that most rows have ties
    values = data.draw(st.lists(st.integers(-1, 1), min_size=rows * classes, max_size=rows * classes))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    logits = np.array(values, np.float32).reshape(rows, classes)
    naive = [
        label in sorted(range(classes), key=lambda c, row=row: (-row[c], c))[:k]
        for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    assert in_top_k(logits, np.array(labels), k).tolist() == naive


def test_top_1_is_argmax() -> None:
    logits = np.random.default_rng(0).integers(0, 3, (50, 4)).astype(np.float32)
    labels = np.arange(50) % 4
    assert (in_top_k(logits, labels, 1) == (logits.argmax(1) == labels)).all()


# ── the paired interval ──────────────────────────────────────────────────────────────────────────────────────────────


@given(table=cells)
@settings(max_examples=300)
def test_interval_is_newcombes_method_10(table: tuple[int, int, int, int]) -> None:
    assert paired_drop_interval(*outcomes(*table)) == pytest.approx(newcombe_method_10(*table), abs=1e-6)


def test_interval_of_a_table_worked_by_hand() -> None:
    # 20 both, 12 the reference alone, 2 the other alone, 16 neither: n 50, shares 0.64 and 0.44.
    # Wilson: 0.64 -> (0.5014, 0.7586), 0.44 -> (0.3116, 0.5769). phi = (320 - 24 - 25) / sqrt(32 18 22 28) = 0.45496.
    # low = 0.2 - sqrt(0.1386^2 - 2 phi 0.1386 0.1369 + 0.1369^2) = 0.2 - 0.1438
    # high = 0.2 + sqrt(0.1186^2 - 2 phi 0.1186 0.1284 + 0.1284^2) = 0.2 + 0.1292
    drop, low, high = paired_drop_interval(*outcomes(20, 12, 2, 16))
    assert drop == pytest.approx(20.0)
    assert (low, high) == pytest.approx((5.62, 32.92), abs=0.02)


def test_interval_of_the_papers_example() -> None:
    # Newcombe 1998, table II, column (a): 36, 12, 2, 0 with the published limits of method 10
    _, low, high = paired_drop_interval(*outcomes(36, 12, 2, 0))
    assert (low / 100, high / 100) == pytest.approx((0.0569, 0.3404), abs=5e-4)


@given(table=cells)
def test_interval_holds_the_drop_and_stays_in_range(table: tuple[int, int, int, int]) -> None:
    drop, low, high = paired_drop_interval(*outcomes(*table))
    assert low - 1e-9 <= drop <= high + 1e-9
    assert -100 - 1e-9 <= low <= high <= 100 + 1e-9


@given(table=cells)
def test_interval_turns_around_when_the_models_are_swapped(table: tuple[int, int, int, int]) -> None:
    reference, other = outcomes(*table)
    drop, low, high = paired_drop_interval(reference, other)
    assert paired_drop_interval(other, reference) == pytest.approx((-drop, -high, -low), abs=1e-9)


@given(table=cells, seed=st.integers(0, 99))
def test_interval_does_not_depend_on_the_order(table: tuple[int, int, int, int], seed: int) -> None:
    reference, other = outcomes(*table)
    order = np.random.default_rng(seed).permutation(len(reference))
    assert paired_drop_interval(reference[order], other[order]) == paired_drop_interval(reference, other)


@given(table=cells, times=st.integers(2, 20))
def test_interval_gets_narrower_with_more_images(table: tuple[int, int, int, int], times: int) -> None:
    def width(*table: int) -> float:
        _, low, high = paired_drop_interval(*outcomes(*table))
        return high - low

    assert width(*(times * c for c in table)) < width(*table)


@pytest.mark.parametrize("table", [(40, 0, 0, 0), (0, 0, 0, 40)], ids=["all-right", "none-right"])
def test_interval_where_the_models_never_differ(table: tuple[int, int, int, int]) -> None:
    drop, low, high = paired_drop_interval(*outcomes(*table))
    assert drop == 0.0
    assert low == pytest.approx(-high)
    # one share's distance to its Wilson limit is 0, so the interval is the other's: z^2 / (n + z^2)
    assert high == pytest.approx(100 * Z * Z / (40 + Z * Z))


@pytest.mark.parametrize("table", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_interval_of_one_image(table: tuple[int, int, int, int]) -> None:
    drop, low, high = paired_drop_interval(*outcomes(*table))
    assert drop == 100.0 * (table[1] - table[2])
    assert all(map(math.isfinite, (low, high)))
    assert high - low > 75  # one image says next to nothing


def test_interval_of_a_total_loss() -> None:
    drop, low, high = paired_drop_interval(*outcomes(0, 30, 0, 0))
    assert drop == 100.0
    assert high == pytest.approx(100.0)
    assert 75 < low < 90


def test_interval_of_imagenet_size_is_tight() -> None:
    drop, low, high = paired_drop_interval(*outcomes(36_000, 900, 800, 12_300))
    assert drop == pytest.approx(0.2)
    assert low < 0.2 < high
    assert high - low < 0.4  # unpaired it would be 1.1


def test_a_drop_of_whole_points_is_whole() -> None:
    """1601 against 1581 right of 2000: the difference of the two shares would be 1.0000000000000009 points."""
    for n in (100, 300, 700, 2000, 10_000):
        for k in range(n // 100, n, n // 50):
            assert paired_drop_interval(*outcomes(k - n // 100, n // 100, 0, n - k))[0] == 1.0


def share(right: int, of: int) -> tuple[float, float, float]:
    return right / of, *wilson_interval(right / of, of)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((48, 80), (56, 70), (0.2, 0.0524, 0.3339)), ((3, 10), (9, 10), (0.6, 0.1705, 0.8090))],
)
def test_a_difference_of_shares_is_newcombes_unpaired_interval(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float, float]
) -> None:
    """Two rows of the paper's table of examples, method 10."""
    assert difference_interval(share(*first), share(*second)) == pytest.approx(expected, abs=5e-5)


def test_a_difference_turns_around_with_its_samples() -> None:
    there, back = difference_interval((1, 0.5, 2), (3, 2.5, 3.1)), difference_interval((3, 2.5, 3.1), (1, 0.5, 2))
    assert there == pytest.approx((-back[0], -back[2], -back[1]))
    assert there[0] == 2


@pytest.mark.parametrize("counts", [(100, 100), (100, 700)])
def test_the_interval_of_two_gains_holds_their_quotient_as_often_as_it_says(counts: tuple[int, int]) -> None:
    """As two reports are compared: medians of skewed ratios of two runs, on a logarithmic scale."""
    generator, held, tries = np.random.default_rng(0), 0, 600
    for _ in range(tries):
        gains = []
        for true, count in zip((1.5, 1.8), counts, strict=True):
            gains.append(paired_ratio(true * np.exp(generator.gamma(2.0, 0.05, count) - 0.08392), np.ones(count)))
        _, low, high = quotient_interval(*gains)
        held += low <= 1.8 / 1.5 <= high
    assert held / tries >= 0.935


def test_a_quotient_turns_around_with_its_samples() -> None:
    there, back = quotient_interval((1, 0.5, 2), (3, 2.5, 3.1)), quotient_interval((3, 2.5, 3.1), (1, 0.5, 2))
    assert there == pytest.approx((1 / back[0], 1 / back[2], 1 / back[1]))
    assert there[0] == pytest.approx(3)


@pytest.mark.parametrize(("rounds", "confidence"), [(6, 0.99), (10, 0.95), (10, 0.995), (100, 0.9), (2000, 0.99)])
def test_an_interval_at_another_confidence_leaves_out_as_often_as_it_says(rounds: int, confidence: float) -> None:
    """On either side; of few rounds, whose width itself varies, up to three times as often."""
    generator, tries = np.random.default_rng(0), 2000
    low_of, high_of = 0, 0
    for _ in range(tries):
        found = at_confidence(paired_ratio(generator.lognormal(0.0, 0.1, rounds), np.ones(rounds)), rounds, confidence)
        assert found is not None
        low_of, high_of = low_of + (found[1] > 1.0), high_of + (found[2] < 1.0)
    assert 0 < max(low_of, high_of) / tries <= (3.5 if rounds < 100 else 1.1) * (1 - confidence) / 2


def test_too_few_rounds_have_an_interval_at_no_confidence() -> None:
    few = [at_confidence(paired_ratio(np.arange(1.0, n + 1), np.ones(n)), n, 0.5) for n in range(1, 7)]
    assert [found is None for found in few] == [True, True, True, True, True, False]


def test_the_noise_of_one_image_is_not_that_of_the_others() -> None:
    reference = np.ones((4, 3), np.float32)
    other = reference + np.array([[0.0], [0.1], [0.01], [10.0]], np.float32)
    assert sqnr_db_per_image(reference, other) == pytest.approx([QUIET_DB, 20.0, 40.0, -20.0], abs=1e-3)
    assert sqnr_db(reference, other) == pytest.approx(-10.0 * math.log10(100.0101 / 4.0), abs=1e-3)
