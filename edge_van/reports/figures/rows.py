"""Plots that have one row a thing: intervals, distributions, bars, and pairs of points.

In: rows of figures. Out: SVG, wide and narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_van.bundle.records import Interval
from edge_van.reports.figures.canvas import (
    BAD,
    LINE,
    LOG_FROM,
    MUTED,
    SURFACE,
    Canvas,
    colour_of,
    drawn,
    plain_ticks,
)
from edge_van.reports.format import ms
from edge_van.text import precision_words


@dataclass(frozen=True)
class Axis:
    """Its words. It has room for values as large as ``also`` too, so that plots beside each other can share one.

    It ends at ``cut``: longer bars have a gap before it.
    """

    title: str
    also: Sequence[float] = ()
    cut: float | None = None


@dataclass(frozen=True)
class IntervalRow:
    label: str
    precision: str
    value: float
    interval: Interval


def intervals(
    name: str,
    title: str,
    rows: Sequence[IntervalRow],
    *,
    axis: Axis,
    reference: float,
    limit: tuple[float, str] | None = None,
    show: Callable[[float], str],
) -> tuple[str, str]:
    """A point and its interval a row, the value beside it; a line at ``reference``, and one at the ``limit`` with its
    words, beyond which the ground is tinted."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.row_axes(
            [row.label for row in rows], [show(row.value) for row in rows], base_px=64 if limit else 46
        )
        shown = [v for r in rows for v in (r.interval.low, r.interval.high, r.value)] + [reference, *axis.also]
        if limit is not None:
            shown.append(limit[0])
        low, high = min(shown), max(shown)
        pad = 0.08 * (high - low or 1.0)
        axes.set_xlim(low - pad, high + 2.2 * pad)
        axes.axvline(reference, color=MUTED, linewidth=1)
        if limit is not None:
            axes.axvline(limit[0], color=BAD, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.axvspan(limit[0], high + 2.2 * pad, color=BAD, alpha=0.08, linewidth=0)
            axes.annotate(
                limit[1],
                (limit[0], 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 4),
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=BAD,
                annotation_clip=False,
            )
        for y, row in enumerate(rows):
            tint = colour_of(row.precision)
            ends = [row.interval.low, row.interval.high]
            axes.plot(ends, [y, y], "|-", color=tint, linewidth=2, markersize=11, markeredgewidth=2)
            axes.plot([row.value], [y], "o", color=tint, markersize=7, markeredgecolor=SURFACE, markeredgewidth=1)
        axes.set_xlabel(axis.title)

    return drawn(name, title, draw)


@dataclass(frozen=True)
class DistributionRow:
    label: str
    precision: str
    samples_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float
    p99_ms: float


def distributions(name: str, title: str, rows: Sequence[DistributionRow], *, axis: str) -> tuple[str, str]:
    """The density of each row's samples up to just over p99, with marks at p50, p90 and p99."""
    medians = [row.p50_ms for row in rows]
    logarithmic = max(medians) > LOG_FROM * min(medians)

    def draw(canvas: Canvas) -> None:
        axes = canvas.row_axes([row.label for row in rows], [f"{ms(row.p50_ms)} ms" for row in rows], base_px=74)
        if logarithmic:
            axes.set_xscale("log")
        for y, row in enumerate(rows):
            tint = colour_of(row.precision)
            grid, height = _density(row, logarithmic)
            half = height * canvas.row_height * 0.75
            axes.fill_between(grid, y - half, y + half, color=tint, alpha=0.35, linewidth=0)
            axes.plot([row.p50_ms, row.p99_ms], [y, y], color=tint, linewidth=1.2, solid_capstyle="butt")
            axes.plot([row.p50_ms], [y], "o", color=tint, markersize=7, markeredgecolor=SURFACE, markeredgewidth=1.2)
            for value, mark in ((row.p90_ms, "|"), (row.p99_ms, "D")):
                axes.plot([value], [y], mark, color=tint, markersize=9 if mark == "|" else 4.5, markeredgewidth=1.6)
        low = min(min(row.samples_ms) for row in rows)
        high = max(row.p99_ms for row in rows)
        axes.set_xlim((low * 0.93, high * 1.08) if logarithmic else (low - 0.06 * (high - low), high * 1.05))
        plain_ticks(axes, canvas, logarithmic=logarithmic)
        axes.set_xlabel(axis + (", logarithmic" if logarithmic else ""))
        _marks_legend(canvas)

    return drawn(name, title, draw)


def _density(row: DistributionRow, logarithmic: bool) -> tuple[Any, Any]:
    """(grid, density scaled to 1 at its top), of the samples up to 1.02 times p99: a far outlier would flatten all."""
    from matplotlib.mlab import GaussianKDE

    samples = np.array(row.samples_ms)
    samples = samples[samples <= 1.02 * row.p99_ms]
    values = np.log(samples) if logarithmic else samples
    if len(values) < 3 or float(np.ptp(values)) == 0.0:
        return np.array([row.p50_ms]), np.array([1.0])
    grid = np.linspace(values.min(), values.max(), 72)
    density = GaussianKDE(values)(grid)
    return (np.exp(grid) if logarithmic else grid), density / density.max()


def _marks_legend(canvas: Canvas) -> None:
    from matplotlib.lines import Line2D

    marks = [("o", "p50", 8), ("|", "p90", 10), ("D", "p99", 5)]
    handles = [
        Line2D([], [], color=MUTED, marker=mark, linestyle="none", markersize=size, markeredgewidth=2, label=label)
        for mark, label, size in marks
    ]
    canvas.figure.legend(handles=handles, loc="outside upper right", ncols=3, handletextpad=0.1, columnspacing=1.2)


ALPHAS = (1.0, 0.5)
"""Of the parts of a stacked bar, from its start."""
MOST_MEDIANS = 12
"""A bar longer than so many medians of all makes the others too short to be compared."""


@dataclass(frozen=True)
class BarRow:
    """One or more bars of one thing, drawn under each other; each a sequence of stacked parts."""

    label: str
    precision: str
    bars: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...]  # one a bar, behind its end


