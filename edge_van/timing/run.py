"""``edge-van benchmark``: every model that runs here, in turns, in the scenarios of MLPerf Inference.

In: bundles and ``BenchmarkOptions``. Out: a ``BenchmarkResult``. SingleStream sends one image after the other,
MultiStream queries of several, Offline as many as it can (MLCommons, "MLPerf Inference Rules", section 3: Scenarios).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_van.bundle.bundle import Bundle
from edge_van.errors import EdgeVanError, MissingRuntimeError, UsageError
from edge_van.machine import describe_machine
from edge_van.progress import Reporter
from edge_van.runtimes import Session
from edge_van.timing.conditions import conditions_of
from edge_van.timing.doubts import doubts_of
from edge_van.timing.energy import EnergyMeter, NoMeter, open_meter
from edge_van.timing.interleave import Rounds, Stop, sample_rounds
from edge_van.timing.latency import LEAD_MS, query_turn
from edge_van.timing.layers import profile_layers
from edge_van.timing.models import TimedModel, bundle_names, identity, timed_models
from edge_van.timing.record import (
    BENCHMARK_KIND,
    BENCHMARK_SCHEMA_VERSION,
    SCENARIO_TITLES,
    BenchmarkResult,
    BenchmarkSettings,
    QueryLatency,
    Scenario,
    Skipped,
    Startup,
    Throughput,
)
from edge_van.timing.rows import query_row, rate_rows
from edge_van.timing.sessions import Feed, OpenedModels, reason
from edge_van.timing.slices import MIN_SLICES, Slice
from edge_van.timing.startup import compile_cache, measure_startup
from edge_van.version import __version__

MIN_ROUNDS = 20
"""A median of fewer says nothing; kept even where the longest duration is over."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What ``edge-van benchmark`` was asked for."""

    settings: BenchmarkSettings = field(default_factory=BenchmarkSettings)
    runtimes: tuple[str, ...] | None = None  # None: all that are here
    against: str | None = None  # the model that ratios are taken to; None: the first FP32 one, else the first
    startup: bool = True
    layers: bool = True
    force: bool = False  # replace an output that is no result


def run_benchmark(
    bundles: Sequence[Bundle], options: BenchmarkOptions, reporter: Reporter, command: str = ""
) -> BenchmarkResult:
    """Measure everything that was asked for; ``command`` goes into the record as it is.

    Raises ``MissingRuntimeError`` where nothing can run or a runtime that was named is not here, ``UsageError`` for an
    unknown baseline or where no scenario can be timed, ``BundleError`` for a damaged file.
    """
    settings, names = options.settings, bundle_names(bundles)
    with reporter.stage("Checking the files"):
        models, skipped = timed_models(bundles, options.runtimes, settings.device)
    _baseline(models, options.against, skipped)  # a wrong name is said before minutes of loading
    with tempfile.TemporaryDirectory(prefix="edge-van-compiled-") as folder, ExitStack() as stack:
        caches = {m.name: Path(folder) / str(i) for i, m in enumerate(models)}
        startup: list[Startup] = []
        if options.startup:
            models = _startups(models, caches, options, reporter, startup, skipped)
            _baseline(models, options.against, skipped)
        stack.enter_context(compile_cache(Path(folder) / "run"))  # torch compiles again for another batch size
        opened = stack.enter_context(OpenedModels(settings, [b.manifest for b in bundles], names, caches, reporter))
        with reporter.stage("Loading the models", len(models)) as advance:
            models = opened.load(models, advance, skipped, strict=options.runtimes is not None)
        run = _Run(
            models,
            _baseline(models, options.against, skipped),
            opened,
            reporter,
            skipped,
            strict=options.runtimes is not None,
        )
        single = run.queries("single_stream", 1)
        multi = run.queries("multi_stream", settings.multi_stream_samples)
        offline = run.offline()
        if not (single or multi or offline):
            reasons = "; ".join(dict.fromkeys(f"{s.model}: {s.reason}" for s in skipped))
            raise UsageError(f"no scenario could be timed ({reasons}): ask for another, or for another baseline")
        layers = profile_layers(models, opened, reporter, skipped) if options.layers else ()
        threads = {m.name: opened.session(m, 1).threads for m in models}
    result = BenchmarkResult(
        schema_version=BENCHMARK_SCHEMA_VERSION,
        kind=BENCHMARK_KIND,
        edge_van_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        bundles=identity(bundles),
        machine=describe_machine(),
        settings=settings,
        baseline=run.baseline,
        models=tuple(m.record(threads[m.name]) for m in models),
        conditions=conditions_of([r for sampled in run.rounds.values() for r in sampled], models, run.energy_source),
        single_stream=single,
        multi_stream=multi,
        offline=offline,
        startup=tuple(s for s in startup if s.model in threads),
        layers=layers,
        skipped=tuple(skipped),
    )
    return doubts_of(result, run.rounds)


