"""Accuracy over latency: every model whose accuracy and latency are both known.

In: a side of a report and the runs. Out: blocks of its page.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.bundle.layout import FP32_IR, PRECISIONS
from edge_van.bundle.records import Interval, Manifest
from edge_van.reports.figures.planes import Point, scatter
from edge_van.reports.format import interval, ms, number
from edge_van.reports.lookup import Runs, level_of, metric_of, models_of, query, run_of, titled
from edge_van.reports.record import Report, Side
from edge_van.reports.sections.labels import labels_of, runtime_name
from edge_van.reports.view import Block, Plot, Table, Text, columns
from edge_van.text import precision_words

Known = tuple[str, Point, str]
"""A model's label, its point, and what its accuracy is of."""
CAPTION = (
    "Upper left is better. Whiskers: FP32's {metric} less the 95 % interval of the drop. They show how sure a model's "
    "distance to FP32 is, not how sure its {metric} is: that interval stands under Accuracy."
)


def points_of(report: Report) -> tuple[Point, ...]:
    """Of all sides: their planes share both axes."""
    return tuple(point for side in report.sides for _, point, _ in _points(side, report.runs)[0])


def plane(side: Side, runs: Runs, name: str, also: Sequence[Point] = ()) -> tuple[Block, ...]:
    """One point a model; the axes hold ``also`` too."""
    if side.manifest is None:
        return (Text("A benchmark's result holds no accuracy: give the bundle's folder to see both.", "hint"),)
    run, (points, unknown) = run_of(side, runs), _points(side, runs)
    blocks: list[Block] = []
    if points:
        metric = metric_of(side.manifest)
        title = f"{titled(metric)} over latency"
        wide, narrow = scatter(f"{name}-plane", title, [point for _, point, _ in points], metric=metric, also=also)
        heads = ("model", "median, ms", f"{metric}, %", "FP32's less the drop's 95 % interval", "accuracy is of")
        table = Table(
            "The figures",
            columns(*heads, text=(0, 4)),
            tuple(
                (label, ms(p.latency_ms), number(p.percent), interval(p.whisker), source) for label, p, source in points
            ),
            folded=True,
        )
        blocks.append(
            Plot(
                f"{name}-plane",
                title,
                wide,
                narrow,
                table,
                CAPTION.format(metric=metric) + (_clock(side) if run is None else ""),
            )
        )
    else:
        blocks.append(Text("No model has both its accuracy and its latency measured.", "hint"))
    if run is None and _of_quantize(side.manifest) and _of_engines(side.manifest):
        blocks.append(Text("Engines are not drawn: edge-van build timed them on a GPU, by another clock."))
    if unknown:
        blocks.append(Text(f"Not drawn, as nobody measured their accuracy: {', '.join(unknown)}."))
    return tuple(blocks)


def _points(side: Side, runs: Runs) -> tuple[list[Known], list[str]]:
    """What is known, and the labels of timed models without an accuracy."""
    manifest, run = side.manifest, run_of(side, runs)
    if manifest is None:
        return [], []
    if run is None:
        return _of_quantize(manifest) or _of_engines(manifest), []
    # engines were timed at another time, by another clock: not on one axis with a run, nor with quantize's latency
    points, unknown = [], []
    models = models_of(side, runs)
    labels = labels_of(models, run)
    for model in models:
        if (row := query(run, model.name)) is None:
            continue
        label = labels[model.name].whole
        if (level := level_of(manifest, model.runtime, model.precision, model.file)) is None:
            unknown.append(label)
            continue
        point = Point(model.runtime, model.precision, row.median_ms, level.percent, level.interval)
        points.append((label, point, level.source))
    return points, unknown


def _clock(side: Side) -> str:
    """Whose latency is drawn where there is no run."""
    if side.manifest is not None and _of_quantize(side.manifest):
        return " Latency is that of edge-van quantize."
    return " Latency is that of edge-van build, of each engine on its own target."


def _of_quantize(manifest: Manifest) -> list[Known]:
    points = []
    for row in () if manifest.latency is None else manifest.latency.rows:
        level = level_of(manifest, row.runtime, row.name, PRECISIONS.get(row.name, (FP32_IR,))[0])
        if level is not None:
            point = Point(row.runtime, row.name, row.median_ms, level.percent, level.interval)
            points.append((f"{runtime_name(row.runtime)} {precision_words(row.name)}", point, level.source))
    return points


def _of_engines(manifest: Manifest) -> list[Known]:
    points = []
    schemes = {s.name: s.accuracy for s in manifest.schemes if s.accuracy is not None}
    for tag, engines in manifest.engines.items():
        runtime = engines.engines[0].runtime if engines.engines else "tensorrt"
        for timing in engines.choice.table:
            if timing.median_ms is None or (accuracy := schemes.get(timing.scheme)) is None:
                continue
            drop, base = accuracy.drop_interval, accuracy.fp32_percent
            whisker = Interval(base - drop.high, base - drop.low)
            point = Point(runtime, timing.scheme, timing.median_ms, accuracy.int8_percent, whisker)
            points.append((f"{timing.scheme} engine, {tag}", point, "the graph computed exactly"))
    return points
