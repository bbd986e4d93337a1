"""Which record says what of one side of a report: its models in a run, their accuracy, the speed of what ships.

In: a ``Side`` and the runs of its report. Out: the record that was asked for, or None where it was never measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edge_van.bundle.engine_record import ENGINE_RUNTIMES
from edge_van.bundle.layout import OPENVINO_ONNX
from edge_van.bundle.records import Accuracy, Interval, Manifest, SchemeResult
from edge_van.machine import Machine
from edge_van.reports.record import Side, Speed
from edge_van.statistics import paired_ratio
from edge_van.text import precision_words
from edge_van.timing.record import BenchmarkModel, BenchmarkResult, LayerProfile, QueryLatency

Runs = tuple[BenchmarkResult, ...]
SHORTER = ("bf16", "fp16")
ENGINE_PACKAGES = ("openvino", "onnxruntime", "torch")
"""Those that a machine's record knows the versions of."""


@dataclass(frozen=True)
class Level:
    """Accuracy of the model that a runtime runs, in percent, by the metric of its task.

    ``interval`` is that of the drop, counted down from FP32's on these images: how sure the distance to FP32 is, not
    how sure the accuracy is. None for FP32 itself.
    """

    percent: float
    interval: Interval | None
    source: str


def run_of(side: Side, runs: Runs) -> BenchmarkResult | None:
    return None if side.run is None else runs[side.run]


def models_of(side: Side, runs: Runs) -> tuple[BenchmarkModel, ...]:
    """The side's models in its run, in the run's order."""
    run = run_of(side, runs)
    return () if run is None else tuple(m for m in run.models if m.bundle == side.run_bundle)


def shipped_scheme(manifest: Manifest) -> SchemeResult | None:
    """The TensorRT scheme that counts where a bundle has no OpenVINO model: the active engine's, else the one with the
    smallest drop, as the accuracy gate has it."""
    measured = [s for s in manifest.schemes if s.quantized_layers and s.accuracy is not None]
    active = {engine_set.choice.active for engine_set in manifest.engines.values()}
    chosen = [s for s in measured if s.name in active] or measured
    return min(chosen, key=lambda s: s.accuracy.worst.drop_points if s.accuracy else 0.0) if chosen else None


def shipped_precision(manifest: Manifest | None) -> str:
    """What of OpenVINO's INT8 the verdict is about: that with the rest in BF16 where that is active."""
    mixed = manifest is not None and manifest.cpu is not None and manifest.cpu.active == "int8_bf16"
    return "int8_bf16" if mixed else "int8"


def shipped_accuracy(manifest: Manifest) -> Accuracy | None:
    """Of OpenVINO's INT8; in a bundle without it, of ``shipped_scheme``."""
    if manifest.accuracy is not None:
        return manifest.precisions.get(shipped_precision(manifest), manifest.accuracy)
    scheme = shipped_scheme(manifest)
    return None if scheme is None else scheme.accuracy


def shipped_model(side: Side, runs: Runs) -> BenchmarkModel | None:
    """The model in the run whose accuracy is ``shipped_accuracy``: OpenVINO's INT8, or an engine of ``shipped_scheme``.

    Without a manifest, so without any accuracy, OpenVINO's INT8 or else an INT8 engine.
    """
    models = models_of(side, runs)
    engines = [m for m in models if m.runtime in ENGINE_RUNTIMES]
    if side.manifest is None:
        return _first(models, "openvino", "int8") or next((m for m in engines if m.precision == "int8"), None)
    if side.manifest.accuracy is not None:
        return _first(models, "openvino", shipped_precision(side.manifest)) or _first(models, "openvino", "int8")
    scheme = shipped_scheme(side.manifest)
    return next((m for m in engines if scheme is not None and m.precision == scheme.name), None)


def shorter_float(side: Side, runs: Runs) -> BenchmarkModel | None:
    """The fastest model of ``shipped_model``'s engine in a shorter float, BF16 or FP16, which is had without
    quantising; None where there is none, or it is known to lose over the limit."""
    run, shipped = run_of(side, runs), shipped_model(side, runs)
    if run is None or shipped is None:
        return None
    timed = [(m, row) for m in _of_engine(side, runs, shipped) if (row := query(run, m.name)) is not None]
    floats = [
        (row.median_ms, m) for m, row in timed if m.precision in SHORTER and _may_serve(side.manifest, m.precision)
    ]
    return min(floats, key=lambda pair: pair[0])[1] if floats else None


def _may_serve(manifest: Manifest | None, precision: str) -> bool:
    if manifest is None:
        return True
    scheme = next((s.accuracy for s in manifest.schemes if s.name == precision), None)
    known = manifest.precisions.get(precision) or scheme or (manifest.rounded if precision == "bf16" else None)
    return known is None or known.worst.drop_points <= limit_points(manifest)


def _of_engine(side: Side, runs: Runs, shipped: BenchmarkModel) -> list[BenchmarkModel]:
    """Of engines those of the same target's folder."""
    return [
        m
        for m in models_of(side, runs)
        if m.runtime == shipped.runtime
        and (shipped.runtime not in ENGINE_RUNTIMES or target_of(m) == target_of(shipped))
    ]


def own_baseline(side: Side, runs: Runs) -> BenchmarkModel | None:
    """The FP32 of ``shipped_model`` in the same engine; None where there is none: another engine's says something else.

    Of engines that is the one in the same target's folder.
    """
    shipped = shipped_model(side, runs)
    if shipped is None:
        return None
    return _first(_of_engine(side, runs, shipped), shipped.runtime, "fp32")


