"""``edge_van.reports.page`` and its templates: every section in its order; a stranger's name is never markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from markupsafe import escape
from pages import bare, plots, text_of
from samples import ASYMMETRIC, HOSTILE, SYMMETRIC, benchmark, manifest

from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.bundle.records import FileEntry
from edge_van.reports.html import html
from edge_van.reports.markdown import markdown
from edge_van.reports.view import Page
from edge_van.reports.write import MARKS

SECTIONS = ["accuracy", "latency", "tradeoff", "layers", "logits", "classes", "attention", "engines", "origin"]


class Tags(HTMLParser):
    """Every element with its attributes, and all text outside of style."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_every_section_stands_in_its_order(single_page: Page) -> None:
    assert [section.name for section in single_page.sections] == SECTIONS
    assert [plot.name for plot in plots(single_page)] == [
        "accuracy-0-drop",
        "latency-0-single",
        "latency-0-single-ratio",
        "latency-0-multi",
        "latency-0-multi-ratio",
        "latency-0-offline",
        "latency-0-startup",
        "latency-0-memory",
        "tradeoff-0-plane",
        "layers-0-parts",
        "logits-0-sqnr",
        "classes-0-recall",
        "attention-0-cams",
    ]


def test_hostile_names_are_text(single_page: Page) -> None:
    content = html(single_page).decode()
    tags = Tags(content)
    assert "script" not in {tag for tag, _ in tags.tags}
    assert "\x1b" not in content
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert sum(shown.strip() in text for text in tags.text) > 5
    # Jinja escaped the tables, matplotlib the plots
    assert "<script" not in content
    for _, attributes in tags.tags:
        assert not any(name.startswith("on") for name in attributes)
    names = [a["alt"] or "" for tag, a in tags.tags if tag == "img"]
    assert sum(shown in name for name in names) == 7 + 4  # flips and pairs
    assert content.count(f"<code>{escape(shown)}</code>") == 2  # the benchmark's command and the report's


def test_every_part_can_be_told_by_ear(single_page: Page) -> None:
    """Headings follow each other, no two tables have one name, and a picture's says more than the line beneath it."""
    tags = Tags(html(single_page).decode()).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    regions = [a["aria-label"] for _, a in tags if a.get("role") == "region"]
    assert len(regions) == len(set(regions)) > 20
    assert "The figures: Latency of one image" in regions
    summaries = [a["aria-label"] for tag, a in tags if tag == "summary" and "aria-label" in a]
    assert len(summaries) == len(set(summaries)) == len(plots(single_page))
    assert sum((a.get("alt") or "").endswith(", as the network saw it") for tag, a in tags if tag == "img") == 7


@pytest.mark.parametrize(("int8_bytes", "said"), [(5_000_000, "2.00× smaller"), (12_500_000, "1.25× larger")])
def test_a_size_says_in_which_direction(no_plots: None, int8_bytes: int, said: str) -> None:
    files = (FileEntry(FP32_IR, 10_000_000, "ab" * 32), FileEntry(INT8_IR, int8_bytes, "ab" * 32))
    facts = bare(manifest(files=files)).verdicts[0].facts
    assert [fact.value for fact in facts if fact.label == "size"] == [said]


def test_the_page_loads_nothing(single_page: Page) -> None:
    content = html(single_page).decode()
    tags = Tags(content)
    [policy] = [a["content"] for tag, a in tags.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    for tag, attributes in tags.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\((?!#)|@import", content)


def test_ids_are_unique_and_links_lead_somewhere(single_page: Page) -> None:
    tags = Tags(html(single_page).decode())
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {(a.get("href") or "")[1:] for tag, a in tags.tags if tag == "a"}
    assert links == {"verdict", *SECTIONS}
    assert links <= set(ids)


def test_every_plot_has_its_figures_beside_it(single_page: Page) -> None:
    assert html(single_page).decode().count('<details class="table">') >= len(plots(single_page))
    assert all(plot.table.rows for plot in plots(single_page))


def test_marks_stand_where_they_are_looked_for(single_page: Page) -> None:
    assert MARKS["report.html"] in html(single_page)[:4096]
    assert MARKS["report.md"] in markdown(single_page)[:4096]


@pytest.mark.parametrize("with_latency", [True, False])
def test_a_bundle_without_a_benchmark_says_what_to_run(no_plots: None, with_latency: bool) -> None:
    page = bare(manifest() if with_latency else manifest(latency=None))
    assert "run edge-van benchmark" in text_of(page, "latency")
    names = {plot.name for plot in plots(page)}
    assert ("latency-0-single" in names) == with_latency
    assert "tradeoff-0-plane" in names  # of the engines at least


def test_a_result_alone_says_where_accuracy_is(no_plots: None) -> None:
    page = bare(None, benchmark({"demo": manifest()}, rounds=40))
    assert "give the bundle's folder" in text_of(page, "accuracy")
    assert "engines" not in [section.name for section in page.sections]
    html(page)
    markdown(page)


def test_an_empty_bundle_still_gives_a_page() -> None:
    page = bare(manifest(accuracy=None, latency=None, schemes=(), engines={}))
    assert plots(page) == []
    assert page.verdicts[0].verdict.status == "no"
    html(page)
    markdown(page)


def test_two_sides_stand_beside_each_other(two_pages: Page) -> None:
    by_name = {section.name: section for section in two_pages.sections}
    assert [group.side for group in by_name["accuracy"].groups] == [SYMMETRIC, ASYMMETRIC]
    [together] = by_name["latency"].groups  # one run: one plot has the models of both
    assert together.side == ""
    content = html(two_pages).decode()
    assert content.count('<div class="pair">') >= 7
    assert "Beside each other" in content
