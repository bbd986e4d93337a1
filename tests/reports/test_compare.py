"""``edge_van.reports.compare``: paired times in one run; in two runs each side's gain over its own FP32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import ASYMMETRIC, SYMMETRIC, accuracy, benchmark, latency, manifest

from edge_van.bundle.records import Interval, Manifest
from edge_van.reports.compare import OTHER_RUNS, compare
from edge_van.reports.record import Comparison, Report, Side
from edge_van.statistics import paired_ratio
from edge_van.timing.record import BenchmarkResult


def test_one_run_is_compared_by_its_own_rounds(one_run: Report) -> None:
    [found] = one_run.comparisons
    samples = {row.model: np.array(row.samples_ms) for row in one_run.runs[0].single_stream}
    ratio, *ends = paired_ratio(*(samples[f"{name}: openvino-int8"] for name in (SYMMETRIC, ASYMMETRIC)))
    interval = Interval(*ends)
    assert found.same_run
    assert found.speed_ratio == ratio
    assert found.speed_interval == interval
    assert ratio < 1
    assert found.sentences[0].startswith(f"{SYMMETRIC} is faster: its INT8 is 1.2")


def test_two_runs_are_not_compared_by_milliseconds() -> None:
    first, second = manifest(), manifest(created="2026-05-05T00:00:00Z")
    runs = (benchmark({"a": first}, rounds=40), benchmark({"b": second}, rounds=40, speed=1.5))
    found = compare(Side("a", first, 0, "a"), Side("b", second, 1, "b"), runs)
    assert not found.same_run
    assert found.speed_ratio is None
    assert found.sentences[0].startswith("In these two runs the gains over each one's own FP32 were a 1.7")
    assert "that of b is 0.6" in found.sentences[0]
    assert found.sentences[0].endswith(", within the runs).")  # nothing else than the bundles differs
    assert OTHER_RUNS in found.sentences
    names_no_winner(found)
    assert not any(" ms" in sentence for sentence in found.sentences)


def names_no_winner(found: Comparison) -> None:
    assert not any(words in s for s in found.sentences for words in ("gains more", "gain more", "faster"))


@pytest.mark.parametrize("speed", [1.0, 1.5])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_one_bundle_in_two_runs_has_no_winner(speed: float, with_manifest: bool) -> None:
    """Also where one side is a result alone, which names its bundle."""
    content = manifest()
    runs = (benchmark({"a": content}, rounds=40), benchmark({"a": content}, rounds=40, speed=speed))
    found = compare(Side("a", content, 0, "a"), Side("b", content if with_manifest else None, 1, "a"), runs)
    words = "a and b are of one bundle: from the one run to the other the ratio moved by a factor "
    assert found.sentences[0].startswith(words + ("1.00" if speed == 1.0 else "0.6"))
    assert found.sentences[1] == OTHER_RUNS
    names_no_winner(found)
    if with_manifest:
        assert found.sentences[-1] == "a and b are of one bundle, which has one accuracy."


def test_what_else_differs_between_two_runs_is_named() -> None:
    content = manifest()
    run = benchmark({"a": content}, rounds=40)

    def said(other: BenchmarkResult) -> str:
        return compare(Side("a", content, 0, "a"), Side("b", content, 1, "a"), (run, other)).sentences[0]

    assert said(replace(run, created="later")).endswith("b 1.72 (1.70 to 1.74).")
    cpu = said(replace(run, machine=replace(run.machine, cpu="another")))
    assert cpu.endswith("They were timed on two machines, a cpu and another.")
    versions = {**run.machine.versions, "openvino": "2025.4"}
    later = said(replace(run, machine=replace(run.machine, versions=versions)))
    assert later.endswith("The engines' versions differ: openvino (unknown) and 2025.4.")
    models = tuple(replace(m, threads=4) for m in run.models)
    assert said(replace(run, models=models)).endswith("They ran on other numbers of threads: 2 and 4.")
    silent = tuple(replace(m, threads=None) for m in run.models)
    free = replace(run, models=silent, settings=replace(run.settings, threads=None))
    assert said(free).endswith("They ran on other numbers of threads: 2 and the engine's choice.")


def test_one_measurement_is_not_compared_with_itself() -> None:
    content = manifest()
    found = compare(Side("a", content), Side("b", content), ())
    assert found.sentences[0].startswith(
        "a and b are of one bundle, whose speed edge-van quantize measured once: a 1.6"
    )
    assert OTHER_RUNS not in found.sentences


def test_gains_of_two_commands_name_both() -> None:
    content = manifest()
    found = compare(Side("a", content, 0, "a"), Side("b", content), (benchmark({"a": content}, rounds=40),))
    assert ", by edge-van benchmark), b 1.6" in found.sentences[0]
    assert ", by edge-van quantize)." in found.sentences[0]
    names_no_winner(found)


def gaining(ratio: float, low: float, high: float, created: str) -> Manifest:
    """A bundle of a run's own, whose INT8 is ``ratio`` times as fast as its FP32."""
    found = latency()
    rows = tuple(
        replace(row, ratio=ratio, ratio_interval=Interval(low, high)) if row.name == "int8" else row
        for row in found.rows
    )
    return manifest(latency=replace(found, rows=rows), created=created)


def test_the_factor_between_two_gains_has_an_interval() -> None:
    """That of a ratio of independent samples; a winner is named neither where it includes 1 nor where it does not."""
    first, second = gaining(1.50, 1.47, 1.53, "2026-01-01"), gaining(1.55, 1.52, 1.58, "2026-01-02")
    found = compare(Side("a", first), Side("b", second), ())
    assert "that of b is 1.03 times that of a (95 % interval 1.00 to 1.06, within the runs)." in found.sentences[0]
    back = compare(Side("b", second), Side("a", first), ())
    assert "that of a is 0.97 times that of b (95 % interval 0.94 to 1.00, within the runs)." in back.sentences[0]
    for comparison in (found, back):
        names_no_winner(comparison)
        assert OTHER_RUNS in comparison.sentences


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
    advice = "is not compared. Compare by hand what edge-van validate prints for both with one --data."
    assert sentence.endswith(advice) == (not same)


def test_a_difference_in_accuracy_has_an_interval() -> None:
    """0.45 points of 2,000 images are 9 images: too few to tell two networks apart. 8 points are not."""
    first = manifest()
    alike = compare(Side("a", first), Side("b", manifest(drop=0.5)), ()).sentences[-1]
    assert "−0.45 points (95 % interval −2.65 to +1.75" in alike
    worse = compare(Side("a", first), Side("b", manifest(drop=8.05)), ()).sentences[-1]
    assert worse.startswith("On the same 2,000 images b has a lower top-1 in INT8 than a: −8.00 points")
    better = compare(Side("b", manifest(drop=8.05)), Side("a", first), ()).sentences[-1]
    assert better.startswith("On the same 2,000 images a has a higher top-1 in INT8 than b: +8.00 points")
