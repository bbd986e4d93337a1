"""Which engine becomes the active one: the fastest whose graph is accurate enough.

In: a table of accuracies and times. Out: an ``EngineChoice`` with its reason.
"""

from __future__ import annotations

from edge_van.bundle.engine_record import EngineChoice, SchemeTiming


def choose_engine(table: tuple[SchemeTiming, ...], max_drop_points: float, timed_by: str = "") -> EngineChoice:
    """The fastest scheme whose measured drop is within ``max_drop_points``.

    A scheme that was not timed, or whose accuracy is not known, is not chosen. ``active`` is None if none is left.
    """
    fit = [
        row
        for row in table
        if row.median_ms is not None and row.drop_points is not None and row.drop_points <= max_drop_points
    ]
    if not fit:
        return EngineChoice(None, max_drop_points, _why_none(table, max_drop_points), table, timed_by)
    best = min(fit, key=lambda row: (row.median_ms or 0.0, row.scheme))
    others = [row for row in fit if row is not best]
    reason = f"{best.scheme} is the fastest within {max_drop_points:g} points: {best.median_ms:.3f} ms"
    if others:
        second = min(others, key=lambda row: row.median_ms or 0.0)
        reason += f", the next {second.scheme} with {second.median_ms:.3f} ms"
    return EngineChoice(best.scheme, max_drop_points, reason, table, timed_by)


def _why_none(table: tuple[SchemeTiming, ...], max_drop_points: float) -> str:
    timed = [row for row in table if row.median_ms is not None]
    if not timed:
        return "no engine was timed"
    known = [row.drop_points for row in timed if row.drop_points is not None]
    if not known:
        return "the accuracy of no engine that was timed is known: run edge-van quantize again with --data"
    return f"every engine loses over {max_drop_points:g} points, the best {min(known):.2f}"


def over_the_limit(choice: EngineChoice) -> bool:
    """Whether engines were timed, and the accuracy of each that has one rules it out."""
    drops = [row.drop_points for row in choice.table if row.median_ms is not None]
    known = [drop for drop in drops if drop is not None]
    return bool(known) and min(known) > choice.max_drop_points
