"""``edge_van.report.compare``: paired times in one run; in two runs each side's gain over its own FP32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import ASYMMETRIC, SYMMETRIC, accuracy, benchmark, latency, manifest

from edge_van.benchmark import paired_ratio
from edge_van.records import Interval, Manifest
from edge_van.report.compare import OTHER_RUNS, compare
from edge_van.report.record import Report, Side


def test_one_run_is_compared_by_its_own_rounds(one_run: Report) -> None:
    [found] = one_run.comparisons
    samples = {row.model: np.array(row.samples_ms) for row in one_run.runs[0].single_stream}
    ratio, interval = paired_ratio(*(samples[f"{name}: openvino-int8"] for name in (SYMMETRIC, ASYMMETRIC)))
    assert found.same_run
    assert found.speed_ratio == ratio
    assert found.speed_interval == interval
    assert ratio < 1
    assert found.sentences[0].startswith(f"{SYMMETRIC} is faster: its INT8 is 1.2")


def test_two_runs_are_not_compared_by_milliseconds() -> None:
    first, second = manifest(), manifest()
    runs = (benchmark({"a": first}, rounds=40), benchmark({"b": second}, rounds=40, speed=1.5))
    found = compare(Side("a", first, 0, "a"), Side("b", second, 1, "b"), runs)
    assert not found.same_run
    assert found.speed_ratio is None
    assert found.sentences[0].startswith("a gains more over its own FP32: 1.5")
    assert "timed on two machines" not in found.sentences[0]
    assert OTHER_RUNS in found.sentences
    assert not any(" ms" in sentence for sentence in found.sentences)


def test_gains_that_are_alike_name_no_winner() -> None:
    content = manifest()
    run = benchmark({"a": content}, rounds=40)
    elsewhere = replace(run, machine=replace(run.machine, cpu="another"))
    found = compare(Side("a", content, 0, "a"), Side("b", content, 1, "a"), (run, elsewhere))
    assert found.sentences[0].startswith("Neither is shown to gain more")
    assert "the gain of b is 1.00 times that of a (95 % interval 0.9" in found.sentences[0]
    assert "timed on two machines, a cpu and another" in found.sentences[0]
    assert found.sentences[-1] == "a and b are of one bundle, which has one accuracy."


def test_gains_of_two_commands_name_both() -> None:
    content = manifest()
    found = compare(Side("a", content, 0, "a"), Side("b", content), (benchmark({"a": content}, rounds=40),))
    assert ", by edge-van benchmark), b 1.6" in found.sentences[0]
    assert ", by edge-van quantize)." in found.sentences[0]


def gaining(ratio: float, low: float, high: float) -> Manifest:
    """A bundle of a run's own, whose INT8 is ``ratio`` times as fast as its FP32."""
    found = latency()
    rows = tuple(
        replace(row, ratio=ratio, ratio_interval=Interval(low, high)) if row.name == "int8" else row
        for row in found.rows
    )
    return manifest(latency=replace(found, rows=rows))


def test_intervals_that_overlap_are_no_proof_of_equal_gains() -> None:
    """Two intervals of 2 % each way overlap, and their centres lie further apart than sampling explains."""
    first, second = gaining(1.50, 1.47, 1.53), gaining(1.55, 1.52, 1.58)
    sentence = compare(Side("a", first), Side("b", second), ()).sentences[0]
    assert sentence.startswith("b gains more over its own FP32: 1.03 times the gain of a (95 % interval 1.00 to 1.06)")
    back = compare(Side("b", second), Side("a", first), ()).sentences[0]
    assert back.startswith("b gains more over its own FP32: 1.03 times the gain of a (95 % interval 1.00 to 1.06)")
    wide = gaining(1.55, 1.40, 1.70)
    assert compare(Side("a", first), Side("b", wide), ()).sentences[0].startswith("Neither is shown")


def test_what_was_not_measured_is_named() -> None:
    content = manifest(latency=None)
    found = compare(Side("a", content), Side("b", None, 0, "a"), (benchmark({"a": content}, rounds=40),))
    assert "that of a was not measured" in found.sentences[0]
    assert "that of b is not known" in found.sentences[-1]


@pytest.mark.parametrize(
    ("sha256", "images", "same"), [("ef" * 32, 2000, True), ("00" * 32, 2000, False), ("ef" * 32, 500, False)]
)
def test_accuracy_is_compared_on_the_same_images_only(sha256: str, images: int, same: bool) -> None:
    first, second = manifest(), manifest(drop=0.5)
    second = replace(
        second,
        calibration=replace(second.calibration, validation_sha256=sha256),
        accuracy=replace(accuracy(0.5), images=images),
    )
    sentence = compare(Side("a", first), Side("b", second), ()).sentences[-1]
    assert ("On the same 2,000 images the top-1 of b in INT8 is not shown to differ" in sentence) == same
    assert ("is not compared" in sentence) == (not same)


def test_a_difference_in_accuracy_has_an_interval() -> None:
    """0.45 points of 2,000 images are 9 images: too few to tell two networks apart. 8 points are not."""
    first = manifest()
    alike = compare(Side("a", first), Side("b", manifest(drop=0.5)), ()).sentences[-1]
    assert "−0.45 points (95 % interval −2.65 to +1.75" in alike
    worse = compare(Side("a", first), Side("b", manifest(drop=8.05)), ()).sentences[-1]
    assert worse.startswith("On the same 2,000 images b has a lower top-1 in INT8 than a: −8.00 points")
    better = compare(Side("b", manifest(drop=8.05)), Side("a", first), ()).sentences[-1]
    assert better.startswith("On the same 2,000 images a has a higher top-1 in INT8 than b: +8.00 points")
