"""``edge_van.reports.verdict``: each rule alone turns a good verdict into the status it says."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DOUBT, accuracy, benchmark, engines, latency, manifest, scheme

from edge_van.bundle.engine_record import EngineChoice
from edge_van.bundle.records import Manifest
from edge_van.evaluation import evidence
from edge_van.evaluation.gates import NO_VNNI, over_limit
from edge_van.machine import Machine
from edge_van.reports.record import Side, Verdict
from edge_van.reports.verdict import NO_BUNDLE, NOT_TIMED_THERE, OPENING, judge
from edge_van.timing.record import BenchmarkResult, Doubt

RESULT = benchmark({"demo": manifest()}, rounds=40)


def verdict(content: Manifest | None, result: BenchmarkResult | None = RESULT) -> Verdict:
    runs = () if result is None else (result,)
    return judge(Side("demo", content, None if result is None else 0, "demo"), runs)


def moved(*models: str, scenario: str = "single_stream") -> Doubt:
    return Doubt("drift", scenario, models, "it moved")


def openvino(version: str) -> Machine:
    return replace(RESULT.machine, versions={**RESULT.machine.versions, "openvino": version})


def slower(factor: float) -> BenchmarkResult:
    return benchmark({"demo": manifest()}, rounds=40, speed=factor)


def without_bf16(result: BenchmarkResult) -> BenchmarkResult:
    """As of a CPU that has no such units."""
    names = {model.name for model in result.models if "bf16" in model.precision}
    return replace(
        result,
        models=tuple(model for model in result.models if model.name not in names),
        single_stream=tuple(row for row in result.single_stream if row.model not in names),
    )


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
        (manifest(accuracy=None, schemes=()), RESULT, "never measured"),
        (manifest(drop=1.2, half=0.1), RESULT, "over the limit of 1 point"),
        (manifest(), without_bf16(slower(2.0)), "slower than FP32"),
        (manifest(), slower(1.4), "slower than BF16"),
    ],
    ids=["no-accuracy", "drop", "slower", "slower-than-bf16"],
)
def test_each_of_these_alone_is_a_no(content: Manifest, result: BenchmarkResult, words: str) -> None:
    found = verdict(content, result)
    assert found.status == "no"
    assert len(found.against) == 1
    assert words in found.against[0]
    assert found.sentence.startswith(OPENING["no"])


def test_a_result_alone_is_not_judged() -> None:
    """Nobody knows of an accuracy here: that is no evidence against INT8."""
    found = verdict(None)
    assert (found.status, found.against, found.reservations) == ("not_judged", (), (NO_BUNDLE,))
    assert found.sentence.startswith("Whether INT8 can be shipped is not judged: its accuracy is not known")
    assert "1.7" in found.sentence


def test_a_result_alone_that_is_slower_is_a_no() -> None:
    found = verdict(None, without_bf16(slower(2.0)))
    assert found.status == "no"
    assert len(found.against) == 1
    assert "slower than FP32" in found.against[0]


@pytest.mark.parametrize(
    ("content", "result", "words"),
    [
        (manifest(drop=0.8, half=0.4), RESULT, "do not show"),
        (manifest(latency=None), None, "was not measured"),
        (manifest(), without_bf16(slower(1.713)), "over FP32 is shown"),
        (manifest(), slower(1.229), "over BF16 is shown"),
        (manifest(), replace(RESULT, doubts=(DOUBT,)), "Other processes took 9 %"),
        (manifest(), replace(RESULT, doubts=(moved("openvino-int8", "torch-fp32"),)), "It moved."),
        (manifest(warnings=("layers in float",)), RESULT, "layers in float"),
        (manifest(latency=latency(notes=("the machine was disturbed",))), None, "was disturbed"),
        (
            manifest(),
            replace(RESULT, machine=replace(RESULT.machine, cpu="another")),
            "compare the accuracy that edge-van validate prints there by hand, or make the bundle there with",
        ),
        (manifest(), replace(RESULT, machine=openvino("2025.4")), "with OpenVINO 2025.4, accuracy with one of unknown"),
        (manifest(machine=openvino("2025.1")), replace(RESULT, machine=openvino("2025.4")), "accuracy with 2025.1"),
        (manifest(schemes=(scheme("int8", 20.0, 1.5), scheme("fp16", 60.0, 0.0, 0))), RESULT, "OpenVINO alone"),
    ],
    ids=[
        "interval",
        "no-speed",
        "no-gain",
        "no-gain-over-bf16",
        "run-doubt",
        "model-doubt",
        "warning",
        "note",
        "other-cpu",
        "unknown-version",
        "other-version",
        "tensorrt",
    ],
)
def test_each_of_these_alone_is_a_reservation(content: Manifest, result: BenchmarkResult | None, words: str) -> None:
    found = verdict(content, result)
    assert found.status == "reservations", found
    assert len(found.reservations) == 1
    assert words in found.reservations[0]


def test_int8_is_compared_with_what_is_had_for_nothing() -> None:
    found = verdict(manifest())
    assert found.speed_over_float is not None
    assert found.speed_over_float.baseline == "openvino-bf16"
    assert "times as fast as BF16 (" in found.sentence
    lossy = manifest(precisions={"bf16": accuracy(2.0)})
    assert (verdict(lossy).speed_over_float, verdict(lossy, slower(1.4)).status) == (None, "good")


def test_quantizes_latency_compares_with_bf16_too() -> None:
    usual = latency(1.5)
    base = next(row for row in usual.rows if row.name == "int8")
    as_fast = replace(base, name="bf16", samples_ms=tuple(0.9 * ms for ms in base.samples_ms))
    found = verdict(manifest(latency=replace(usual, rows=(*usual.rows, as_fast))), None)
    assert (found.status, found.speed_over_float and found.speed_over_float.over) == ("no", "BF16")
    assert "slower than BF16: 0.90 times as fast" in found.against[0]
    fewer = replace(as_fast, samples_ms=as_fast.samples_ms[1:])
    assert verdict(manifest(latency=replace(usual, rows=(*usual.rows, fewer))), None).speed_over_float is None


def test_int8_with_the_rest_in_bf16_is_judged_where_that_is_active() -> None:
    usual = latency(1.5)
    mixed = replace(next(row for row in usual.rows if row.name == "int8"), name="int8_bf16")
    content = manifest(
        latency=replace(usual, rows=(*usual.rows, mixed)),
        precisions={"int8_bf16": accuracy(0.4, 0.1, model="INT8, rest BF16")},
        cpu=EngineChoice("int8_bf16", 1.0, "it is faster", ()),
    )
    found = verdict(content, None)
    assert found.speed is not None
    assert found.speed.model == "int8_bf16"
    assert "it loses 0.40 points" in found.sentence
    assert verdict(content).speed.model == "openvino-int8_bf16"  # type: ignore[union-attr]


def test_a_doubt_about_another_model_is_none_here() -> None:
    others = moved("torch-fp32", "torch_compile-fp32"), moved("openvino-int8", scenario="multi_stream")
    assert verdict(manifest(), replace(RESULT, doubts=others)).status == "good"


def test_few_queries_for_a_percentile_say_nothing_against_a_median_ratio() -> None:
    few = Doubt("too_few_samples", "single_stream", (), "SingleStream: 300 queries are few for a p99")
    assert verdict(manifest(), replace(RESULT, doubts=(few,))).status == "good"


def test_speed_comes_from_quantize_without_a_benchmark() -> None:
    found = verdict(manifest(latency=latency(1.5)), None)
    assert found.speed is not None
    assert found.speed.measured_by == "quantize"
    assert found.speed.ratio == pytest.approx(1.5, rel=0.02)
    assert "timed by edge-van quantize" in found.sentence
    assert found.status == "good"


def test_quantizes_latency_does_not_stand_in_for_what_the_benchmark_left_out() -> None:
    """The benchmark may be of another machine, and of another version of the engine."""
    elsewhere = replace(RESULT, machine=replace(RESULT.machine, cpu="another"))
    for left_out in ("openvino-int8", "openvino-fp32"):
        kept = tuple(row for row in RESULT.single_stream if row.model != left_out)
        for result in (RESULT, elsewhere):
            found = verdict(manifest(latency=latency(1.5)), replace(result, single_stream=kept))
            assert found.speed is None
            assert (found.status, found.reservations) == ("reservations", (NOT_TIMED_THERE,))
            assert "its speed against FP32 is not known" in found.sentence


def with_engines(*precisions: str) -> BenchmarkResult:
    """The run of a machine with a GPU and no OpenVINO: engines, and ONNX Runtime's FP32 as the baseline."""
    kept = [m for m in RESULT.models if m.runtime == "onnxruntime"]
    rows = [row for row in RESULT.single_stream if row.model in {m.name for m in kept}]
    for i, precision in enumerate(precisions):
        name, file = f"tensorrt_rtx-{precision}", f"tensorrt/sm86-rtx1.7/{precision}/model.engine"
        kept.append(replace(kept[0], name=name, runtime="tensorrt_rtx", precision=precision, file=file))
        rows.append(replace(rows[0], model=name, samples_ms=tuple(t / (2 + i) for t in rows[0].samples_ms)))
    base = next(m.name for m in kept if m.precision == "fp32")
    return replace(RESULT, models=tuple(kept), single_stream=tuple(rows), baseline=base, layers=(), offline=())


