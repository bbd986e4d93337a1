"""``edge_van.timing.run`` with real engines: one run over a narrow bundle, looked at from every side."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.progress import SILENT
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.onnxruntime import ONNXRuntimeSession
from edge_van.statistics import paired_ratio
from edge_van.timing import run as run_module
from edge_van.timing.energy import NoMeter
from edge_van.timing.interleave import Rounds, Stop, sample_rounds
from edge_van.timing.models import timed_models
from edge_van.timing.record import BenchmarkResult, BenchmarkSettings, Skipped, encode_benchmark
from edge_van.timing.record_file import read_benchmark
from edge_van.timing.run import BenchmarkOptions, run_benchmark

pytestmark = pytest.mark.alone

SETTINGS = BenchmarkSettings(
    scenarios=("single_stream", "multi_stream", "offline"),
    threads=1,
    streams=1,
    batches=(1, 4),
    multi_stream_samples=4,
    warmup_runs=2,
    samples=30,
    min_duration_s=0.0,
    seed=0,
    max_duration_s=2.0,
    offline_slices=2,
)
RUNTIMES = ("openvino", "onnxruntime", "torch")


@pytest.fixture(scope="module")
def measured(timed_bundle: Bundle) -> BenchmarkResult:
    options = BenchmarkOptions(SETTINGS, RUNTIMES, startup=False)
    return run_benchmark([timed_bundle], options, SILENT, "edge-van benchmark narrow_int8")


def test_every_model_is_in_every_scenario(measured: BenchmarkResult) -> None:
    names = [m.name for m in measured.models]
    assert {"openvino-fp32", "openvino-int8", "onnxruntime-int8", "torch-fp32"} <= set(names)
    for rows in (measured.single_stream, measured.multi_stream):
        assert [row.model for row in rows] == names
    assert {(r.model, r.batch) for r in measured.offline} == {(n, b) for n in names for b in (1, 4)}
    assert {p.model for p in measured.layers} == {n for n in names if not n.startswith("torch")}


def test_figures_are_those_of_the_samples(measured: BenchmarkResult) -> None:
    rows = {row.model: row for row in measured.single_stream}
    base = np.array(rows[measured.baseline].samples_ms)
    assert measured.baseline == "openvino-fp32"
    for row in rows.values():
        samples = np.array(row.samples_ms)
        assert len(samples) >= 20
        assert np.allclose([row.median_ms, row.p90_ms, row.p99_ms], np.percentile(samples, [50, 90, 99]), atol=1e-3)
        assert row.ratio == pytest.approx(paired_ratio(base, samples)[0], rel=0.01)
        assert row.ratio_interval.low <= row.ratio <= row.ratio_interval.high
    for rate in measured.offline:
        assert rate.images_per_s == pytest.approx(np.median(rate.slices), rel=1e-3)


def test_four_images_take_longer_than_one_and_less_than_ten(measured: BenchmarkResult) -> None:
    """By the fastest sample of each model, which the least else happened to."""
    one = sum(min(row.samples_ms) for row in measured.single_stream)
    four = sum(min(row.samples_ms) for row in measured.multi_stream)
    assert {row.images_per_query for row in measured.multi_stream} == {4}
    assert one < four < 10 * one


def test_layers_are_the_networks_with_their_kernels(measured: BenchmarkResult) -> None:
    profiles = {p.model: p for p in measured.layers}
    int8 = [layer for layer in profiles["openvino-int8"].layers if "i8" in layer.kernel.lower()]
    assert any("conv_spatial" in layer.name for layer in int8)
    convolutions = [layer for layer in profiles["openvino-fp32"].layers if "conv" in layer.name]
    assert convolutions
    assert not any("i8" in layer.kernel.lower() for layer in convolutions)
    quantized = [layer for layer in profiles["onnxruntime-int8"].layers if layer.operator == "QLinearConv"]
    assert quantized
    assert all(layer.mean_ms >= 0 for p in measured.layers for layer in p.layers)


def test_the_record_tells_how_and_can_be_read_again(measured: BenchmarkResult, tmp_path: Path) -> None:
    assert measured.settings == SETTINGS
    assert measured.command == "edge-van benchmark narrow_int8"
    assert [b.name for b in measured.bundles] == ["narrow_int8"]
    assert measured.bundles[0].input_size == (64, 64)
    assert {m.threads for m in measured.models if m.runtime == "openvino"} == {1}
    rows = (measured.single_stream[0].samples_ms, measured.multi_stream[0].samples_ms)
    slices = [len(rate.slices) for rate in measured.offline if rate.model == measured.baseline]
    assert measured.conditions.rounds == sum(map(len, rows)) + sum(slices)
    assert any(d.kind == "too_few_samples" for d in measured.doubts)  # 30 queries are fewer than MLPerf takes
    path = tmp_path / "benchmark.json"
    path.write_bytes(encode_benchmark(measured))
    assert read_benchmark(path) == measured


def test_start_up_is_measured_for_each_model_that_is_timed(timed_bundle: Bundle) -> None:
    settings = replace(SETTINGS, scenarios=("single_stream",), samples=10)
    found = run_benchmark([timed_bundle], BenchmarkOptions(settings, ("onnxruntime",), layers=False), SILENT)
    assert [s.model for s in found.startup] == [m.name for m in found.models]
    assert all(s.load_ms > 0 and s.peak_memory_mib > s.before_load_mib for s in found.startup)


def test_a_baseline_of_ones_own_and_scenarios_left_out(timed_bundle: Bundle) -> None:
    settings = replace(SETTINGS, scenarios=("single_stream",))
    options = BenchmarkOptions(settings, ("openvino",), against="openvino-int8", startup=False, layers=False)
    found = run_benchmark([timed_bundle], options, SILENT)
    assert found.baseline == "openvino-int8"
    assert [row.ratio for row in found.single_stream if row.model == "openvino-int8"] == [1.0]
    assert (found.multi_stream, found.offline, found.startup, found.layers) == ((), (), (), ())


def test_two_bundles_in_one_run(timed_bundle: Bundle) -> None:
    settings = replace(SETTINGS, scenarios=("single_stream",))
    options = BenchmarkOptions(settings, ("onnxruntime",), startup=False, layers=False)
    found = run_benchmark([timed_bundle, timed_bundle], options, SILENT)
    assert [m.bundle for m in found.models] == ["narrow_int8"] * 2 + ["narrow_int8#2"] * 2
    rows = {row.model: row.ratio for row in found.single_stream}
    assert 0.3 < rows["narrow_int8#2/onnxruntime-fp32"] < 3.0  # the same file, beside itself


def test_an_unknown_baseline_lists_the_models_before_any_is_loaded(
    timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr("edge_van.timing.run.measure_startup", loaded)
    options = BenchmarkOptions(SETTINGS, ("onnxruntime",), against="tensorrt-int8")
    with pytest.raises(UsageError, match=r"'tensorrt-int8': onnxruntime-fp32, onnxruntime-int8"):
        run_benchmark([timed_bundle], options, SILENT)


def test_a_baseline_that_does_not_load_is_a_missing_runtime_with_its_reason(
    timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model_file: ModelFile, *_: object) -> None:
        if model_file.name == "onnxruntime-fp32":
            raise BundleError("no such kernel")

    monkeypatch.setattr("edge_van.timing.run.measure_startup", fails)
    options = BenchmarkOptions(SETTINGS, against="onnxruntime-fp32", layers=False)
    with pytest.raises(MissingRuntimeError, match=r"onnxruntime-fp32, which ratios .* \(no such kernel\)") as caught:
        run_benchmark([timed_bundle], options, SILENT)
    assert caught.value.exit_code == 5


class StoppingError(Exception):
    """As engines raise them, of no family that Python has."""


@pytest.mark.parametrize("runtimes", [None, ("onnxruntime",)])
def test_a_model_that_fails_on_the_way_costs_its_scenario_alone(
    timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, runtimes: tuple[str, ...] | None
) -> None:
    """It ran four images when it was loaded for them; with its runtime asked for by name that is an error."""
    left = [5]
    run = ONNXRuntimeSession._run

    def runs_out(self: ONNXRuntimeSession, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(feed["images"]) == 4:
            left[0] -= 1
            if left[0] < 0:
                raise StoppingError("out of breath")
        return run(self, feed)

    monkeypatch.setattr(ONNXRuntimeSession, "_run", runs_out)
    # one engine is enough, also where none was asked for by name
    monkeypatch.setattr(run_module, "timed_models", lambda bundles, *_: timed_models(bundles, ["onnxruntime"]))
    settings = replace(SETTINGS, scenarios=("single_stream", "multi_stream"), multi_stream_samples=4, samples=10)
    options = BenchmarkOptions(settings, runtimes, startup=False, layers=False)
    if runtimes:
        with pytest.raises(StoppingError):
            run_benchmark([timed_bundle], options, SILENT)
    else:
        found = run_benchmark([timed_bundle], options, SILENT)
        assert found.single_stream
        assert found.multi_stream == ()
        assert Skipped("MultiStream with 4 images", "StoppingError: out of breath") in found.skipped


def test_offlines_batch_sizes_share_its_least_duration(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def sampled(turns: Any, stop: Stop, *arguments: Any) -> Rounds:
        asked.append(stop.min_seconds)
        return sample_rounds(turns, replace(stop, min_seconds=0.0), *arguments)

    monkeypatch.setattr("edge_van.timing.run.sample_rounds", sampled)
    settings = replace(SETTINGS, scenarios=("single_stream", "offline"), batches=(1, 2, 4), min_duration_s=6.0)
    options = BenchmarkOptions(settings, ("onnxruntime",), startup=False, layers=False)
    run_benchmark([timed_bundle], options, SILENT)
    assert asked == [6.0, 2.0, 2.0, 2.0]


def test_nothing_to_time_is_a_missing_runtime(timed_bundle: Bundle) -> None:
    with pytest.raises(MissingRuntimeError, match=r"nothing can be timed here: tensorrt: the bundle has no engines"):
        run_benchmark([timed_bundle], BenchmarkOptions(SETTINGS, ("tensorrt",)), SILENT)


def test_a_resize_inside_the_graph_takes_one_image_at_a_time(timed_bundle: Bundle) -> None:
    spec = replace(timed_bundle.manifest.input_spec, source_size=(80, 80))
    bundle = replace(timed_bundle, manifest=replace(timed_bundle.manifest, input_spec=spec))
    settings = replace(SETTINGS, scenarios=("multi_stream",))
    options = BenchmarkOptions(settings, ("openvino",), startup=False, layers=False)
    with pytest.raises(UsageError, match=r"no scenario could be timed .*openvino-fp32, MultiStream with 4 images: the"):
        run_benchmark([bundle], options, SILENT)
    both = replace(options, settings=replace(settings, scenarios=("single_stream", "multi_stream")))
    found = run_benchmark([bundle], both, SILENT)
    assert found.single_stream
    assert found.multi_stream == ()
    assert any("openvino-fp32, MultiStream with 4 images" in s.model for s in found.skipped)


class Broken:
    """A stand-in for a Jetson's rails of which one cannot be read any more."""

    source: Literal["rapl", "rails"] = "rails"

    def start(self) -> None:
        pass

    def joules(self) -> None:
        return None


@pytest.mark.parametrize(
    ("meter", "source", "told"),
    [
        (NoMeter("for root only"), None, {"energy": "for root only"}),
        (
            Broken(),
            "rails",
            {
                f"onnxruntime-{precision}, energy at batch 4": "its meter could not be read all the while"
                for precision in ("fp32", "int8")
            },
        ),
    ],
    ids=["none", "broken"],
)
def test_energy_that_is_not_known_is_told_once_and_never_guessed(
    timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, meter: Any, source: str | None, told: dict[str, str]
) -> None:
    monkeypatch.setattr(run_module, "open_meter", lambda **_: nullcontext(meter))
    settings = replace(SETTINGS, scenarios=("offline",), batches=(4,), max_duration_s=1.0)
    options = BenchmarkOptions(settings, ("onnxruntime",), startup=False, layers=False)
    found = run_benchmark([timed_bundle], options, SILENT)
    assert {row.joules_per_image for row in found.offline} == {None}
    assert found.conditions.energy_source == source
    assert [(s.model, s.reason) for s in found.skipped] == list(told.items())
