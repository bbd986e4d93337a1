"""What a model costs besides time a query: start-up, memory, file size; and where its time goes, layer by layer.

In: a run and its models. Out: blocks of a page.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.reports.figures.rows import Axis, BarRow, bars, cut_of
from edge_van.reports.format import ms, number, size
from edge_van.reports.lookup import Runs, models_of, profile, run_of
from edge_van.reports.parts import PARTS, by_operator, by_part
from edge_van.reports.record import Report, Side
from edge_van.reports.sections.labels import Label, runtime_name
from edge_van.reports.view import Block, Plot, Table, Text, columns
from edge_van.timing.record import BenchmarkModel, BenchmarkResult, LayerProfile, Startup

MOST_OPERATORS = 12


def what_is_timed(models: Sequence[BenchmarkModel]) -> list[Block]:
    """What reaches each runtime, and where one was not left as it comes: not all do the same work."""
    by_input: dict[str, dict[str, None]] = {}
    for model in models:
        by_input.setdefault(model.takes, {})[runtime_name(model.runtime)] = None
    parts = [f"{', '.join(names)}: {takes}" for takes, names in by_input.items() if takes]
    parts += dict.fromkeys(f"{runtime_name(m.runtime)} is {m.settings}" for m in models if m.settings)
    return [Text(f"What reaches the model. {'. '.join(parts)}.", "hint")] if parts else []


def costs(run: BenchmarkResult, models: Sequence[BenchmarkModel], labels: dict[str, Label], name: str) -> list[Block]:
    """Start-up with and without a compile cache; memory, with the files' sizes in its table."""
    by_name = {model.name: model for model in models}
    rows = [row for row in run.startup if row.model in by_name]
    if not rows:
        return []
    table = Table(
        "The figures",
        columns(
            "model",
            "load, ms",
            "first inference, ms",
            "cached load, ms",
            "cached first, ms",
        ),
        tuple(
            (
                labels[r.model].whole,
                ms(r.load_ms),
                ms(r.first_inference_ms),
                ms(r.cached_load_ms),
                ms(r.cached_first_inference_ms),
            )
            for r in rows
        ),
        folded=True,
    )
    title = "Start-up: load and first inference in a fresh process"
    stacks = [_startup_row(r, labels[r.model].plot, by_name[r.model].precision) for r in rows]
    wide, narrow = bars(
        f"{name}-startup",
        title,
        stacks,
        axis=Axis("ms", cut=(cut := cut_of(stacks))),
        parts=("load", "first inference"),
        row_px=(44, 64),
    )
    caption = "Where a model has two bars, the second loads what the first process left in the engine's compile cache."
    if cut is not None:
        caption += " A bar with a gap is longer than the axis."
    startup = Plot(f"{name}-startup", title, wide, narrow, table, caption)
    title = "Peak memory of a process that loads and runs one model"
    wide, narrow = bars(
        f"{name}-memory",
        title,
        [
            BarRow(
                labels[r.model].plot,
                by_name[r.model].precision,
                ((max(r.peak_memory_mib - r.before_load_mib, 0.0), r.before_load_mib),),
                (f"{r.peak_memory_mib:,.0f} MiB, file {size(by_name[r.model].file_bytes)}",),
            )
            for r in rows
        ],
        axis=Axis("MiB resident"),
        parts=("the model", "the engine and Python"),
    )
    table = Table(
        "The figures",
        columns("model", "peak, MiB", "before load, MiB", "difference, MiB", "file"),
        tuple(
            (
                labels[r.model].whole,
                number(r.peak_memory_mib, 0),
                number(r.before_load_mib, 0),
                number(r.peak_memory_mib - r.before_load_mib, 0),
                size(by_name[r.model].file_bytes),
            )
            for r in rows
        ),
        folded=True,
    )
    caption = "Resident memory; before load: with the engine imported. A model's file includes the weights beside it."
    memory = Plot(f"{name}-memory", title, wide, narrow, table, caption)
    return [startup, memory]


