"""What each rung of a ladder loses over what it takes.

In: points. Out: SVG, wide and narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_van.bundle.interval import Interval
from edge_van.reports.figures.canvas import BAD, INK, MUTED, SURFACE, Canvas, colour_of, drawn, plain_ticks


@dataclass(frozen=True)
class FrontierPoint:
    """``number`` stands beside it; the table tells what it is. ``time`` is in the unit that ``axis`` names."""

    number: int
    time: float
    drop_points: float
    interval: Interval
    chosen: bool


def frontier(
    name: str,
    title: str,
    points: Sequence[FrontierPoint],
    *,
    metric: str,
    most_drop: float,
    axis: str,
    most_time: float | None,
) -> tuple[str, str]:
    """Lower left is better. Dashed lines are the limits, beyond which the ground is tinted."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(400 if canvas.narrow else 340)
        axes.grid()
        ends = [end for p in points for end in (p.interval.low, p.interval.high)] + [most_drop, 0.0]
        room = 0.1 * (max(ends) - min(ends) or 1.0)
        low, high = min(ends) - room, max(ends) + room
        times = [p.time for p in points] + ([] if most_time is None else [most_time])
        wide = 0.12 * (max(times) - min(times)) or 0.05 * max(times)
        axes.set_xlim(min(times) - wide, max(times) + wide)
        axes.set_ylim(low, high)
        dashes = (0, (4, 3))
        axes.axhline(most_drop, color=BAD, linewidth=1.2, linestyle=dashes)
        axes.axhspan(most_drop, high, color=BAD, alpha=0.08, linewidth=0)
        if most_time is not None:
            axes.axvline(most_time, color=BAD, linewidth=1.2, linestyle=dashes)
            axes.axvspan(most_time, max(times) + wide, color=BAD, alpha=0.08, linewidth=0)
        for p in points:
            tint = colour_of("int8" if p.chosen else "other")
            axes.plot([p.time] * 2, [p.interval.low, p.interval.high], color=tint, linewidth=2, alpha=0.55)
            axes.plot(
                [p.time],
                [p.drop_points],
                "o",
                color=tint,
                markersize=11 if p.chosen else 8,
                markeredgecolor=SURFACE,
                markeredgewidth=1.2,
            )
            axes.annotate(
                str(p.number),
                (p.time, p.drop_points),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=INK if p.chosen else MUTED,
            )
        plain_ticks(axes, canvas)
        axes.set_xlabel(axis)
        axes.set_title(f"{metric} lost, points", loc="left", color=MUTED, fontsize=12)

    return drawn(name, title, draw)
