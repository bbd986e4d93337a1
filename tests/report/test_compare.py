"""``edge_van.report.compare``: paired times in one run; in two runs each side's gain over its own FP32."""

from __future__ import annotations

import numpy as np
import pytest
from samples import accuracy, benchmark, manifest

from edge_van.benchmark import paired_ratio
from edge_van.report.compare import OTHER_RUNS, compare
from edge_van.report.record import Report, Side


def test_one_run_is_compared_by_its_own_rounds(one_run: Report) -> None:
    [found] = one_run.comparisons
    samples = {row.model: np.array(row.samples_ms) for row in one_run.runs[0].single_stream}
    ratio, interval = paired_ratio(samples["first: openvino-int8"], samples["second: openvino-int8"])
    assert found.same_run
    assert found.speed_ratio == ratio
    assert found.speed_interval == interval
    assert ratio < 1
    assert found.sentences[0].startswith("first is faster: its INT8 is 1.2")


def test_two_runs_are_not_compared_by_milliseconds() -> None:
    first, second = manifest(), manifest()
    runs = (benchmark({"a": first}, rounds=40), benchmark({"b": second}, rounds=40, speed=1.5))
    found = compare(Side("a", first, 0, "a"), Side("b", second, 1, "b"), runs)
    assert not found.same_run
    assert found.speed_ratio is None
    assert found.sentences[0].startswith("a gains more over its own FP32")
    assert OTHER_RUNS in found.sentences
    assert not any(" ms" in sentence for sentence in found.sentences)


def test_overlapping_gains_name_no_winner() -> None:
    content = manifest()
    run = benchmark({"a": content}, rounds=40)
    found = compare(Side("a", content, 0, "a"), Side("b", content, 1, "a"), (run, run))
    assert found.sentences[0].startswith("Neither gains more")


def test_what_was_not_measured_is_named() -> None:
    content = manifest(latency=None)
    found = compare(Side("a", content), Side("b", None, 0, "a"), (benchmark({"a": content}, rounds=40),))
    assert "that of a was not measured" in found.sentences[0]
    assert "that of b is not known" in found.sentences[-1]


@pytest.mark.parametrize(
    ("sha256", "images", "same"), [("ef" * 32, 2000, True), ("00" * 32, 2000, False), ("ef" * 32, 500, False)]
)
def test_accuracy_is_compared_on_the_same_images_only(sha256: str, images: int, same: bool) -> None:
    from dataclasses import replace

    first, second = manifest(), manifest(drop=0.5)
    second = replace(
        second,
        calibration=replace(second.calibration, validation_sha256=sha256),
        accuracy=replace(accuracy(0.5), images=images),
    )
    sentence = compare(Side("a", first), Side("b", second), ()).sentences[-1]
    assert ("On the same 2,000 images b has −0.45 points" in sentence) == same
    assert ("is not compared" in sentence) == (not same)