def target_of(model: BenchmarkModel) -> str:
    """Of an engine, whose file is ``tensorrt/<target>/<scheme>/model.engine``."""
    return "/".join(model.file.split("/")[1:2])


def _first(models: Iterable[BenchmarkModel], runtime: str, precision: str) -> BenchmarkModel | None:
    return next((m for m in models if m.runtime == runtime and m.precision == precision), None)


def query(run: BenchmarkResult, model: str) -> QueryLatency | None:
    """The model's row of the single-stream scenario."""
    return next((row for row in run.single_stream if row.model == model), None)


def pair(run: BenchmarkResult, model: str, baseline: str) -> tuple[float, Interval] | None:
    """How many times as fast as ``baseline`` the model is, with its interval, from rounds that timed both.

    None where one of them was not timed, or not in the same rounds.
    """
    row, base = query(run, model), query(run, baseline)
    if row is None or base is None or len(row.samples_ms) != len(base.samples_ms):
        return None
    if baseline == run.baseline:
        return row.ratio, row.ratio_interval
    ratio, low, high = paired_ratio(np.array(base.samples_ms), np.array(row.samples_ms))
    return ratio, Interval(low, high)


def speed_of(side: Side, runs: Runs) -> Speed | None:
    """From the side's benchmark; without one from the latency that ``edge-van quantize`` measured.

    None where that was not measured. A benchmark that did not time the two models is not filled up with quantize's
    latency: that may be of another machine, and of other versions.
    """
    run = run_of(side, runs)
    if run is None:
        return _from_manifest(side.manifest, "fp32")
    return _from_benchmark(run, shipped_model(side, runs), own_baseline(side, runs))


def speed_over_float(side: Side, runs: Runs) -> Speed | None:
    """The same against ``shorter_float``."""
    run = run_of(side, runs)
    if run is not None:
        return _from_benchmark(run, shipped_model(side, runs), shorter_float(side, runs))
    return _from_manifest(side.manifest, "bf16") if _may_serve(side.manifest, "bf16") else None


def _from_benchmark(run: BenchmarkResult, model: BenchmarkModel | None, base: BenchmarkModel | None) -> Speed | None:
    if model is None or base is None:
        return None
    row, base_row, ratio_of_pair = query(run, model.name), query(run, base.name), pair(run, model.name, base.name)
    if row is None or base_row is None or ratio_of_pair is None:
        return None
    samples = len(row.samples_ms)
    figures = (*ratio_of_pair, row.median_ms, base_row.median_ms, samples)
    return Speed(model.name, base.name, *figures, "benchmark", precision_words(base.precision))


def _from_manifest(manifest: Manifest | None, baseline: str) -> Speed | None:
    latency = None if manifest is None else manifest.latency
    rows = {} if latency is None else {row.name: row for row in latency.rows}
    shipped = shipped_precision(manifest)
    if latency is None or shipped not in rows or baseline not in rows:
        return None
    int8, base = rows[shipped], rows[baseline]
    ratio, bounds = int8.ratio, int8.ratio_interval
    if baseline != latency.baseline:
        if len(base.samples_ms) != len(int8.samples_ms):
            return None  # nothing to pair
        ratio, low, high = paired_ratio(np.array(base.samples_ms), np.array(int8.samples_ms))
        bounds = Interval(low, high)
    figures = (ratio, bounds, int8.median_ms, base.median_ms, latency.rounds)
    return Speed(shipped, base.name, *figures, "quantize", precision_words(baseline))


def level_of(manifest: Manifest, runtime: str, precision: str, file: str) -> Level | None:
    """Accuracy of the bundle's ``file`` as ``runtime`` runs it; None where nobody measured that."""
    overall = manifest.accuracy
    if precision == "fp32":
        accuracy = shipped_accuracy(manifest)
        return None if accuracy is None else Level(accuracy.fp32_percent, None, f"FP32 on {accuracy.data}")
    if runtime == "openvino":
        measured = overall if precision == "int8" else manifest.precisions.get(precision)
        return _level(measured, "OpenVINO's kernels")
    engine = precision if runtime in ENGINE_RUNTIMES else None
    scheme = next((s for s in manifest.schemes if file == s.file or engine == s.name), None)
    if scheme is not None and scheme.accuracy is not None:
        return _level(scheme.accuracy, "the graph computed exactly")
    if file == OPENVINO_ONNX:
        return _level(overall, "the same graph in OpenVINO's kernels")
    return None


def _level(accuracy: Accuracy | None, source: str) -> Level | None:
    if accuracy is None:
        return None
    drop, fp32 = accuracy.drop_interval, accuracy.fp32_percent
    return Level(accuracy.int8_percent, Interval(fp32 - drop.high, fp32 - drop.low), source)


def same_engines(one: Machine, other: Machine) -> bool:
    """Whether both have the same CPU and the same versions of the engines, on which the kernels depend."""
    return one.cpu == other.cpu and all(one.versions.get(name) == other.versions.get(name) for name in ENGINE_PACKAGES)


def profile(run: BenchmarkResult, model: str) -> LayerProfile | None:
    return next((layered for layered in run.layers if layered.model == model), None)


def limit_points(manifest: Manifest) -> float:
    """The recipe's largest allowed drop, in points."""
    return manifest.recipe.max_drop_points


def metric_of(manifest: Manifest | None) -> str:
    """What the accuracy of a bundle is measured by: "top-1" where nobody measured it."""
    accuracy = None if manifest is None else shipped_accuracy(manifest)
    return Accuracy.metric if accuracy is None else accuracy.metric


def titled(metric: str) -> str:
    """As it stands at the head of a sentence."""
    return metric if metric == "mAP" else metric.capitalize()