def bars(
    name: str,
    title: str,
    rows: Sequence[BarRow],
    *,
    axis: Axis,
    parts: Sequence[str] = (),
    precisions: Sequence[str] = (),
    row_px: tuple[float, float] = (34, 52),
) -> tuple[str, str]:
    """Horizontal bars. ``parts`` name what is stacked (paler from part to part), ``precisions`` colour the bars of a
    row one by one where they are of different models."""
    longest = max((*(sum(bar) for row in rows for bar in row.bars), *axis.also), default=0.0) or 1.0
    end = longest if axis.cut is None else axis.cut

    def draw(canvas: Canvas) -> None:
        keys = bool(parts or precisions)
        axes = canvas.row_axes(
            [row.label for row in rows], wide_px=row_px[0], narrow_px=row_px[1], base_px=72 if keys else 46
        )
        axes.set_xlim(0, end * (1.3 if canvas.narrow else 1.16))
        for y, row in enumerate(rows):
            room = canvas.row_height * (1.2 if len(row.bars) > 1 else 1.0)
            each = room / len(row.bars)
            for b, (bar, text) in enumerate(zip(row.bars, row.texts, strict=True)):
                at = y - room / 2 + each * (b + 0.5) + (0.1 if canvas.narrow else 0.0)
                tint, start = colour_of(precisions[b] if precisions else row.precision), 0.0
                for p, value in enumerate(bar):
                    shown = min(value, end - start)
                    axes.barh(at, shown, each * 0.86, left=start, color=SURFACE, linewidth=0)  # the grid stays behind
                    face, edge = (tint, ALPHAS[p]), 1.0 if ALPHAS[p] < 1.0 else 0.0  # pale on the page: outlined
                    axes.barh(at, shown, each * 0.86, left=start, color=face, edgecolor=tint, linewidth=edge)
                    start += shown
                if sum(bar) > end:
                    axes.barh(at, 0.015 * end, each, left=0.93 * end, color=SURFACE, linewidth=0)
                axes.annotate(
                    text, (start, at), xytext=(4, 0), textcoords="offset points", va="center", color=MUTED, fontsize=11
                )
        axes.set_xlabel(axis.title)
        plain_ticks(axes, canvas)
        if keys:
            _bars_legend(canvas, parts, precisions)

    return drawn(name, title, draw)


def cut_of(rows: Sequence[BarRow]) -> float | None:
    """Where the axis of ``bars`` ends so that one bar of many times the others' length leaves these to be seen; None
    where all are alike enough."""
    totals = [sum(bar) for row in rows for bar in row.bars]
    within = [total for total in totals if total <= MOST_MEDIANS * float(np.median(totals))]
    return 1.25 * max(within) if 0 < len(within) < len(totals) and max(within) > 0.0 else None


def _bars_legend(canvas: Canvas, parts: Sequence[str], precisions: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour_of(p), label=precision_words(p)) for p in precisions]
    handles += [
        Patch(facecolor=(MUTED, alpha), edgecolor=MUTED, label=part, linewidth=1.0 if alpha < 1.0 else 0.0)
        for alpha, part in zip(ALPHAS, parts, strict=False)
    ]
    canvas.figure.legend(
        handles=handles,
        loc="outside upper right",
        ncols=len(handles),
        handlelength=1.0,
        handleheight=1.0,
        handletextpad=0.5,
        columnspacing=1.2,
    )


@dataclass(frozen=True)
class ChangeRow:
    label: str
    before: float
    after: float


def changes(
    name: str, title: str, rows: Sequence[ChangeRow], *, axis: str, also: Sequence[float] = ()
) -> tuple[str, str]:
    """FP32's point and INT8's on one line a row. The axis holds ``also`` too."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.row_axes([row.label for row in rows], wide_px=26, narrow_px=42, base_px=72)
        values = [*(v for row in rows for v in (row.before, row.after)), *also]
        pad = 0.06 * (max(values) - min(values) or 1.0)
        axes.set_xlim(min(values) - pad, max(values) + pad)
        for y, row in enumerate(rows):
            axes.plot([row.before, row.after], [y, y], color=LINE, linewidth=3, zorder=1, solid_capstyle="round")
            for value, precision, mark in ((row.before, "fp32", "o"), (row.after, "int8", "D")):
                axes.plot(
                    [value],
                    [y],
                    mark,
                    color=colour_of(precision),
                    markersize=9 if mark == "o" else 7,
                    markeredgecolor=SURFACE,
                    markeredgewidth=1.2,
                    label=precision.upper() if y == 0 else None,
                )
        axes.set_xlabel(axis)
        plain_ticks(axes, canvas)
        canvas.figure.legend(loc="outside upper right", ncols=2, handletextpad=0.2, columnspacing=1.2)

    return drawn(name, title, draw)
