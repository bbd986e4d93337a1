"""Plots of one figure over another: accuracy over latency, and how often each correlation of two maps occurs.

In: points. Out: SVG, wide and narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_van.bundle.records import Interval
from edge_van.reports.figures.canvas import INK, LOG_FROM, MUTED, SURFACE, Canvas, colour_of, drawn, plain_ticks
from edge_van.reports.format import short
from edge_van.text import precision_words

MARKERS = {
    "openvino": "o",
    "onnxruntime": "s",
    "torch": "^",
    "torch_compile": "v",
    "torch_graph": "<",
    "torch_compile_graph": ">",
    "tensorrt": "D",
    "tensorrt_rtx": "P",
}
RUNTIME_NAMES = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
    "torch_compile": "torch.compile",
    "torch_graph": "PyTorch, CUDA graph",
    "torch_compile_graph": "torch.compile, CUDA graph",
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT for RTX",
}


@dataclass(frozen=True)
class Point:
    """One model: its runtime shows as the marker, its precision as the colour."""

    runtime: str
    precision: str
    latency_ms: float
    percent: float
    whisker: Interval | None  # FP32's less the interval of the drop, in percent


def scatter(
    name: str, title: str, points: Sequence[Point], *, metric: str = "top-1", also: Sequence[Point] = ()
) -> tuple[str, str]:
    """The metric over median latency; towards the upper left is better. Whiskers are the 95 % interval of the drop,
    from FP32's level. Both axes hold ``also`` too: planes beside each other share theirs."""
    times = [p.latency_ms for p in (*points, *also)]
    logarithmic = max(times) > LOG_FROM * min(times)

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(430 if canvas.narrow else 340)
        if logarithmic:
            axes.set_xscale("log")
        axes.grid()
        for p in points:
            tint = colour_of(p.precision)
            if (whisker := p.whisker) is not None:
                axes.plot([p.latency_ms] * 2, [whisker.low, whisker.high], color=tint, linewidth=2, alpha=0.55)
            axes.plot(
                [p.latency_ms],
                [p.percent],
                MARKERS.get(p.runtime, "X"),
                color=tint,
                markersize=11,
                markeredgecolor=SURFACE,
                markeredgewidth=1.2,
                linestyle="none",
            )
        low, high = min(times), max(times)
        axes.set_xlim((low / 1.25, high * 1.25) if logarithmic else (max(0, low - 0.15 * high), high * 1.1))
        levels = [v for p in (*points, *also) for v in (p.percent, *_ends(p.whisker))]
        pad = max(0.12 * (max(levels) - min(levels)), 0.15)
        axes.set_ylim(min(levels) - pad, max(levels) + pad)
        plain_ticks(axes, canvas, logarithmic=logarithmic)
        axes.set_xlabel("median latency, ms" + (", logarithmic" if logarithmic else ""))
        axes.set_title(f"{metric}, %", loc="left", color=MUTED, fontsize=12)
        _legend(canvas, points)

    return drawn(name, title, draw)


def _ends(interval: Interval | None) -> tuple[float, ...]:
    return () if interval is None else (interval.low, interval.high)


def _legend(canvas: Canvas, points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D

    def handle(mark: str, tint: str, label: str) -> Any:
        return Line2D([], [], marker=mark, color=tint, linestyle="none", markersize=9, label=short(label, 18))

    runtimes = dict.fromkeys(p.runtime for p in points)
    precisions = dict.fromkeys(p.precision for p in points)
    handles = [handle("s", colour_of(p), precision_words(p)) for p in precisions]
    handles += [handle(MARKERS.get(r, "X"), MUTED, RUNTIME_NAMES.get(r, r)) for r in runtimes]
    canvas.figure.legend(
        handles=handles,
        loc="outside lower left" if canvas.narrow else "outside right center",
        ncols=2 if canvas.narrow else 1,
        handletextpad=0.3,
        labelspacing=0.6,
    )


def histogram(
    name: str,
    title: str,
    values: Sequence[float],
    *,
    axis: str,
    median: float | None,
    also: Sequence[Sequence[float]] = (),
) -> tuple[str, str]:
    """How many of ``values`` lie in each of 20 bins, with a line at the median. Bins and axes are those that hold the
    values in ``also`` too, those of plots beside this one."""
    every = [values, *also]
    low = min(0.9, float(np.floor(min(map(min, every)) * 20) / 20))
    bins = np.linspace(low, 1.0, 21)
    most = max(int(np.histogram(cosines, bins)[0].max()) for cosines in every)

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(210)
        counts, edges = np.histogram(values, bins)
        axes.set_ylim(0, 1.25 * max(most, 1))  # the median's label stands above all bars
        axes.grid(axis="y")
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.9, align="edge", color=colour_of("int8"), linewidth=0)
        if median is not None:
            axes.axvline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            left = median > (1.0 + low) / 2
            axes.annotate(
                f"median {median:.3f}",
                (median, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(-6 if left else 6, -2),
                textcoords="offset points",
                ha="right" if left else "left",
                va="top",
                color=INK,
                bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1.5},
            )
        axes.set_xlabel(axis)
        axes.set_title("images", loc="left", color=MUTED, fontsize=12)

    return drawn(name, title, draw)
