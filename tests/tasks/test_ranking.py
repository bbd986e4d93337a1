"""F1 and average precision against scikit-learn's, and what their paired intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from edge_van.tasks.ranking import (
    average_precision,
    macro_f1,
    mean_average_precision,
    micro_f1,
    of_all,
    paired_bootstrap,
)

sizes = st.tuples(st.integers(2, 60), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([3, 50, 10**6]))


def drawn(n: int, labels: int, seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with so many levels, of which few make ties, and a truth that each label is part of."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, labels)) < 0.3
    truth[rng.integers(0, n, labels), np.arange(labels)] = True
    return np.round(rng.normal(size=(n, labels)) + truth, 3) // (1.0 / levels) / levels, truth


@settings(max_examples=200)
@given(sizes)
def test_average_precision_is_scikit_learns(size: tuple[int, int, int, int]) -> None:
    scores, truth = drawn(*size)
    for c in range(truth.shape[1]):
        expected = average_precision_score(truth[:, c], scores[:, c])
        assert of_all(average_precision(scores[:, c], truth[:, c]), len(truth)) == pytest.approx(expected, abs=1e-5)
    expected = average_precision_score(truth, scores, average="macro")
    assert of_all(mean_average_precision(scores, truth), len(truth)) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100)
@given(sizes)
def test_a_resample_is_the_images_that_often(size: tuple[int, int, int, int]) -> None:
    scores, truth = drawn(*size)
    chosen = scores > 0.5
    rng = np.random.default_rng(size[2])
    positions = rng.integers(0, len(truth), len(truth))
    counts = np.bincount(positions, minlength=len(truth)).astype(np.float32)[None]
    there = truth[positions].any(0)
    if there.any():
        expected = average_precision_score(truth[positions][:, there], scores[positions][:, there], average="macro")
        assert mean_average_precision(scores, truth)(counts)[0] == pytest.approx(expected, abs=1e-5)
    said = chosen[positions]
    if (said | truth[positions]).any():
        micro = f1_score(truth[positions].ravel(), said.ravel(), zero_division=0)
        assert micro_f1(chosen, truth)(counts)[0] == pytest.approx(micro, abs=1e-5)
        ruled = (said | truth[positions]).any(0)
        columns = [f1_score(truth[positions][:, c], said[:, c], zero_division=0) for c in np.flatnonzero(ruled)]
        macro = np.mean(columns)
        assert macro_f1(chosen, truth)(counts)[0] == pytest.approx(macro, abs=1e-5)


def test_two_models_that_say_the_same_differ_by_nothing() -> None:
    scores, truth = drawn(200, 4, 0, 10**6)
    metric = mean_average_precision(scores, truth)
    assert paired_bootstrap(metric, metric, 200) == (0.0, -1.5, 1.5)  # what three in 200 images leave open


def test_a_few_perfect_images_prove_little() -> None:
    truth = np.array([True, False, True, False])
    metric = average_precision(truth.astype(np.float64), truth)
    drop, low, high = paired_bootstrap(metric, metric, 4)
    assert (drop, low, high) == (0.0, -75.0, 75.0)


def test_the_interval_holds_the_drop_of_all_images_as_often_as_it_says() -> None:
    """Of samples out of many images, whose own drop is known."""
    rng = np.random.default_rng(1)
    truth = rng.random(20_000) < 0.3
    first = rng.normal(size=20_000) + 1.2 * truth
    second = first + 0.6 * rng.normal(size=20_000)
    whole = 100 * (average_precision_score(truth, first) - average_precision_score(truth, second))
    held = 0
    for _ in range(60):
        part = rng.choice(20_000, 300, replace=False)
        metrics = [average_precision(scores[part], truth[part]) for scores in (first, second)]
        drop, low, high = paired_bootstrap(*metrics, 300)
        assert low <= drop <= high
        held += low <= whole <= high
    assert 52 <= held <= 60  # 57 are expected; fewer than 52 of 60 once in a hundred times


def test_a_single_image_says_nothing_of_others() -> None:
    metric = average_precision(np.array([0.3]), np.array([True]))
    assert paired_bootstrap(metric, metric, 1) == (0.0, -100.0, 100.0)
