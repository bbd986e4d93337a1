"""A figure of each place of a network, in the order in which data runs through them.

In: points. Out: SVG, wide and narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_van.reports.figures.canvas import COLOURS, INK, LINE, MUTED, SURFACE, Canvas, drawn
from edge_van.reports.format import number

MOST_NAMED = 3
_STYLES = {
    "patch embedding": ("o", "fp32"),
    "attention 1x1": ("s", "int8"),
    "LKA 5x5 depthwise": ("^", "bf16"),
    "LKA dilated depthwise": ("v", "bf16"),
    "LKA 1x1": ("D", "bf16"),
    "LKA gate": ("P", "bf16"),
    "FFN 1x1": ("s", "fp16"),
    "FFN 3x3 depthwise": ("^", "fp16"),
    "residual": ("X", "int8-pointwise"),
    "LayerNorm": ("p", "int8-bf16"),
    "head": ("*", "fp32"),
}
"""Marker and colour of a part; those of one module share a colour."""


@dataclass(frozen=True)
class NetworkPoint:
    name: str  # official, "block1.0.attn.proj_1"
    part: str
    value: float


def along_network(name: str, title: str, points: Sequence[NetworkPoint], *, total: float) -> tuple[str, str]:
    """dB over the place; the lowest are named, a line at ``total``, stages set apart."""
    order = sorted(range(len(points)), key=lambda i: points[i].value)
    values = [p.value for p in points]

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(400 if canvas.narrow else 340)
        axes.grid(axis="y")
        axes.axhline(total, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            f"all: {number(total, 1)} dB",
            (0, total),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 4),
            textcoords="offset points",
            color=INK,
        )
        stages = [_stage(p.name) for p in points]
        for i in range(1, len(points)):
            if stages[i] != stages[i - 1]:
                axes.axvline(i - 0.5, color=LINE, linewidth=1)
        for i, p in enumerate(points):
            marker, colour = _STYLES.get(p.part, (".", "other"))
            tint, edge = COLOURS[colour], {"markeredgecolor": SURFACE, "markeredgewidth": 0.8}
            axes.plot([i], [p.value], marker, color=tint, markersize=7, **edge)
        for i in order[: 1 if canvas.narrow else MOST_NAMED]:
            right = i > len(points) / 2
            axes.annotate(
                points[i].name,
                (i, points[i].value),
                xytext=(-8 if right else 8, -9),  # under the lowest there is room
                textcoords="offset points",
                ha="right" if right else "left",
                va="center",
                color=MUTED,
                fontsize=11,
            )
        axes.set_xticks([])
        axes.set_xlim(-1, len(points))
        room = 0.06 * (max(*values, total) - min(*values, total) or 1.0)
        axes.set_ylim(min(*values, total) - room, max(*values, total) + room)
        axes.set_xlabel("from the first layer to the head")
        axes.set_title("dB", loc="left", color=MUTED, fontsize=12)
        _legend(canvas, [part for part in _STYLES if part in {p.part for p in points}])

    return drawn(name, title, draw)


def _stage(place: str) -> str:
    return next((c for c in place if c.isdigit()), "")


def _legend(canvas: Canvas, parts: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    def handle(part: str) -> Any:
        marker, colour = _STYLES[part]
        return Line2D([], [], marker=marker, color=COLOURS[colour], linestyle="", markersize=7, label=part)

    canvas.figure.legend(
        handles=[handle(part) for part in parts],
        loc="outside lower left" if canvas.narrow else "outside right center",
        ncols=2 if canvas.narrow else 1,
        handletextpad=0.3,
        labelspacing=0.6,
    )
