"""``edge-van benchmark``: every model that runs here, in turns, in the scenarios of MLPerf Inference.

In: bundles and ``BenchmarkOptions``. Out: a ``BenchmarkResult``. SingleStream sends one image after the other,
MultiStream queries of several, Offline as many as it can (MLCommons, "MLPerf Inference Rules", section 3: Scenarios).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_van import __version__
from edge_van.benchmark import paired_ratio, query_turn
from edge_van.benchmark_record import (
    BENCHMARK_KIND,
    BENCHMARK_SCHEMA_VERSION,
    BenchmarkBundle,
    BenchmarkModel,
    BenchmarkResult,
    BenchmarkSettings,
    Conditions,
    QueryLatency,
    Skipped,
    Startup,
    Throughput,
)
from edge_van.bundle import Bundle
from edge_van.errors import EdgeVanError, MissingRuntimeError, UsageError
from edge_van.machine import describe_machine, load_average
from edge_van.progress import Reporter
from edge_van.timing.doubts import doubts_of
from edge_van.timing.energy import EnergyMeter, NoMeter, open_meter
from edge_van.timing.interference import total
from edge_van.timing.interleave import Rounds, sample_rounds
from edge_van.timing.layers import profile_layers
from edge_van.timing.models import TimedModel, bundle_names, timed_models
from edge_van.timing.sessions import OpenedModels
from edge_van.timing.slices import Slice
from edge_van.timing.startup import compile_cache, measure_startup

MIN_ROUNDS = 20
"""A median of fewer says nothing; kept even where the longest duration is over."""
MIN_SLICES = 5
LEAD_MS = 10.0
"""Threads of torch's OpenMP (libgomp) spin for 7 ms after a run, seen on two cores; OpenVINO's and, as it is set here,
ONNX Runtime's for less than one."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What ``edge-van benchmark`` was asked for."""

    settings: BenchmarkSettings
    runtimes: tuple[str, ...] | None = None  # None: all that are here
    against: str | None = None  # the model that ratios are taken to; None: OpenVINO's FP32
    startup: bool = True
    layers: bool = True


def run_benchmark(
    bundles: Sequence[Bundle], options: BenchmarkOptions, reporter: Reporter, command: str = ""
) -> BenchmarkResult:
    """Measure everything that was asked for; ``command`` goes into the record as it is.

    Raises ``MissingRuntimeError`` where nothing can run or a runtime that was named is not here, ``UsageError`` for an
    unknown baseline, ``BundleError`` for a damaged file.
    """
    settings = options.settings
    with reporter.stage("Checking the files"):
        models, skipped = timed_models(bundles, options.runtimes)
    with tempfile.TemporaryDirectory(prefix="edge-van-compiled-") as folder, ExitStack() as stack:
        startup: list[Startup] = []
        if options.startup:
            models = _startups(models, Path(folder), options, reporter, startup, skipped)
        stack.enter_context(compile_cache(Path(folder)))
        opened = stack.enter_context(OpenedModels(settings, [b.manifest for b in bundles], bundle_names(bundles)))
        with reporter.stage("Loading the models", len(models)) as advance:
            models = opened.load(models, advance, skipped, strict=options.runtimes is not None)
        baseline = _baseline(models, options.against, skipped)
        meter = stack.enter_context(open_meter())
        generator = np.random.default_rng(settings.seed)
        found: list[Rounds] = []
        single: tuple[QueryLatency, ...] = ()
        multi: tuple[QueryLatency, ...] = ()
        offline: tuple[Throughput, ...] = ()
        if "single_stream" in settings.scenarios:
            single = _queries(models, 1, baseline, opened, generator, "SingleStream", reporter, found, skipped)
        if "multi_stream" in settings.scenarios:
            images = settings.multi_stream_samples
            multi = _queries(models, images, baseline, opened, generator, "MultiStream", reporter, found, skipped)
        if "offline" in settings.scenarios:
            offline = _offline(models, baseline, opened, generator, meter, reporter, found, skipped)
        layers = profile_layers(models, opened, reporter) if options.layers else ()
        threads = {m.candidate.name: opened.session(m, 1).threads for m in models}
    result = BenchmarkResult(
        schema_version=BENCHMARK_SCHEMA_VERSION,
        kind=BENCHMARK_KIND,
        edge_van_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        bundles=tuple(_bundle(b, n) for b, n in zip(bundles, bundle_names(bundles), strict=True)),
        machine=describe_machine(),
        settings=settings,
        baseline=baseline,
        models=tuple(_model(m, threads[m.candidate.name]) for m in models),
        conditions=_conditions(found, meter),
        single_stream=single,
        multi_stream=multi,
        offline=offline,
        startup=tuple(s for s in startup if s.model in threads),
        layers=layers,
        skipped=tuple(skipped),
    )
    return doubts_of(result, sum(rounds.kept_disturbed for rounds in found))


def _startups(
    models: list[TimedModel],
    folder: Path,
    options: BenchmarkOptions,
    reporter: Reporter,
    startup: list[Startup],
    skipped: list[Skipped],
) -> list[TimedModel]:
    """The models that load; the others are skipped with the reason, or an error where their runtime was named."""
    left = []
    with reporter.stage("Loading each model in a process of its own", len(models)) as advance:
        for model in models:
            threads = options.settings.threads if model.on_cpu else None
            try:
                startup.append(measure_startup(model.candidate, folder, threads))
                left.append(model)
            except EdgeVanError as error:
                if options.runtimes is not None:
                    raise
                skipped.append(Skipped(model.candidate.name, str(error)))
            advance(1)
    return left


