"""The tasks' figures against scikit-learn's of the same logits, batch by batch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, hamming_loss

from edge_van.bundle.records import Accuracy, MetricChange
from edge_van.errors import AccuracyGateError, DataError, UsageError, VerificationError
from edge_van.evaluation.gates import accuracy_gate, doubts, over_limit
from edge_van.head import Head
from edge_van.statistics import paired_drop_interval
from edge_van.tasks import tally_of
from edge_van.tasks.base import Tally

BATCHES = (0, 7, 40, 90)


def filled(head: Head, fp32: np.ndarray, int8: np.ndarray, truth: np.ndarray) -> Tally:
    tally = tally_of(head, fp32.shape[1])
    for start, end in itertools.pairwise(BATCHES):
        tally.add(fp32[start:end], int8[start:end], truth[start:end])
    return tally


def noisy(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    fp32 = (rng.normal(size=truth.shape) + 2.0 * truth - 1.0).astype(np.float32)
    return fp32, (fp32 + 0.5 * rng.normal(size=truth.shape)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9])
def test_binary(threshold: float) -> None:
    truth = (np.arange(90) % 3 == 0).astype(np.int64)
    fp32, int8 = noisy(truth[:, None], 0)
    tally = filled(Head("sigmoid", threshold), fp32, int8, truth)
    said = [1 / (1 + np.exp(-logits[:, 0].astype(np.float64))) >= threshold for logits in (fp32, int8)]
    figures = tally.figures(("ok", "defect"))
    metric = figures.metric
    assert metric.name == "accuracy"
    assert metric.fp32_percent == pytest.approx(100 * accuracy_score(truth, said[0]))
    assert metric.int8_percent == pytest.approx(100 * accuracy_score(truth, said[1]))
    drop, low, high = paired_drop_interval(said[0] == truth, said[1] == truth)
    assert (metric.drop_points, metric.drop_interval.low, metric.drop_interval.high) == (drop, low, high)
    assert tally.agreement_percent == pytest.approx(100 * np.mean(said[0] == said[1]))
    others = {m.name: m for m in figures.others}
    assert others["F1"].int8_percent == pytest.approx(100 * f1_score(truth, said[1]), abs=1e-3)
    expected = [100 * average_precision_score(truth, logits[:, 0]) for logits in (fp32, int8)]
    precision = others["average precision"]
    assert (precision.fp32_percent, precision.int8_percent) == pytest.approx(expected, abs=1e-3)
    assert [c.images for c in figures.classes] == [60, 30]
    assert figures.classes[1].recall_int8_percent == pytest.approx(100 * said[1][truth == 1].mean())
    moved = sum(sum(c.moved_to.values()) for c in figures.classes)
    assert moved == (said[0] != said[1]).sum() > 0


def test_a_binary_network_that_always_says_the_same_is_near_chance() -> None:
    truth = (np.arange(90) % 10 == 0).astype(np.int64)
    never = np.full((90, 1), -3.0, np.float32)
    figures = filled(Head("sigmoid"), never, never, truth).figures(("ok", "defect"))
    assert (figures.metric.fp32_percent, figures.chance_percent) == (90.0, 90.0)
    assert figures.is_near_chance
    assert not filled(Head("sigmoid"), *noisy(5 * truth[:, None], 1), truth).figures(("ok", "defect")).is_near_chance


def test_of_a_class_without_an_image_there_is_no_f1() -> None:
    truth = np.zeros(90, np.int64)
    figures = filled(Head("sigmoid"), *noisy(truth[:, None], 2), truth).figures(("ok", "defect"))
    assert figures.others == ()


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_multi_label(threshold: float) -> None:
    truth = np.random.default_rng(3).random((90, 4)) < [0.5, 0.2, 0.1, 0.0]
    fp32, int8 = noisy(truth, 4)
    tally = filled(Head("sigmoid", threshold), fp32, int8, truth)
    figures = tally.figures(("a", "b", "c", "never"))
    said = [1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold for logits in (fp32, int8)]
    metric = figures.metric
    expected = [100 * average_precision_score(truth[:, :3], logits[:, :3], average="macro") for logits in (fp32, int8)]
    assert metric.name == "mAP"
    assert (metric.fp32_percent, metric.int8_percent) == pytest.approx(expected, abs=1e-3)
    assert metric.drop_points == pytest.approx(expected[0] - expected[1], abs=1e-3)
    assert metric.drop_interval.low < metric.drop_points < metric.drop_interval.high
    assert figures.chance_percent == pytest.approx(100 * truth[:, :3].mean())
    others: dict[str, MetricChange] = {m.name: m for m in figures.others}
    micro = [100 * f1_score(truth, s, average="micro") for s in said]
    assert (others["F1, micro"].fp32_percent, others["F1, micro"].int8_percent) == pytest.approx(micro, abs=1e-3)
    exact = [100 * accuracy_score(truth, s) for s in said]
    assert (others["exact match"].fp32_percent, others["exact match"].int8_percent) == pytest.approx(exact)
    right = [100 * (1 - hamming_loss(truth, s)) for s in said]
    found = others["label accuracy"]
    assert (found.fp32_percent, found.int8_percent) == pytest.approx(right, abs=1e-3)
    assert tally.agreement_percent == pytest.approx(100 * (said[0] == said[1]).all(1).mean())
    assert [c.name for c in figures.classes] == ["a", "b", "c"]
    assert figures.classes[1].recall_int8_percent == pytest.approx(100 * said[1][truth[:, 1], 1].mean())


def test_no_label_at_all_cannot_be_measured() -> None:
    tally = filled(Head("sigmoid"), *noisy(np.zeros((90, 2)), 5), np.zeros((90, 2), np.bool_))
    with pytest.raises(DataError, match="none of the 90 images has a label"):
        tally.figures(("a", "b"))


def test_a_head_without_probabilities_chooses_as_a_softmax() -> None:
    truth = np.arange(90) % 4
    fp32, int8 = noisy(np.eye(4)[truth], 6)
    with_softmax = filled(Head(), fp32, int8, truth).figures(tuple("abcd"))
    assert filled(Head("none"), fp32, int8, truth).figures(tuple("abcd")) == with_softmax
    assert with_softmax.metric.name == "top-1"
    assert with_softmax.metric.int8_percent == pytest.approx(100 * accuracy_score(truth, int8.argmax(1)))


@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_one_output_cannot_be_chosen_from(activation: str) -> None:
    with pytest.raises(UsageError, match="give --head sigmoid"):
        tally_of(Head(activation), 1)


@pytest.mark.parametrize("outputs", [1, 3])
def test_logits_that_are_not_finite_are_no_answer(outputs: int) -> None:
    logits = np.zeros((2, outputs), np.float32)
    bad = logits.copy()
    bad[1, 0] = np.nan
    with pytest.raises(VerificationError, match="the INT8 model returned logits that are not finite"):
        tally_of(Head("sigmoid"), outputs).add(logits, bad, np.zeros((2, outputs), np.bool_))


def test_what_moves_over_the_threshold_is_gated_though_the_ranking_stays() -> None:
    truth = np.random.default_rng(7).random((90, 3)) < 0.4
    fp32 = np.where(truth, 1.0, -1.0).astype(np.float32)
    tally = filled(Head("sigmoid"), fp32, fp32 - 1.5, truth)
    figures = tally.figures(("a", "b", "c"))
    metric = figures.metric
    assert (metric.name, metric.drop_points) == ("mAP", 0.0)
    accuracy = Accuracy(
        "d", 90, 0, metric.fp32_percent, metric.int8_percent, None, None, metric.drop_points, metric.drop_interval,
        tally.agreement_percent, tally.logit_sqnr_db, metric=metric.name, others=figures.others,
    )  # fmt: skip
    assert (accuracy.worst.name, accuracy.worst.drop_points) == ("F1, micro", 100.0)
    with pytest.raises(AccuracyGateError, match=r"loses 100\.00 points of F1, micro"):
        accuracy_gate(accuracy, 1.0)
    assert "F1, micro" in (over_limit(accuracy, 1.0) or "")
    unsure = replace(accuracy, others=())
    assert "90 images do not show that INT8 loses at most 1 point of mAP" in (doubts(unsure, 1.0) or "")


def test_of_one_class_alone_nothing_is_near_chance() -> None:
    truth = np.ones(90, np.int64)
    figures = filled(Head("sigmoid"), *noisy(truth[:, None], 8), truth).figures(("ok", "defect"))
    assert 50 < figures.metric.fp32_percent < 100
    assert not figures.is_near_chance