def test_an_engine_is_not_compared_with_another_engines_fp32() -> None:
    """30 times as fast as ONNX Runtime on the CPU would say nothing of INT8."""
    content = manifest(accuracy=None, engines=engines(), latency=None)
    found = verdict(content, with_engines("int8"))
    assert found.speed is None
    assert found.reservations == (NOT_TIMED_THERE,)
    own = verdict(content, with_engines("int8", "fp32")).speed
    assert own is not None
    assert (own.model, own.baseline, own.ratio) == ("tensorrt_rtx-int8", "tensorrt_rtx-fp32", pytest.approx(2 / 3))


def test_openvinos_accuracy_does_not_stand_beside_an_engines_speed() -> None:
    found = verdict(manifest(engines=engines(), latency=None), with_engines("int8", "fp32"))
    assert "it loses 0.05 points" in found.sentence
    assert found.speed is None


def test_a_gain_in_accuracy_is_said_as_one() -> None:
    assert "it gains 0.30 points" in verdict(manifest(drop=-0.3, half=0.2)).sentence


def test_a_bundle_without_openvino_is_judged_by_its_scheme() -> None:
    """``manifest.accuracy`` is OpenVINO's: without it the active engine's scheme counts."""
    found = verdict(manifest(accuracy=None))
    assert "it gains 0.07 points" in found.sentence