def _baseline(models: Sequence[TimedModel], against: str | None, skipped: Sequence[Skipped]) -> str:
    names = [m.candidate.name for m in models]
    if not names:
        reasons = "; ".join(f"{s.model}: {s.reason}" for s in skipped)
        raise MissingRuntimeError(f"nothing can be timed here: {reasons or 'no bundle has a model'}")
    if against is not None:
        if against not in names:
            raise UsageError(f"--against takes a model of the run, not {against!r}: {', '.join(names)}")
        return against
    floats = [m.candidate.name for m in models if m.precision == "fp32"]
    return (floats or names)[0]


def _queries(
    models: Sequence[TimedModel],
    images: int,
    baseline: str,
    opened: OpenedModels,
    generator: np.random.Generator,
    title: str,
    reporter: Reporter,
    found: list[Rounds],
    skipped: list[Skipped],
) -> tuple[QueryLatency, ...]:
    """SingleStream and MultiStream: each model is asked once a round."""
    settings = opened.settings
    fitting = opened.fitting(models, images, title, skipped)
    names = [m.candidate.name for m in fitting]
    if baseline not in names:
        return ()
    turns = [query_turn(*opened.session_and_feed(m, images), LEAD_MS) for m in fitting]
    for turn in turns:
        for _ in range(settings.warmup_runs):
            turn()
    with reporter.stage(f"{title}, {images} images a query" if images > 1 else title, settings.samples) as advance:
        rounds = sample_rounds(
            turns,
            rounds=settings.samples,
            min_rounds=min(MIN_ROUNDS, settings.samples),
            min_seconds=settings.min_duration_s,
            max_seconds=settings.max_duration_s,
            generator=generator,
            progress=advance,
        )
    found.append(rounds)
    base = rounds.values[:, names.index(baseline)]
    rows = []
    for i, name in enumerate(names):
        times = rounds.values[:, i]
        ratio, interval = paired_ratio(base, times)
        median, p90, p99 = (float(v) for v in np.percentile(times, [50, 90, 99]))
        raw = tuple(round(float(t), 4) for t in times)
        variation = float(times.std() / times.mean())
        rows.append(QueryLatency(name, images, raw, median, p90, p99, variation, ratio, interval))
    return tuple(rows)


def _offline(
    models: Sequence[TimedModel],
    baseline: str,
    opened: OpenedModels,
    generator: np.random.Generator,
    meter: EnergyMeter | NoMeter,
    reporter: Reporter,
    found: list[Rounds],
    skipped: list[Skipped],
) -> tuple[Throughput, ...]:
    """Each batch size is a run of its own over all models, so that they need not all be loaded at once."""
    settings = opened.settings
    rows = []
    for batch in settings.batches:
        fitting = opened.fitting(models, batch, "Offline", skipped)
        names = [m.candidate.name for m in fitting]
        if baseline not in names:
            continue
        slices = [Slice(*opened.offline_session_and_feed(m, batch), batch, meter) for m in fitting]
        with reporter.stage(f"Offline, batch {batch}", settings.offline_slices) as advance:
            rounds = sample_rounds(
                [s.turn for s in slices],
                rounds=settings.offline_slices,
                min_rounds=min(MIN_SLICES, settings.offline_slices),
                max_seconds=settings.max_duration_s,
                generator=generator,
                progress=advance,
            )
        found.append(rounds)
        base = rounds.values[:, names.index(baseline)]
        for i, name in enumerate(names):
            rates = rounds.values[:, i]
            ratio, interval = paired_ratio(rates, base)  # more images a second is faster
            raw = tuple(round(float(r), 3) for r in rates)
            variation = float(rates.std() / rates.mean())
            rows.append(
                Throughput(
                    name,
                    batch,
                    slices[i].streams,
                    raw,
                    float(np.median(rates)),
                    variation,
                    ratio,
                    interval,
                    slices[i].joules_per_image,
                )
            )
        opened.close_batch()
    return tuple(rows)


def _conditions(found: Sequence[Rounds], meter: EnergyMeter | NoMeter) -> Conditions:
    meanwhile = total(rounds.interference for rounds in found)
    return Conditions(
        rounds=sum(len(rounds.values) for rounds in found),
        rounds_repeated=sum(rounds.repeated for rounds in found),
        other_cpu_percent=round(100 * meanwhile.other_share, 2) if found else None,
        stolen_cpu_percent=round(100 * meanwhile.stolen_share, 2) if found else None,
        throttle_events=meanwhile.throttles,
        load_average_1min=load_average(),
        energy_source=None if isinstance(meter, NoMeter) else meter.source,
    )


def _bundle(bundle: Bundle, name: str) -> BenchmarkBundle:
    m = bundle.manifest
    return BenchmarkBundle(name, m.variant, m.created, m.checkpoint_sha256, m.input_spec.size)


def _model(model: TimedModel, threads: int | None) -> BenchmarkModel:
    return BenchmarkModel(
        model.candidate.name, model.bundle, model.runtime, model.precision, model.file, model.file_bytes, threads
    )