def _startup_row(row: Startup, label: str, precision: str) -> BarRow:
    stacks = [(row.load_ms, row.first_inference_ms)]
    texts = [f"{ms(row.load_ms + row.first_inference_ms)} ms"]
    if row.cached_load_ms is not None and row.cached_first_inference_ms is not None:
        stacks.append((row.cached_load_ms, row.cached_first_inference_ms))
        texts.append(f"{ms(row.cached_load_ms + row.cached_first_inference_ms)} ms cached")
    return BarRow(label, precision, tuple(stacks), tuple(texts))


def part_times(report: Report) -> tuple[float, ...]:
    """Milliseconds of every part in every side's profiles: the plots of all sides share an axis."""
    profiles = [layered for side in report.sides for layered in _profiles(side, report.runs).values()]
    return tuple(value for layered in profiles for value in by_part(layered).values())


def _profiles(side: Side, runs: Runs) -> dict[str, LayerProfile]:
    """Of OpenVINO's FP32 and INT8, by precision, where both were profiled."""
    run = run_of(side, runs)
    by_precision: dict[str, LayerProfile] = {}
    for model in models_of(side, runs):
        if run is not None and model.runtime == "openvino" and model.precision in ("fp32", "int8"):
            layered = profile(run, model.name)
            by_precision |= {} if layered is None else {model.precision: layered}
    return by_precision if len(by_precision) == 2 else {}


def layers(side: Side, runs: Runs, name: str, also: Sequence[float] = ()) -> tuple[Block, ...]:
    """OpenVINO's FP32 beside INT8, summed by part of the network, and by operator in a table; the axis holds ``also``
    too."""
    if run_of(side, runs) is None:
        return (Text("Layer by layer: run edge-van benchmark BUNDLE.", "hint"),)
    if not (profiles := _profiles(side, runs)):
        return (Text("The benchmark holds no layer profile of OpenVINO's FP32 and INT8.", "hint"),)
    sums = {p: by_part(profiles[p]) for p in ("fp32", "int8")}
    shown = [part for part in PARTS if any(sums[p][part] > 0 for p in sums)]
    if not shown:
        return (Text("The layer profile holds no time."),)
    title = "Time by part of the network, OpenVINO FP32 and INT8"
    wide, narrow = bars(
        f"{name}-parts",
        title,
        [
            BarRow(part, "", tuple((sums[p][part],) for p in sums), tuple(f"{ms(sums[p][part])}" for p in sums))
            for part in shown
        ],
        axis=Axis("ms, sum of the kernels' means", also),
        precisions=("fp32", "int8"),
        row_px=(42, 60),
    )
    table = Table(
        "The figures",
        columns("part", "FP32, ms", "INT8, ms", "times as fast"),
        (
            *(
                (part, *(ms(sums[p][part]) for p in sums), _times(sums["fp32"][part], sums["int8"][part]))
                for part in shown
            ),
            (
                "all kernels",
                *(ms(sum(sums[p].values())) for p in sums),
                _times(sum(sums["fp32"].values()), sum(sums["int8"].values())),
            ),
        ),
        folded=True,
    )
    caption = (
        f"Means over {profiles['fp32'].runs} runs with the engine's profiler on, which slows it: compare shares, not "
        f"the sum with the latency above. A kernel carries its convolution's name also where the engine "
        f"fused what follows."
    )
    return (
        Plot(f"{name}-parts", title, wide, narrow, table, caption),
        *(_operators(profiles[p], p.upper()) for p in ("fp32", "int8")),
    )


def _times(before: float, after: float) -> str:
    return number(before / after if after > 0 else None)


def _operators(layered: LayerProfile, precision: str) -> Table:
    rows = by_operator(layered)
    total = sum(row.sum_ms for row in rows) or 1.0
    shown = [
        (row.operator, row.kernel, str(row.count), ms(row.sum_ms), number(100 * row.sum_ms / total, 1))
        for row in rows[:MOST_OPERATORS]
    ]
    if rest := rows[MOST_OPERATORS:]:
        spent = sum(row.sum_ms for row in rest)
        count = sum(row.count for row in rest)
        shown.append((f"{len(rest)} more", "", str(count), ms(spent), number(100 * spent / total, 1)))
    return Table(
        f"{precision} kernels by operator",
        columns("operator", "kernel", "count", "ms", "share, %", text=(0, 1)),
        tuple(shown),
        folded=True,
    )
