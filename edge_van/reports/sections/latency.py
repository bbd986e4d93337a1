"""How fast each model is: single queries, several at once, throughput, and what that costs.

In: a side of a report and the runs. Out: blocks of its page.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.bundle.records import Latency
from edge_van.reports.figures.rows import Axis, BarRow, DistributionRow, IntervalRow, bars, distributions, intervals
from edge_van.reports.format import images_per_s, interval, ms, number
from edge_van.reports.lookup import Runs, models_of, run_of
from edge_van.reports.record import Report, Side
from edge_van.reports.sections.cost import costs, what_is_timed
from edge_van.reports.sections.labels import Label, labels_of, runtime_name
from edge_van.reports.view import Block, Group, Plot, Section, Table, Text, columns
from edge_van.text import precision_words
from edge_van.timing.record import BenchmarkModel, BenchmarkResult, QueryLatency, best_throughput

NO_BENCHMARK = Text(
    "There is no benchmark of this bundle: run edge-van benchmark BUNDLE for every runtime, throughput, start-up, "
    "memory and the layers.",
    "hint",
)
HOW = (
    "Every round times each model once, in changing order; a ratio is the median over the rounds of the baseline's "
    "time divided by this model's in the same round, with its 95 % interval. Over 1 is faster."
)
QUERY_COLUMNS = columns(
    "model", "p50, ms", "p90, ms", "p99, ms", "spread, %", "times baseline", "95 % interval", "samples"
)


def latency(report: Report) -> Section:
    """Sides of one run are drawn into one plot: there milliseconds can be compared, elsewhere they cannot."""
    indices = {side.run for side in report.sides}
    title = "Latency and what it costs"
    if len(report.sides) > 1 and len(indices) == 1 and None not in indices:
        run = report.runs[0 if report.sides[0].run is None else report.sides[0].run]
        bundles = {side.run_bundle for side in report.sides}  # the run may have timed others too
        models = tuple(m for m in run.models if m.bundle in bundles)
        return Section("latency", title, (Group(of_run(run, models, "latency")),))
    several = len(report.sides) > 1
    ends = _ratio_ends(report) if several else ()
    return Section(
        "latency",
        title,
        tuple(
            Group(_of_side(side, report.runs, f"latency-{i}", ends), side.name if several else "")
            for i, side in enumerate(report.sides)
        ),
    )


def _ratio_ends(report: Report) -> tuple[float, ...]:
    """Ends of every ratio's interval: the plots of all sides share an axis, in which they may be compared."""
    bounds = [row.ratio_interval for run in report.runs for row in (*run.single_stream, *run.multi_stream)]
    for side in report.sides:
        if side.run is None and side.manifest is not None and side.manifest.latency is not None:
            bounds += [row.ratio_interval for row in side.manifest.latency.rows]
    return tuple(end for bound in bounds for end in (bound.low, bound.high))


def _of_side(side: Side, runs: Runs, name: str, ends: Sequence[float]) -> tuple[Block, ...]:
    active = _active(side)
    if (run := run_of(side, runs)) is not None:
        return (*of_run(run, models_of(side, runs), name, ends), *active)
    latency = None if side.manifest is None else side.manifest.latency
    return (NO_BENCHMARK,) if latency is None else (*_of_manifest(latency, name, ends), *active, NO_BENCHMARK)


def _active(side: Side) -> tuple[Block, ...]:
    """What ``edge-van quantize`` chose on its own CPU, which need not be that of a run."""
    manifest = side.manifest
    if manifest is None or manifest.cpu is None:
        return ()
    active = precision_words(str(manifest.cpu.active))
    return (Text(f"Active on {manifest.machine.cpu}, as edge-van quantize found: {active}, {manifest.cpu.reason}."),)


def of_run(
    run: BenchmarkResult, models: Sequence[BenchmarkModel], name: str, ends: Sequence[float] = ()
) -> tuple[Block, ...]:
    """Everything a run says of ``models``; the axes of its ratios hold ``ends`` too."""
    labels = labels_of(models, run)
    precisions = {model.name: model.precision for model in models}
    blocks: list[Block] = []
    if single := [row for row in run.single_stream if row.model in labels]:
        blocks.append(Text(f"One image at a time, {len(single[0].samples_ms):,} rounds. {HOW}"))
        blocks += _queries(single, labels, precisions, f"{name}-single", "Latency of one image", run.baseline, ends)
    if multi := [row for row in run.multi_stream if row.model in labels]:
        images = multi[0].images_per_query
        title = f"Latency of a query of {images} images at once"
        blocks += _queries(multi, labels, precisions, f"{name}-multi", title, run.baseline, ends)
    if any(row.model in labels for row in run.offline):
        blocks.append(_throughput(run, labels, precisions, f"{name}-offline"))
    blocks += [*what_is_timed(models), *costs(run, models, labels, name)]
    return tuple(blocks)