def _startups(
    models: list[TimedModel],
    caches: Mapping[str, Path],
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
                startup.append(measure_startup(model.model_file, caches[model.name], threads))
                left.append(model)
            except EdgeVanError as error:
                if options.runtimes is not None:
                    raise
                skipped.append(Skipped(model.name, str(error)))
            advance(1)
    return left


def _baseline(models: Sequence[TimedModel], against: str | None, skipped: Sequence[Skipped]) -> str:
    names = [m.name for m in models]
    if not names:
        reasons = "; ".join(f"{s.model}: {s.reason}" for s in skipped)
        raise MissingRuntimeError(f"nothing can be timed here: {reasons or 'no bundle has a model'}")
    if against is not None:
        if against not in names:
            if because := next((s.reason for s in skipped if s.model == against), None):
                raise MissingRuntimeError(
                    f"{against}, which ratios are to be taken to, cannot be timed here ({because}): mend that, or "
                    f"choose another with --against"
                )
            raise UsageError(f"--against takes a model of the run, not {against!r}: {', '.join(names)}")
        return against
    floats = [m.name for m in models if m.precision == "fp32"]
    return (floats or names)[0]


class _Run:
    """The interleaved scenarios over the same models. ``rounds`` are those of each scenario so far."""

    def __init__(
        self,
        models: Sequence[TimedModel],
        baseline: str,
        opened: OpenedModels,
        reporter: Reporter,
        skipped: list[Skipped],
        *,
        strict: bool,
    ) -> None:
        self._strict = strict
        self.baseline, self.rounds = baseline, dict[Scenario, list[Rounds]]()
        self._models, self._opened, self._reporter, self._skipped = models, opened, reporter, skipped
        self._settings = opened.settings
        self._generator = np.random.default_rng(opened.settings.seed)
        self.energy_source: str | None = None

    def queries(self, scenario: Scenario, images: int) -> tuple[QueryLatency, ...]:
        """SingleStream and MultiStream: each model is asked once a round, ``images`` at once."""
        title, settings = SCENARIO_TITLES[scenario], self._settings
        if scenario not in settings.scenarios:
            return ()
        fitting = self._opened.fitting(self._models, images, title, self.baseline, self._skipped)
        if not fitting:
            return ()
        turns = [_turn(*self._opened.session_and_feed(m, images)) for m in fitting]
        shown = f"{title}, {images} images a query" if images > 1 else title
        rounds = self._sample(scenario, shown, images, turns, settings.samples, MIN_ROUNDS, settings.warmup_runs)
        if rounds is None:
            return ()
        names = [m.name for m in fitting]
        base = rounds.values[:, names.index(self.baseline)]
        return tuple(query_row(name, images, rounds.values[:, i], base) for i, name in enumerate(names))

    def offline(self) -> tuple[Throughput, ...]:
        """Each batch size is a run of its own over all models, so that they need not all be loaded at once."""
        settings, rows = self._settings, list[Throughput]()
        if "offline" not in settings.scenarios:
            return ()
        streams = settings.streams if settings.streams > 1 else None
        with open_meter(gpu=settings.device == "cuda") as meter:
            if isinstance(meter, NoMeter):
                self._skipped.append(Skipped("energy", meter.reason))
            else:
                self.energy_source = meter.source
            for batch in settings.batches:
                fitting = self._opened.fitting(
                    self._models, batch, SCENARIO_TITLES["offline"], self.baseline, self._skipped, streams
                )
                slices = []
                for model in fitting:
                    session, feed = self._opened.session_and_feed(model, batch, streams)
                    slices.append(Slice(session, feed, batch, _meter_for(model, meter), LEAD_MS))
                if slices:
                    shown, turns = f"{SCENARIO_TITLES['offline']}, batch {batch}", [s.turn for s in slices]
                    rounds = self._sample("offline", shown, batch, turns, settings.offline_slices, MIN_SLICES)
                    if rounds is not None:
                        rows += rate_rows([m.name for m in fitting], batch, slices, rounds, self.baseline)
                        self._skipped += _without_energy(rows[-len(slices) :], fitting, meter)
                self._opened.close_batch()
        return tuple(rows)

    def _sample(
        self,
        scenario: Scenario,
        shown: str,
        images: int,
        turns: list[Callable[[], float]],
        wanted: int,
        least: int,
        warmup_runs: int = 0,
    ) -> Rounds | None:
        """None where a model fails that ran when it was loaded: what was measured before is not lost for it. With
        ``strict`` an error."""
        parts = len(self._settings.batches) if scenario == "offline" else 1  # each batch size has a run of its own
        try:
            with self._reporter.stage(shown, wanted) as advance:
                for turn in turns:
                    for _ in range(warmup_runs):
                        turn()
                stop = Stop(
                    rounds=wanted,
                    min_rounds=min(least, wanted),
                    min_seconds=self._settings.min_duration_s / parts,
                    max_seconds=self._settings.max_duration_s,
                )
                rounds = sample_rounds(turns, stop, self._generator, advance)
        except Exception as error:
            if self._strict:
                raise
            self._skipped.append(Skipped(f"{SCENARIO_TITLES[scenario]} with {images} images", reason(error)))
            return None
        self.rounds.setdefault(scenario, []).append(rounds)
        return rounds


def _turn(session: Session, feed: Feed) -> Callable[[], float]:
    """Milliseconds of a query, by the device's own clock where it has one."""
    return session.device_turn(feed) or query_turn(session, feed, LEAD_MS)


def _meter_for(model: TimedModel, meter: EnergyMeter | NoMeter) -> EnergyMeter | None:
    """RAPL counts the processor, NVML the GPU: of a model on the other they tell what waiting takes."""
    if isinstance(meter, NoMeter) or meter.source == ("nvml" if model.on_cpu else "rapl"):
        return None
    return meter


def _without_energy(
    rows: Sequence[Throughput], models: Sequence[TimedModel], meter: EnergyMeter | NoMeter
) -> Iterator[Skipped]:
    for row, model in zip(rows, models, strict=True):
        if row.joules_per_image is None and _meter_for(model, meter) is not None:
            yield Skipped(f"{row.model}, energy at batch {row.batch}", "its meter could not be read all the while")
