"""A report as a page: the verdict, then every section in its order.

In: a ``Report``. Out: a ``Page``, which both templates walk through.
"""

from __future__ import annotations

from functools import partial

from edge_van.reports.format import interval, ms, number, signed, signed_interval
from edge_van.reports.lookup import shipped_accuracy
from edge_van.reports.record import Report, Side, Verdict
from edge_van.reports.sections import (
    accuracy,
    attention,
    budget,
    cost,
    for_each_side,
    latency,
    origin,
    sensitivity,
    tradeoff,
)
from edge_van.reports.view import Fact, Page, VerdictView


def page_of(report: Report) -> Page:
    """Every plot is drawn here."""
    names = " and ".join(side.name for side in report.sides)
    overall = partial(accuracy.overall, ends=accuracy.drop_ends(report))
    plane = partial(tradeoff.plane, also=tradeoff.points_of(report))
    layers = partial(cost.layers, also=cost.part_times(report))
    noise = partial(accuracy.sqnr, also=accuracy.sqnr_values(report))
    classes = partial(accuracy.classes, also=accuracy.recalls(report))
    attends = partial(attention.grad_cam, also=attention.all_correlations(report))
    sections = [
        for_each_side(report, "accuracy", "Accuracy", overall),
        latency.latency(report),
        for_each_side(report, "tradeoff", "Accuracy over latency", plane),
        for_each_side(report, "layers", "Where the time goes", layers),
        for_each_side(report, "logits", "Noise on the logits", noise),
        for_each_side(report, "classes", "Class by class", classes),
        for_each_side(report, "attention", "Where the network looks", attends),
    ]
    if budget.has_budget(report):
        sections.insert(1, for_each_side(report, "budget", "The budget", budget.budget))
    if sensitivity.has_sensitivity(report):
        after = [section.name for section in sections].index("logits") + 1
        sections.insert(after, for_each_side(report, "sensitivity", "Which layers cost", sensitivity.sensitivity))
    if origin.has_engines(report):
        sections.append(for_each_side(report, "engines", "TensorRT engines", origin.engines))
    sections.append(origin.origin(report))
    return Page(
        title=names,
        subtitle=_subtitle(report),
        verdicts=tuple(
            VerdictView(verdict, _facts(side, verdict))
            for side, verdict in zip(report.sides, report.verdicts, strict=True)
        ),
        comparison=tuple(sentence for comparison in report.comparisons for sentence in comparison.sentences),
        sections=tuple(sections),
        created=report.created,
        version=report.edge_van_version,
    )


def _subtitle(report: Report) -> str:
    subjects = []
    for side in report.sides:
        if side.manifest is not None:
            size, m = side.manifest.input_spec.size, side.manifest
            subjects.append(f"VAN-{m.variant}, {m.num_classes:,} classes, {size[0]} x {size[1]} px")
        elif side.run is not None:
            bundle = next(b for b in report.runs[side.run].bundles if b.name == side.run_bundle)
            subjects.append(f"VAN-{bundle.variant}, {bundle.input_size[0]} x {bundle.input_size[1]} px")
    return "; ".join(dict.fromkeys(subjects))


def _facts(side: Side, verdict: Verdict) -> tuple[Fact, ...]:
    """The three figures a reader looks for first; only those that were measured."""
    facts = []
    measured = None if side.manifest is None else shipped_accuracy(side.manifest)
    if measured is not None:
        facts.append(
            Fact(
                f"{measured.metric} drop",
                f"{signed(measured.drop_points)} points",
                f"{signed_interval(measured.drop_interval)}; {number(measured.fp32_percent)} to "
                f"{number(measured.int8_percent)} %",
            )
        )
    if (speed := verdict.speed) is not None:
        facts.append(
            Fact(
                "speed",
                f"{number(speed.ratio)}×",
                f"{interval(speed.interval)}; {ms(speed.baseline_median_ms)} to {ms(speed.median_ms)} ms, timed by "
                f"{speed.measured_by}",
            )
        )
    if side.manifest is not None:
        sizes = {entry.path: entry.size_bytes for entry in side.manifest.files}
        fp32, int8 = (
            sum(size for path, size in sizes.items() if path.startswith(folder))
            for folder in ("openvino_fp32/", "openvino/")
        )
        if fp32 and int8:
            times = f"{number(fp32 / int8)}× smaller" if int8 <= fp32 else f"{number(int8 / fp32)}× larger"
            facts.append(Fact("size", times, f"{number(fp32 / 1e6, 1)} to {number(int8 / 1e6, 1)} MB"))
    return tuple(facts)