def _queries(
    rows: Sequence[QueryLatency],
    labels: dict[str, Label],
    precisions: dict[str, str],
    name: str,
    title: str,
    baseline: str,
    ends: Sequence[float],
) -> list[Block]:
    table = Table(
        "The figures",
        QUERY_COLUMNS,
        tuple(
            (
                labels[r.model].whole,
                ms(r.median_ms),
                ms(r.p90_ms),
                ms(r.p99_ms),
                number(100 * r.coefficient_of_variation, 1),
                number(r.ratio),
                interval(r.ratio_interval),
                f"{len(r.samples_ms):,}",
            )
            for r in rows
        ),
        folded=True,
    )
    spread = [
        DistributionRow(labels[r.model].plot, precisions[r.model], r.samples_ms, r.median_ms, r.p90_ms, r.p99_ms)
        for r in rows
    ]
    blocks: list[Block] = [_distribution(spread, name, title, table)]
    others = [r for r in rows if r.model != baseline]
    if others:
        base = labels[baseline].whole if baseline in labels else baseline
        ratios = [IntervalRow(labels[r.model].plot, precisions[r.model], r.ratio, r.ratio_interval) for r in others]
        wholes = [labels[r.model].whole for r in others]
        blocks.append(_ratio(ratios, wholes, f"{name}-ratio", f"Times as fast as {base}: {title.lower()}", ends))
    return blocks


def _distribution(rows: Sequence[DistributionRow], name: str, title: str, table: Table) -> Plot:
    wide, narrow = distributions(name, title, rows, axis="ms")
    caption = "Density of the raw samples up to p99; the spread in the table is the standard deviation over the mean."
    return Plot(name, title, wide, narrow, table, caption)


def _ratio(rows: Sequence[IntervalRow], wholes: Sequence[str], name: str, title: str, ends: Sequence[float]) -> Plot:
    table = Table(
        "The figures",
        columns("model", "times as fast", "95 % interval"),
        tuple((whole, number(r.value), interval(r.interval)) for whole, r in zip(wholes, rows, strict=True)),
        folded=True,
    )
    wide, narrow = intervals(
        name, title, rows, axis=Axis("times as fast; further right is faster", ends), reference=1.0, show=number
    )
    return Plot(name, title, wide, narrow, table, "Medians of paired ratios with their 95 % intervals; the line is 1.")


def _of_manifest(latency: Latency, name: str, ends: Sequence[float]) -> tuple[Block, ...]:
    """The interleaved run of ``edge-van quantize``."""
    rows = latency.rows
    labels = {row.name: f"{runtime_name(row.runtime)} {precision_words(row.name)}" for row in rows}
    table = Table(
        "The figures",
        columns("model", "p50, ms", "p90, ms", "p99, ms", "times FP32", "95 % interval"),
        tuple(
            (labels[r.name], ms(r.median_ms), ms(r.p90_ms), ms(r.p99_ms), number(r.ratio), interval(r.ratio_interval))
            for r in rows
        ),
        folded=True,
    )
    spread = [DistributionRow(labels[r.name], r.name, r.samples_ms, r.median_ms, r.p90_ms, r.p99_ms) for r in rows]
    ratios = [
        IntervalRow(labels[r.name], r.name, r.ratio, r.ratio_interval) for r in rows if r.name != latency.baseline
    ]
    blocks: list[Block] = [
        Text(f"Measured by edge-van quantize: one image at a time, {latency.rounds:,} rounds. {HOW}"),
        _distribution(spread, f"{name}-single", "Latency of one image", table),
    ]
    if ratios:
        title = f"Times as fast as {labels.get(latency.baseline, latency.baseline)}"
        blocks.append(_ratio(ratios, [r.label for r in ratios], f"{name}-ratio", title, ends))
    return tuple(blocks)


def _throughput(run: BenchmarkResult, labels: dict[str, Label], precisions: dict[str, str], name: str) -> Plot:
    best = [row for model in labels if (row := best_throughput(run, model)) is not None]
    title = "Throughput, each model at its best batch size"
    wide, narrow = bars(
        name,
        title,
        [
            BarRow(
                labels[r.model].plot,
                precisions[r.model],
                ((r.images_per_s,),),
                (f"{images_per_s(r.images_per_s)} (batch {r.batch})",),
            )
            for r in best
        ],
        axis=Axis("images per second; longer is faster"),
    )
    energy = any(row.joules_per_image is not None for row in run.offline)
    memory = any(row.device_memory_mib is not None for row in run.offline)
    heads = ["model", "batch", "requests", "images/s", "spread, %", "times baseline", "95 % interval"]
    table = Table(
        "The figures",
        columns(*heads, *(["mJ/image"] if energy else []), *(["GPU MiB"] if memory else [])),
        tuple(
            (
                labels[r.model].whole,
                str(r.batch),
                str(r.streams),
                images_per_s(r.images_per_s),
                number(100 * r.coefficient_of_variation, 1),
                number(r.ratio),
                interval(r.ratio_interval),
                *([number(None if r.joules_per_image is None else 1e3 * r.joules_per_image, 2)] if energy else []),
                *([number(r.device_memory_mib, 0)] if memory else []),
            )
            for r in run.offline
            if r.model in labels
        ),
        folded=True,
    )
    requests = "one request" if run.settings.streams == 1 else f"up to {run.settings.streams} requests"
    caption = f"As many images as go through, batch after batch, {requests} in flight; ratios are at the same batch."
    return Plot(name, title, wide, narrow, table, caption)
