"""The page in a real Chromium: nothing is asked for or logged, nothing overflows, every plot is there and readable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from browser import Browser, chromium, needs_chromium

from edge_van.reports.html import html
from edge_van.reports.view import Page

pytestmark = needs_chromium

PLOTS = """
return [...document.querySelectorAll('.plot svg')].filter(svg => svg.checkVisibility()).map(svg => {
  const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim()).map(t => {
    const b = t.getBoundingClientRect();
    return {text: t.textContent, x: b.x, y: b.y, w: b.width, h: b.height,
            px: parseFloat(getComputedStyle(t).fontSize) * scale};
  });
  const marks = [...svg.querySelectorAll('path, use')].filter(m => {
    const style = getComputedStyle(m), b = m.getBoundingClientRect();
    return b.width + b.height > 0 && (style.fill !== 'none' || style.stroke !== 'none');
  }).length;
  return {id: svg.closest('figure').id, x: box.x, w: box.width, h: box.height, texts, marks};
});
"""
OVERFLOW = """
const wide = document.documentElement.clientWidth;
return [document.documentElement.scrollWidth - wide,
  [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg') &&
    e.getBoundingClientRect().right > wide + 0.5).map(e => e.outerHTML.slice(0, 80))];
"""

CUT_OFF = """
return [...document.querySelectorAll('#accuracy figure.table .scroll')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.scrollWidth - e.clientWidth);
"""
"""The drop's interval stands in the last column: nobody should have to scroll for it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(single_html: Path, two_pages: Page, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    two = tmp_path_factory.mktemp("two") / "report.html"
    two.write_bytes(html(two_pages))
    return {"single": single_html, "two": two}


