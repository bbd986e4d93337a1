"""What was tried to keep within a budget: the frontier of accuracy and latency, and what each rung cost.

In: a side of a report. Out: blocks of its page.
"""

from __future__ import annotations

from edge_van.bundle.budget_record import BudgetRecord, Rung
from edge_van.reports.figures.frontier import FrontierPoint, frontier
from edge_van.reports.format import interval, ms, number, signed, signed_interval
from edge_van.reports.lookup import Runs
from edge_van.reports.record import Report, Side
from edge_van.reports.view import Block, Plot, Table, Text, columns


def has_budget(report: Report) -> bool:
    return any(_record(side) is not None for side in report.sides)


def budget(side: Side, _: Runs, name: str) -> tuple[Block, ...]:
    """The limits and what came of them, the picture, a row a rung."""
    record = _record(side)
    if record is None:
        return (Text("Made by a recipe, not for a budget: edge-van quantize --max-drop POINTS looks for one.", "hint"),)
    limits = f"At most {record.budget.max_drop_points:g} points lost"
    if record.budget.max_latency_ms is not None:
        limits += f", at most {ms(record.budget.max_latency_ms)} ms an image"
    judged = (
        "A rung is inside where the upper end of its drop's 95 % interval is"
        if record.by_interval
        else "The images are too few for any interval to be inside: the drop itself decides"
    )
    count = len(record.rungs)
    looks = (
        f" The same images judged {count} rungs: what passes after several looks passes a little more easily."
        if count > 1
        else ""
    )
    outcome = "kept" if not record.missed else "not kept"
    intro = Text(f"{limits}: {outcome}. {record.reason[:1].upper()}{record.reason[1:]}. {judged}.{looks}")
    failed = [Text(f"Not made: {reason}.") for reason in record.failed]
    return (intro, *failed, _plot(record, name))


def _record(side: Side) -> BudgetRecord | None:
    return None if side.manifest is None else side.manifest.budget


def _plot(record: BudgetRecord, name: str) -> Plot:
    title = "What each rung loses and takes"
    most_ms = record.budget.max_latency_ms
    # rungs are timed minutes apart, each beside FP32: only where milliseconds are what is limited are they compared
    times = [100.0 / r.speedup if most_ms is None else r.median_ms for r in record.rungs]
    points = [
        FrontierPoint(i + 1, time, r.drop_points, r.drop_interval, i == record.chosen)
        for i, (time, r) in enumerate(zip(times, record.rungs, strict=True))
    ]
    wide, narrow = frontier(
        f"{name}-frontier",
        title,
        points,
        metric=", ".join(dict.fromkeys(rung.metric for rung in record.rungs)),
        most_drop=record.budget.max_drop_points,
        axis="time, % of FP32's in the same run" if most_ms is None else "median latency, ms",
        most_time=most_ms,
    )
    heads = (
        "",
        "rung",
        "drop, points",
        "95 % interval",
        "SQNR, dB",
        "ms",
        "times FP32",
        "95 % interval",
        "made in, s",
        "inside",
    )
    table = Table(
        "The rungs, in the order they were tried",
        columns(*heads, text=(1, 9)),
        tuple(_row(record, i, rung) for i, rung in enumerate(record.rungs)),
    )
    caption = "Lower left is better. Whiskers are the 95 % interval of the drop; the rung that was taken is larger."
    return Plot(f"{name}-frontier", title, wide, narrow, table, caption)


def _row(record: BudgetRecord, index: int, rung: Rung) -> tuple[str, ...]:
    return (
        str(index + 1),
        rung.name + (" (taken)" if index == record.chosen else ""),
        signed(rung.drop_points),
        signed_interval(rung.drop_interval),
        number(rung.logit_sqnr_db, 1),
        ms(rung.median_ms),
        number(rung.speedup),
        interval(rung.speedup_interval),
        number(rung.seconds, 0),
        record.verdict(rung),
    )