def test_an_active_engine_that_is_not_int8_is_named() -> None:
    """The verdict is about the INT8 graph with the smallest drop; the device runs something else."""
    [(target, found)] = engines().items()
    other = {target: replace(found, choice=replace(found.choice, active="fp16"))}
    content = manifest(accuracy=None, engines=other, latency=None)
    words = f"The active engine for {target} is fp16: this verdict is about int8_pointwise."
    assert words in verdict(content, None).reservations
    assert not any("active engine" in r for r in verdict(manifest(engines=other), None).reservations)
    agreeing = manifest(accuracy=None, engines=engines(), latency=None)
    assert not any("active engine" in r for r in verdict(agreeing, None).reservations)


def test_what_the_verdict_judges_itself_is_no_warning_besides() -> None:
    """Each scheme of the bundle has a warning of its own, and one good engine is enough."""
    doubted, lost = scheme("int8", 30.0, 0.6), scheme("int8_pointwise", 20.0, 1.5)
    schemes = (scheme("int8_gate", 30.0, 0.1), doubted, lost, scheme("fp16", 60.0, 2.0, 0))
    for content in (manifest(schemes=schemes), manifest(schemes=schemes, drop=0.9)):
        warnings = evidence._drop_warnings(content.accuracy, schemes, 1.0)
        assert len(warnings) == 2 + (content.accuracy.drop_points > 0.5)  # type: ignore[union-attr]
        assert verdict(replace(content, warnings=(*warnings, NO_VNNI))) == verdict(content)
    assert verdict(manifest(schemes=schemes)).status == "good"


def test_a_warning_of_something_else_is_a_reservation() -> None:
    """Also one of near chance, which the verdict knows nothing of, and one of another figure or limit."""
    content = manifest(drop=0.9)
    assert content.accuracy is not None
    near = "FP32's top-1 of 11.00 % is near chance, 10.00 %: check the order of the classes"
    [doubt] = evidence._drop_warnings(content.accuracy, (), 1.0)
    [other] = evidence._drop_warnings(replace(content.accuracy, images=77), (), 1.0)
    said = verdict(replace(content, warnings=(near, doubt, other))).reservations
    assert [r for r in said if r.startswith("The bundle's warning")] == [
        f"The bundle's warning: {near}",
        f"The bundle's warning: {other}",
    ]


def test_the_sentences_are_those_of_quantize() -> None:
    """Compared letter by letter: a warning that is worded otherwise would be listed twice."""
    assert "(*warnings, NO_VNNI)" in inspect.getsource(evidence)
    over = replace(accuracy(1.5), drop_points=1.234)
    assert evidence._drop_warnings(over, (), 1.0) == [over_limit(over, 1.0)]
    assert over_limit(accuracy(0.5), 1.0) is None


@settings(max_examples=60)
@given(drop=st.floats(-3, 3), half=st.floats(0.01, 2))
def test_the_limit_and_the_interval_decide(drop: float, half: float) -> None:
    expected = "no" if drop > 1.0 else "reservations" if drop + half > 1.0 else "good"
    assert verdict(manifest(drop=drop, half=half)).status == expected
