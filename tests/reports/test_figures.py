"""``edge_van.reports.figures``: the same SVG for the same figures, in the page's colours, with ids of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from samples import times_ms

from edge_van.bundle.records import Interval
from edge_van.reports.figures.canvas import COLOURS, NARROW_PX, WIDE_PX, Canvas, drawn
from edge_van.reports.figures.planes import Point, histogram, scatter
from edge_van.reports.figures.rows import (
    Axis,
    BarRow,
    ChangeRow,
    DistributionRow,
    IntervalRow,
    bars,
    changes,
    cut_of,
    distributions,
    intervals,
)

NAME = 'a <b> & "c" $x$ \x1b[31m 漢字'


def spread(samples: tuple[float, ...]) -> DistributionRow:
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return DistributionRow(NAME, "int8", samples, float(p50), float(p90), float(p99))


def two_of_them() -> dict[str, tuple[str, str]]:
    """The kinds with the most in them."""
    samples = tuple(times_ms(3.0, 60, 0).tolist())
    rows = [IntervalRow(NAME, "int8", 0.1, Interval(-0.3, 0.5)), IntervalRow("b", "fp32", 0.2, Interval(0.2, 0.2))]
    return {
        "intervals": intervals("i", NAME, rows, axis=Axis("x"), reference=0.0, limit=(1.0, "limit 1"), show=str),
        "distributions": distributions("d", NAME, [spread(samples), spread((30.0,) * 9)], axis="ms"),
    }


def figures() -> dict[str, tuple[str, str]]:
    points = [Point("openvino", "fp32", 3.0, 85.0, None), Point("unknown", "int8", 1.5, 84.9, Interval(84.5, 85.3))]
    return two_of_them() | {
        "bars": bars(
            "b", NAME, [BarRow(NAME, "int8", ((1.0, 2.0), (0.5, 0.1)), ("x", "y"))], axis=Axis("ms"), parts=("p",)
        ),
        "no bars": bars("z", NAME, [BarRow(NAME, "int8", ((0.0,),), ("0",))], axis=Axis("ms")),
        "changes": changes("c", NAME, [ChangeRow(NAME, 80.0, 81.0), ChangeRow("b", 50.0, 50.0)], axis="%"),
        "scatter": scatter("s", NAME, points),
        "one point": scatter("o", NAME, points[:1]),
        "histogram": histogram("h", NAME, [0.9, 0.99, 1.0, -0.4], axis="r", median=0.9),
        "one value": histogram("v", NAME, [1.0], axis="r", median=None),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[str, str]]:
    return figures()


def test_the_same_figures_give_the_same_svg(made: dict[str, tuple[str, str]]) -> None:
    again = two_of_them()
    assert {name for name in again if made[name] != again[name]} == set()


def test_every_svg_is_whole_and_of_its_width(made: dict[str, tuple[str, str]]) -> None:
    for both in made.values():
        for svg, width in zip(both, (WIDE_PX, NARROW_PX), strict=True):
            root = ElementTree.fromstring(svg)
            assert root.get("role") == "img"
            assert root.get("width") is None
            assert float((root.get("viewBox") or "").split()[2]) == pytest.approx(width)
            [title] = root.findall("{http://www.w3.org/2000/svg}title")
            assert title.text == 'a <b> & "c" $x$ \\x1b[31m 漢字'


def test_no_colour_of_its_own_and_no_style_for_the_page(made: dict[str, tuple[str, str]]) -> None:
    for both in made.values():
        for svg in both:
            assert not re.search("<style|<!DOCTYPE|<[?]xml|https?://(?!www.w3.org)", svg)
            assert not any(stand_in in svg for stand_in in COLOURS.values())
            hexes = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{3,6})", svg))
            assert hexes <= {"#000000"}, hexes  # matplotlib's clip paths and empty marks
            assert "var(--ink)" in svg or "var(--muted)" in svg


def test_ids_are_of_one_figure_only(made: dict[str, tuple[str, str]]) -> None:
    ids = [found for both in made.values() for svg in both for found in re.findall(r'\sid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)) > 100
    for both in made.values():
        for svg in both:
            own = set(re.findall(r'\sid="([^"]+)"', svg))
            assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= own


def test_text_stays_text(made: dict[str, tuple[str, str]]) -> None:
    wide, narrow = made["changes"]
    for svg in (wide, narrow):
        texts = [e.text for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert 'a <b> & "c" $x$ \\x1b[31m 漢字' in texts


def test_absurd_figures_are_drawn_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    rows = [IntervalRow("a", "int8", 1e300, Interval(-5.0, 1e300)), IntervalRow("b", "fp32", 0.0, Interval(0.0, 0.0))]
    samples = DistributionRow("c", "int8", (1e-9, 1e300), 1e300, 1e300, 1e300)
    for wide, narrow in (
        intervals("i", "t", rows, axis=Axis("x"), reference=0.0, limit=(1.0, "limit"), show=str),
        distributions("d", "t", [samples, spread((2.0,))], axis="ms"),
        bars("b", "t", [BarRow("d", "int8", ((-3.0, 1e300),), ("x",))], axis=Axis("ms")),
    ):
        for svg in (wide, narrow):
            ElementTree.fromstring(svg)
    assert [str(w.message) for w in recwarn] == []


def test_plots_beside_each_other_share_an_axis() -> None:
    """The ticks of a plot that must hold the other's ends are the other's."""
    near = [IntervalRow("a", "int8", 1.2, Interval(1.1, 1.3))]
    far = [IntervalRow("a", "int8", 1.2, Interval(0.2, 4.0))]

    def ticks(rows: list[IntervalRow], also: tuple[float, ...] = ()) -> list[str]:
        wide, _ = intervals("i", "t", rows, axis=Axis("x", also), reference=1.0, show=lambda value: "value")
        return re.findall(r"<text[^>]*>(−?[0-9.,]+)</text>", wide)

    assert ticks(near, (0.2, 4.0)) == ticks(far) != ticks(near)


@pytest.mark.parametrize(
    ("totals", "cut"),
    [
        ((10.0, 20.0, 30.0, 900.0), 37.5),
        ((10.0, 20.0, 30.0, 900.0, 40_000.0), 37.5),
        ((10.0, 20.0, 30.0), None),
        ((5.0,), None),
        ((0.0, 0.0, 3.0), None),
        ((), None),
    ],
)
def test_a_bar_that_dwarfs_the_others_is_cut(totals: tuple[float, ...], cut: float | None) -> None:
    rows = [BarRow("a row", "int8", ((total / 2, total / 2),), (f"{total:g} ms",)) for total in totals]
    assert cut_of(rows) == cut
    if cut is None:
        return
    for svg in bars("b", "t", rows, axis=Axis("ms", cut=cut), parts=("load", "first")):
        texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
        assert {f"{total:g} ms" for total in totals} <= set(texts)  # what is cut still says how long it is
        assert 30 < max(float(text) for text in texts if re.fullmatch(r"[0-9.]+", text)) < 60  # the axis


def test_a_paler_part_of_a_bar_has_an_outline_in_full_colour() -> None:
    """Half a colour is too near the page's; the legend's key is drawn alike."""
    for svg in bars("b", "t", [BarRow("a", "int8", ((2.0, 1.0),), ("x",))], axis=Axis("ms"), parts=("load", "first")):
        for colour in ("int8", "muted"):
            pale = re.findall(
                rf'style="fill: var\(--{colour}\); fill-opacity: 0.5; stroke: var\(--(.*?)\); [^"]*"', svg
            )
            assert pale == [colour], colour


def test_rows_with_long_names_are_told_apart() -> None:
    names = [f"{'a' * 30} {middle} {'b' * 30}" for middle in ("one", "two")]
    for svg in bars("b", "t", [BarRow(name, "int8", ((1.0,),), ("1",)) for name in names], axis=Axis("ms")):
        assert {"…one …", "…two …"} <= set(re.findall(r"<text[^>]*>([^<]+)</text>", svg))


HOSTILE_RC = """
backend: Qt5Agg
text.usetex: True
path.sketch: 1, 100, 2
lines.linewidth: 9
axes.grid: True
axes.xmargin: 0.4
xtick.top: True
legend.fontsize: 40
savefig.bbox: tight
svg.fonttype: path
figure.constrained_layout.h_pad: 2
font.family: cursive
"""


def test_the_users_matplotlibrc_changes_nothing(made: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(HOSTILE_RC)
    script = """
import sys
import matplotlib
from test_figures import two_of_them
assert matplotlib.rcParams["text.usetex"]
sys.stdout.buffer.write("".join("".join(both) for both in two_of_them().values()).encode())
assert matplotlib.rcParams["text.usetex"]
"""
    paths = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parent.parent))
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "".join("".join(made[name]) for name in ("intervals", "distributions"))


def test_both_widths_are_drawn_from_one_function() -> None:
    seen: list[bool] = []

    def draw(canvas: Canvas) -> None:
        seen.append(canvas.narrow)
        canvas.axes(100)

    drawn("x", "t", draw)
    assert seen == [False, True]
