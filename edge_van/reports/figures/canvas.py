"""Draws one figure twice, for a wide and a narrow column, as inline SVG in the page's own colours and font.

In: a function that draws onto a ``Canvas``. Out: ``(wide, narrow)`` SVG text, the same for the same figures.

matplotlib writes colours as hex; each one drawn with is a stand-in that is replaced by ``var(--name)`` afterwards, so
that one SVG serves dark, light and print. At 72 dots per inch a point is a pixel: fonts are as large as the page's.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from edge_van.reports.format import MINUS, distinct
from edge_van.text import one_line

WIDE_PX, NARROW_PX = 720, 350
FONT_PX = 12
LOG_FROM = 6.0
"""Medians further apart than this many times share a logarithmic axis."""
COLOURS = {
    "ink": "#fe0101",
    "muted": "#fe0102",
    "line": "#fe0103",
    "surface": "#fe0104",
    "fp32": "#fe0105",
    "int8": "#fe0106",
    "bf16": "#fe0107",
    "int8-bf16": "#fe0108",
    "int8-pointwise": "#fe0109",
    "fp16": "#fe010a",
    "other": "#fe010b",
    "bad": "#fe010c",
}
INK, MUTED, LINE, SURFACE, BAD = (COLOURS[name] for name in ("ink", "muted", "line", "surface", "bad"))


def colour_of(precision: str) -> str:
    """One colour a precision, everywhere."""
    return COLOURS.get(precision.replace("_", "-"), COLOURS["other"])


_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": FONT_PX,
    "figure.dpi": 72,
    "axes.facecolor": "none",
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": FONT_PX,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


@dataclass(frozen=True)
class Canvas:
    """Where a figure is drawn: makes axes of this column's width."""

    figure: Any
    narrow: bool

    @property
    def width_px(self) -> int:
        return NARROW_PX if self.narrow else WIDE_PX

    def axes(self, height_px: float) -> Any:
        """One set of axes in a figure of that height."""
        self.figure.set_size_inches(self.width_px / 72, height_px / 72)
        axes = self.figure.add_subplot()
        axes.set_axisbelow(True)
        return axes

    def row_axes(
        self,
        labels: Sequence[str],
        values: Sequence[str] = (),
        wide_px: float = 34,
        narrow_px: float = 50,
        base_px: float = 46,
    ) -> Any:
        """Axes with one row a label, the first on top at y = 0: its name stands to the left, its value to the right; in
        a narrow column both above it. Long names are shortened, no two to the same."""
        axes = self.axes(base_px + len(labels) * (narrow_px if self.narrow else wide_px))
        axes.set_ylim(len(labels) - 0.5, -0.62 if self.narrow else -0.5)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if self.narrow:
            axes.set_yticks([])
            for y, label in enumerate(distinct(labels, 36 if values else 44)):
                self._above(axes, y, label, 0, "left", INK)
            for y, value in enumerate(values):
                self._above(axes, y, value, 1, "right", MUTED)
        else:
            axes.set_yticks(range(len(labels)), distinct(labels, 36))
            for text in axes.get_yticklabels():
                text.set_color(INK)
            for y, value in enumerate(values):
                where = axes.get_yaxis_transform()
                axes.text(1.012, y, value, transform=where, va="center_baseline", ha="left", color=INK)
        return axes

    def _above(self, axes: Any, y: float, text: str, x: float, side: str, colour: str) -> None:
        ground = {"facecolor": SURFACE, "edgecolor": "none", "pad": 1.0}
        where = axes.get_yaxis_transform()
        axes.text(x, y - 0.29, text, transform=where, va="bottom", ha=side, color=colour, bbox=ground)

    @property
    def row_height(self) -> float:
        """Of what is drawn in a row of ``row_axes``, in units of its y axis."""
        return 0.36 if self.narrow else 0.5


def plain_ticks(axes: Any, canvas: Canvas, *, logarithmic: bool = False) -> None:
    """Numbers as people write them below the x axis, no more than fit."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace("-", MINUS)))
    if logarithmic:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5 if canvas.narrow else 8))


def drawn(name: str, label: str, draw: Callable[[Canvas], None]) -> tuple[str, str]:
    """``draw`` onto both widths; ids start with ``name``, ``label`` is read out in place of the figure."""
    first = _svg(f"{name}-w", label, draw, narrow=False)
    return first, _svg(f"{name}-n", label, draw, narrow=True)


def _svg(name: str, label: str, draw: Callable[[Canvas], None], *, narrow: bool) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # a letter DejaVu lacks, a stranger's absurd figure: nothing a reader can mend
        # nothing of the user's matplotlibrc, such as LaTeX for every text; its backend is not asked here
        settings: Any = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
        mpl.rcParams.update(settings | _STYLE | {"svg.hashsalt": name})
        figure = Figure(layout=ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72))
        figure.patch.set_visible(False)
        canvas: Any = FigureCanvasSVG(figure)
        draw(Canvas(figure, narrow))
        out = io.StringIO()
        canvas.print_svg(out, metadata=dict.fromkeys(_METADATA))  # savefig would draw it all twice
    return _inline(out.getvalue(), name, label)


_METADATA = ("Date", "Creator", "Format", "Type")


def _inline(svg: str, name: str, label: str) -> str:
    """The ``<svg>`` element with ids of its own, page colours, and a description in place of width and height."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would rule the whole page
    svg = re.sub(r'(?<=\s)id="', f'id="{name}-', svg)
    svg = svg.replace('xlink:href="#', f'xlink:href="#{name}-').replace("url(#", f"url(#{name}-")
    for variable, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    svg = re.sub(r"\n\s*", "\n", svg)
    head, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    text = escape(one_line(label))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0] if box else ""} role="img" aria-labelledby="{name}-title"><title id="{name}-title">{text}</title>'
        f"{rest}"
    )
