"""``edge_van.report.verdict``: each rule alone turns a good verdict into the status it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DOUBT, benchmark, latency, manifest

from edge_van.benchmark_record import BenchmarkResult, Doubt
from edge_van.records import Manifest
from edge_van.report.record import Side, Verdict
from edge_van.report.verdict import OPENING, judge

RESULT = benchmark({"demo": manifest()}, rounds=40)


def verdict(content: Manifest | None, result: BenchmarkResult | None = RESULT) -> Verdict:
    runs = () if result is None else (result,)
    return judge(Side("demo", content, None if result is None else 0, "demo"), runs)


def slower(factor: float) -> BenchmarkResult:
    return benchmark({"demo": manifest()}, rounds=40, speed=factor)


def test_all_rules_kept_is_good() -> None:
    found = verdict(manifest())
    assert (found.status, found.against, found.reservations) == ("good", (), ())
    assert found.sentence.startswith(f"{OPENING['good']}: it loses 0.05 points of top-1")
    assert "95 % interval −0.40 to +0.50; up to 1 point is allowed" in found.sentence
    assert "1.7" in found.sentence
    assert found.speed is not None
    assert found.speed.model == "openvino-int8"


@pytest.mark.parametrize(
    ("content", "result", "words"),
    [
        (None, RESULT, "Accuracy is not known"),
        (manifest(accuracy=None, schemes=()), RESULT, "never measured"),
        (manifest(drop=1.2, half=0.1), RESULT, "over the limit of 1 point"),
        (manifest(), slower(2.0), "slower than FP32"),
    ],
    ids=["no-manifest", "no-accuracy", "drop", "slower"],
)
def test_each_of_these_alone_is_a_no(content: Manifest | None, result: BenchmarkResult, words: str) -> None:
    found = verdict(content, result)
    assert found.status == "no"
    assert len(found.against) == 1
    assert words in found.against[0]
    assert found.sentence.startswith(OPENING["no"])


@pytest.mark.parametrize(
    ("content", "result", "words"),
    [
        (manifest(drop=0.8, half=0.4), RESULT, "do not show"),
        (manifest(latency=None), None, "was not measured"),
        (manifest(), slower(1.713), "includes 1"),
        (manifest(), replace(RESULT, doubts=(DOUBT,)), "Other processes took 9 %"),
        (manifest(), replace(RESULT, doubts=(Doubt("drift", "openvino-int8", "it moved"),)), "openvino-int8: drift"),
        (manifest(warnings=("layers in float",)), RESULT, "layers in float"),
        (manifest(latency=latency(notes=("the machine was disturbed",))), None, "was disturbed"),
        (manifest(), replace(RESULT, machine=replace(RESULT.machine, cpu="another")), "on another"),
    ],
    ids=["interval", "no-speed", "no-gain", "run-doubt", "model-doubt", "warning", "note", "other-cpu"],
)
def test_each_of_these_alone_is_a_reservation(content: Manifest, result: BenchmarkResult | None, words: str) -> None:
    found = verdict(content, result)
    assert found.status == "reservations", found
    assert len(found.reservations) == 1
    assert words in found.reservations[0]


def test_a_doubt_about_another_model_is_none_here() -> None:
    assert verdict(manifest(), replace(RESULT, doubts=(Doubt("drift", "torch-fp32", "it moved"),))).status == "good"


def test_speed_comes_from_quantize_without_a_benchmark() -> None:
    found = verdict(manifest(latency=latency(1.5)), None)
    assert found.speed is not None
    assert found.speed.measured_by == "quantize"
    assert found.speed.ratio == pytest.approx(1.5, rel=0.02)
    assert found.status == "good"


def test_a_benchmark_without_the_model_leaves_quantizes_latency() -> None:
    kept = tuple(row for row in RESULT.single_stream if row.model != "openvino-int8")
    found = verdict(manifest(latency=latency(1.5)), replace(RESULT, single_stream=kept))
    assert found.speed is not None
    assert (found.speed.measured_by, found.status) == ("quantize", "good")


def test_a_gain_in_accuracy_is_said_as_one() -> None:
    assert "it gains 0.30 points" in verdict(manifest(drop=-0.3, half=0.2)).sentence


def test_a_bundle_without_openvino_is_judged_by_its_scheme() -> None:
    """``manifest.accuracy`` is OpenVINO's: without it the active engine's scheme counts."""
    found = verdict(manifest(accuracy=None))
    assert "it gains 0.07 points" in found.sentence


@settings(deadline=None, max_examples=60)
@given(drop=st.floats(-3, 3), half=st.floats(0.01, 2))
def test_the_limit_and_the_interval_decide(drop: float, half: float) -> None:
    expected = "no" if drop > 1.0 else "reservations" if drop + half > 1.0 else "good"
    assert verdict(manifest(drop=drop, half=half)).status == expected
