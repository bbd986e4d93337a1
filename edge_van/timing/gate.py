"""The regression gate: has a model fallen back since an earlier run, measured against the same baseline model?

In: two ``BenchmarkResult``s and a limit. Out: what was compared, or a ``LatencyGateError`` that names what is over it.
Absolute times of two runs are never compared: the machine may have had another speed. A ratio is what was paired. The
ratios and their intervals are those recorded, as a report's page shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_van.bundle.records import Interval
from edge_van.errors import LatencyGateError, MissingRuntimeError, UsageError
from edge_van.machine import Machine
from edge_van.statistics import at_confidence, quotient_interval
from edge_van.timing.record import (
    SCENARIO_TITLES,
    BenchmarkBundle,
    BenchmarkResult,
    BenchmarkSettings,
    Scenario,
    Skipped,
    best_throughput,
)

FALSE_ALARMS = 0.05
"""How often what varies within the two runs may show a slowdown of anything at all, over all figures together. What
moves a ratio from one run to the next is not in it: only the limit itself leaves room for that. A machine of two speeds
has more false alarms than this at a limit near 1."""
NAMED = 3
"""More figures than these are counted in the message instead of named."""


@dataclass(frozen=True)
class Figure:
    """What is compared: one model in one scenario."""

    scenario: Scenario
    model: str
    images: int  # at once: of a query, or of a batch

    def __str__(self) -> str:
        title = SCENARIO_TITLES[self.scenario]
        if self.scenario == "offline":
            return f"{title} at batch {self.images}"
        return title if self.images == 1 else f"{title} with {self.images} images"


@dataclass(frozen=True)
class Measured:
    """A figure in one run. Medians are milliseconds, in the offline scenario images/s."""

    ratio: float  # how many times as fast as the baseline model, the median over the rounds
    ratio_interval: Interval  # of 95 %
    rounds: int
    median: float
    baseline_median: float


@dataclass(frozen=True)
class Slowdown:
    """One figure then and now. Over 1 is slower against the baseline model of its run."""

    figure: Figure
    then: Measured
    now: Measured
    confidence: float  # of this one's interval

    @property
    def factor(self) -> float:
        return self.then.ratio / self.now.ratio

    @property
    def interval(self) -> Interval | None:
        """None where the rounds are too few to tell anything."""
        now, then = (
            at_confidence((m.ratio, m.ratio_interval.low, m.ratio_interval.high), m.rounds, self.confidence)
            for m in (self.now, self.then)
        )
        return None if now is None or then is None else Interval(*quotient_interval(now, then)[1:])

    @property
    def is_shown(self) -> bool:
        """What varies within the two runs does not explain it."""
        return self.interval is not None and self.interval.low > 1.0


def slowdown_gate(
    before: BenchmarkResult, now: BenchmarkResult, max_slowdown: float, note: Callable[[str], None]
) -> tuple[Slowdown, ...]:
    """Every figure of ``before``, compared; ``LatencyGateError`` where one is slower by over ``max_slowdown``.

    A model has one figure a scenario. Offline it is the batch size that was best for it then, in both runs: at a batch
    size the slices of a model and of the baseline model were taken side by side, which its best of then and its best of
    now were not. An error takes both: a factor over the limit, and an interval of it that lies over 1, at a confidence
    of 1 - 0.05 / figures (Bonferroni; a page of two runs has one factor, and 95 %). ``note`` gets a line for each that
    is over the limit and not shown to be slower, and where the baseline model's own time moved by as much.

    Raises ``UsageError`` as ``require_same_conditions``, and for other threads; ``MissingRuntimeError`` for a figure
    that could not be measured now.
    """
    require_same_conditions(before, now.bundles, now.settings, now.machine, now.baseline)
    threads = [{m.name: m.threads for m in r.models} for r in (before, now)]
    both = [name for name in threads[0] if name in threads[1]]
    _require_same({f"the number of {name}'s threads": (threads[0][name], threads[1][name]) for name in both})
    compared = figures(before)
    slowdowns = tuple(
        Slowdown(figure, then, _measured_now(now, figure), 1.0 - FALSE_ALARMS / len(compared))
        for figure, then in compared.items()
    )
    for text in _moved(slowdowns, now.baseline, max_slowdown):
        note(f"warning: {text}")
    over = sorted((s for s in slowdowns if s.factor > max_slowdown), key=lambda s: -s.factor)
    for slowdown in over:
        if not slowdown.is_shown:
            note(
                f"warning: {_sentence(slowdown, now.baseline)}; {max_slowdown:g} is allowed, but noise alone may do "
                f"this with so few samples: measure both longer, with --min-duration"
            )
    if shown := [s for s in over if s.is_shown]:
        named = "; ".join(_sentence(s, now.baseline) for s in shown[:NAMED])
        more = f"; and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
        raise LatencyGateError(f"{named}{more}; {max_slowdown:g} is allowed{_doubted(before, now)}")
    return slowdowns


def figures(result: BenchmarkResult) -> dict[Figure, Measured]:
    """What a run can be compared by, as ``slowdown_gate`` says; the baseline model itself is 1 by definition.

    ``UsageError`` where there is nothing, or samples of a scenario are not those of the same rounds.
    """
    best = [row for model in result.models if (row := best_throughput(result, model.name)) is not None]
    wanted = [
        *(Figure("single_stream", row.model, row.images_per_query) for row in result.single_stream),
        *(Figure("multi_stream", row.model, row.images_per_query) for row in result.multi_stream),
        *(Figure("offline", row.model, row.batch) for row in best),
    ]
    measured_figures = {}
    for figure in wanted:
        if figure.model == result.baseline:
            continue
        if (measured := _measured(result, figure)) is None:
            raise UsageError(
                f"--baseline has no rounds of {figure} that timed both {figure.model} and {result.baseline}: make a "
                f"new baseline"
            )
        measured_figures[figure] = measured
    if not measured_figures:
        raise UsageError(
            "--baseline has no figure beside its own baseline model's: make one of at least two models and a scenario"
        )
    return measured_figures


def _measured(result: BenchmarkResult, figure: Figure) -> Measured | None:
    if figure.scenario == "offline":
        by_model = {
            row.model: (row.ratio, row.ratio_interval, len(row.slices), row.images_per_s)
            for row in result.offline
            if row.batch == figure.images
        }
    else:
        rows = result.single_stream if figure.scenario == "single_stream" else result.multi_stream
        by_model = {
            row.model: (row.ratio, row.ratio_interval, len(row.samples_ms), row.median_ms)
            for row in rows
            if row.images_per_query == figure.images
        }
    own, base = by_model.get(figure.model), by_model.get(result.baseline)
    if own is None or base is None or own[2] != base[2]:  # not of the same rounds
        return None
    return Measured(*own, baseline_median=base[3])


def _measured_now(now: BenchmarkResult, figure: Figure) -> Measured:
    measured = _measured(now, figure)
    if measured is None:
        case = f"{SCENARIO_TITLES[figure.scenario]} with {figure.images} images"
        of_it = (figure.model, f"{figure.model}, {case}", case)
        raise MissingRuntimeError(
            f"{figure} of {figure.model} is in --baseline and could not be measured now"
            f"{_because(now.skipped, of_it, figure.model)}: mend that, or make a new baseline"
        )
    return measured


def _because(skipped: Sequence[Skipped], names: Sequence[str], model: str) -> str:
    """The reason in brackets. A runtime that is missing as a whole stands under its name alone."""
    reasons = [s.reason for s in skipped if s.model in names or model.startswith(f"{s.model}-")]
    return f" ({reasons[0]})" if reasons else ""


def _sentence(s: Slowdown, baseline: str) -> str:
    model, end = s.figure.model, s.interval
    interval = "too few samples for an interval" if end is None else f"interval {end.low:.2f} to {end.high:.2f}"
    return (
        f"{s.figure}: {model} lost a factor of {s.factor:.2f} against {baseline} ({interval}): {s.then.ratio:.2f} "
        f"times as fast then, {s.now.ratio:.2f} times now ({model}: {_change(s.figure, s.then.median, s.now.median)}; "
        f"{baseline}: {_change(s.figure, s.then.baseline_median, s.now.baseline_median)})"
    )


def _change(figure: Figure, then: float, now: float) -> str:
    if figure.scenario == "offline":
        return f"{then:.1f} images/s then, {now:.1f} now"
    return f"{then:.2f} ms then, {now:.2f} now"


def _moved(slowdowns: Sequence[Slowdown], baseline: str, limit: float) -> Iterator[str]:
    """What ratios cannot show: of each scenario the figure by which the baseline model itself moved most."""
    most: dict[Scenario, tuple[float, Slowdown]] = {}
    for s in slowdowns:
        factor = s.now.baseline_median / s.then.baseline_median
        moved = max(factor, 1.0 / factor)
        if moved > limit and moved > most.get(s.figure.scenario, (0.0,))[0]:
            most[s.figure.scenario] = moved, s
    for _, s in most.values():
        yield (
            f"{s.figure}: {baseline} itself: {_change(s.figure, s.then.baseline_median, s.now.baseline_median)}: the "
            f"machine or {baseline} changed its speed, and what slows all models alike is not seen in their ratios"
        )


def _doubted(before: BenchmarkResult, now: BenchmarkResult) -> str:
    counts = [(len(before.doubts), "the baseline's figures"), (len(now.doubts), "this run's")]
    words = [f"{count} {'doubt' if count == 1 else 'doubts'} about {of}" for count, of in counts if count]
    return f" (mind {' and '.join(words)})" if words else ""


def require_same_conditions(
    before: BenchmarkResult,
    bundles: Sequence[BenchmarkBundle],
    settings: BenchmarkSettings,
    machine: Machine,
    against: str | None,
) -> None:
    """``UsageError`` for a run whose ratios would not mean the same as those of ``before``, or would leave some out.

    All of it is known before anything is measured. ``against`` None: the baseline model is not chosen yet.
    """
    compared = figures(before)
    queries = sorted({figure.images for figure in compared if figure.scenario == "multi_stream"})
    _require_same(
        {
            "the CPU": (before.machine.cpu, machine.cpu),
            "the device": (before.settings.device, settings.device),
            "the GPU": tuple(m.card if settings.device == "cuda" else None for m in (before.machine, machine)),
            "the number of cores": (before.machine.logical_cores, machine.logical_cores),
            "the number of bundles": (len(before.bundles), len(bundles)),
            "the variant": ([b.variant for b in before.bundles], [b.variant for b in bundles]),
            "the input size": ([b.input_size for b in before.bundles], [b.input_size for b in bundles]),
            "the number of threads": tuple(s.threads or "each engine's choice" for s in (before.settings, settings)),
            "the number of streams": (before.settings.streams, settings.streams),
            "the model that ratios are taken to": (before.baseline, against or before.baseline),
        }
    )
    left_out = [SCENARIO_TITLES[s] for s in dict.fromkeys(f.scenario for f in compared) if s not in settings.scenarios]
    _require_measured(left_out, "figures of", "--scenario")
    if queries:
        _require_same({"the size of a MultiStream query": (queries, [settings.multi_stream_samples])})
    batches = {figure.images for figure in compared if figure.scenario == "offline"}
    _require_measured(sorted(batches - set(settings.batches)), "its best Offline figures at batch", "--batch")


def require_same_models(before: BenchmarkResult, timed: Sequence[str], skipped: Sequence[Skipped]) -> None:
    """Every model that ``before`` has a figure of must be among those that will be ``timed``.

    ``MissingRuntimeError`` where it cannot run here, ``UsageError`` where it was not asked for.
    """
    wanted = dict.fromkeys([before.baseline, *(figure.model for figure in figures(before))])
    for model in wanted:
        if model in timed:
            continue
        if because := _because(skipped, [model], model):
            raise MissingRuntimeError(
                f"{model} is in --baseline and cannot be measured here{because}: mend that, or make a new baseline"
            )
        _require_measured([model], "figures of", "the choice of bundles and runtimes")


def _require_measured(left_out: Sequence[object], what: str, by: str) -> None:
    if left_out:
        raise UsageError(
            f"--baseline has {what} {', '.join(map(str, left_out))}, which {by} leaves out: measure the same, or make "
            f"a new baseline"
        )


def _require_same(pairs: Mapping[str, tuple[object, ...]]) -> None:
    for what, (then, here) in pairs.items():
        if then != here:
            raise UsageError(
                f"--baseline cannot be compared with this run, {what} differs ({then} then, {here} now): measure a "
                f"baseline the same way on this machine"
            )