@pytest.mark.parametrize("name", ["single", "two"])
@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_is_quiet_and_whole(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    path = pages[name]
    for dark in (False, True):
        browser.open(path, width, dark)
        assert browser.console() == []
        assert browser.requests() == [path.resolve().as_uri()]
        assert browser.js(OVERFLOW) == [0, []]
    assert browser.js(CUT_OFF) == []
    seen = browser.js(PLOTS)
    assert len(seen) == browser.js("return document.querySelectorAll('figure.plot').length") >= 13
    for plot in seen:
        assert plot["w"] > 280, plot["id"]
        assert plot["h"] > 90, plot["id"]
        assert plot["marks"] > 5, plot["id"]
        assert len(plot["texts"]) > 4, plot["id"]
        for text in plot["texts"]:
            assert text["px"] > 10, (plot["id"], text)
            assert text["x"] > plot["x"] - 1, (plot["id"], text)
            assert text["x"] + text["w"] < plot["x"] + plot["w"] + 1, (plot["id"], text)
        for a, b in combinations(plot["texts"], 2):
            across = min(a["x"] + a["w"], b["x"] + b["w"]) - max(a["x"], b["x"])
            down = min(a["y"] + a["h"], b["y"] + b["h"]) - max(a["y"], b["y"])
            assert across < 1 or down < 4, (plot["id"], a["text"], b["text"])  # a line's box is taller than its ink


LUMINANCE = """
    const rgb = c => c.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const luminance = c => { const [r, g, b] = rgb(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
"""
"""JavaScript: the relative luminance of a computed colour (WCAG 2.2)."""


def test_dark_and_light_differ_and_can_be_read(browser: Browser, pages: dict[str, Path]) -> None:
    script = """
    const probe = document.createElement('i'); document.body.append(probe);
    const of = name => { probe.style.color = `var(--${name})`; return luminance(getComputedStyle(probe).color); };
    const contrast = (a, b) => { const [x, y] = [of(a), of(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const on = name => Math.min(contrast(name, 'surface'), contrast(name, 'page'));
    return [of('page'), Object.fromEntries(arguments[0].map(name => [name, on(name)]))];
    """
    words = ("ink", "muted", "link", "good", "reservations", "no", "bad", "int8-text")
    marks = ("fp32", "int8", "bf16", "int8-bf16", "int8-pointwise", "fp16", "other")
    grounds = []
    for dark in (False, True):
        browser.open(pages["single"], 1440, dark)
        ground, contrasts = browser.driver.execute_script(LUMINANCE + script, [*words, *marks])
        grounds.append(ground)
        # WCAG 2.2: 1.4.3 for text, 1.4.11 for what a graph is read by
        assert {name: c for name, c in contrasts.items() if c < (4.5 if name in words else 3.0)} == {}
    assert grounds[0] > 0.8
    assert grounds[1] < 0.05


@pytest.mark.parametrize(("media", "dark"), [("", False), ("", True), ("print", False), ("print", True)])
def test_the_names_of_the_models_can_be_read(browser: Browser, pages: dict[str, Path], media: str, dark: bool) -> None:
    """WCAG 2.2, 1.4.3, of text in a model's colour and of what stands beside it, on the ground it has."""
    script = """
    const ground = e => {
      const own = getComputedStyle(e).backgroundColor;
      return own === 'rgba(0, 0, 0, 0)' && e.parentElement ? ground(e.parentElement) : own;
    };
    const contrast = e => {
      const [x, y] = [getComputedStyle(e).color, ground(e)].map(luminance).sort((p, q) => q - p);
      return (x + 0.05) / (y + 0.05);
    };
    return [...document.querySelectorAll('.key, figcaption')].map(e => [e.className, e.textContent, contrast(e)]);
    """
    browser.open(pages["single"], 1440, dark)
    browser.media(media, dark)
    found = browser.js(LUMINANCE + script)
    assert {name for name, _, _ in found} == {"key fp32", "key int8", "fp32", "int8", ""}
    assert [row for row in found if row[2] < 4.5] == []


def test_print_is_light_and_has_every_table(browser: Browser, pages: dict[str, Path]) -> None:
    script = """
    const tables = [...document.querySelectorAll('table')];
    const style = e => getComputedStyle(e);
    const grounds = [document.body, ...document.querySelectorAll('.verdict, .plot, .cards li, figure.table')];
    const words = [...document.querySelectorAll('p, td, th, h1, h2, li, .plot svg text')]
      .filter(e => e.checkVisibility());
    return {
      closed: [...document.querySelectorAll('details')].filter(d => !d.open).length,
      hidden: tables.filter(t => t.getBoundingClientRect().height < 10).length,
      darkest: Math.min(...grounds.map(e => luminance(style(e).backgroundColor))),
      palest: Math.max(...words.map(e => luminance(e.closest('svg') ? style(e).fill : style(e).color))),
    };
    """
    browser.open(pages["single"], 1440, dark=True)
    assert browser.js(LUMINANCE + script)["darkest"] < 0.05
    browser.media("print", dark=True)
    seen = browser.js(LUMINANCE + script)
    assert seen["closed"] > 10
    assert seen["hidden"] == 0
    assert seen["darkest"] > 0.8
    assert seen["palest"] < 0.2  # 4.2 on white
    browser.pdf(pages["single"].with_suffix(".pdf"))
    assert pages["single"].with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_pictures_are_shown_whole(browser: Browser, pages: dict[str, Path]) -> None:
    """Those of the samples are twice as wide as high, and so are their boxes."""
    browser.open(pages["single"], 390)
    shapes = browser.js(
        """
        return [...document.querySelectorAll('.cards img')].map(i => {
          const box = i.getBoundingClientRect();
          return [i.naturalWidth / i.naturalHeight, box.width / box.height, getComputedStyle(i).objectFit];
        });
        """
    )
    assert len(shapes) == 7 + 3 * 4
    for natural, shown, fit in shapes:
        assert natural == 2
        assert shown == pytest.approx(2, abs=0.02)
        assert fit == "fill"  # the box has the picture's shape


def test_the_folded_tables_open_within_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"], 390)
    browser.js("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.js(OVERFLOW) == [0, []]
