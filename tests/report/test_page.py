"""``edge_van.report.page`` and its templates: every section in its order; a stranger's name is never markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE, benchmark, engines, manifest

from edge_van.report.html import html
from edge_van.report.markdown import escaped, markdown
from edge_van.report.page import page_of
from edge_van.report.record import Report, Side
from edge_van.report.verdict import judge
from edge_van.report.view import Page, Plot, Text
from edge_van.report.write import MARKS

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


def plots(page: Page) -> list[Plot]:
    return [b for s in page.sections for g in s.groups for b in g.blocks if isinstance(b, Plot)]


def bare(content: object, result: object = None) -> Page:
    """The page of a side without images."""
    runs = () if result is None else (result,)
    side = Side("demo", content, None if result is None else 0, "demo", None, "no images")  # type: ignore[arg-type]
    report = Report(1, "edge-van report", "0.1.0", "2026", "edge-van report demo", (side,), runs, (judge(side, runs),))  # type: ignore[arg-type]
    return page_of(report)


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


def test_the_figures_are_those_of_the_records(single: Report, single_page: Page) -> None:
    tables = {plot.name: plot.table for plot in plots(single_page)}
    rows = {row[0]: row for row in tables["latency-0-single"].rows}
    query = next(row for row in single.runs[0].single_stream if row.model == "openvino-int8")
    assert rows["OpenVINO INT8"][1] == f"{query.median_ms:.2f}"
    assert rows["OpenVINO INT8"][5] == f"{query.ratio:.2f}"
    scheme = {row[0]: row for row in tables["accuracy-0-drop"].rows}
    assert scheme["TensorRT int8_pointwise, graph"][2] == "−0.12"
    plane = {row[0]: row for row in tables["tradeoff-0-plane"].rows}
    assert plane["OpenVINO INT8"][2] == "85.50"
    assert plane["ONNX Runtime INT8"][2] == "85.50"  # OpenVINO's figure, and the table says so
    assert "OpenVINO's kernels" in plane["ONNX Runtime INT8"][4]
    assert plane["PyTorch FP32"][2] == "85.55"
    assert not any("engine" in label for label in plane)  # timed at another time, by another clock
    assert "OpenVINO BF16" not in plane


def test_engines_stand_in_the_plane_where_nothing_else_was_timed(no_plots: None) -> None:
    page = bare(manifest(engines=engines(), latency=None))
    [plane] = [plot.table for plot in plots(page) if plot.name.endswith("-plane")]
    assert [row[:3] for row in plane.rows if row[0].startswith("int8")] == [
        ("int8 engine, sm86-rtx1.7", "0.412", "85.62")
    ]


def test_what_reaches_each_runtime_is_said(no_plots: None) -> None:
    result = benchmark({"demo": manifest()}, rounds=20)
    takes = {"openvino": "uint8 NHWC, normalised inside"}
    models = tuple(
        replace(m, takes=takes.get(m.runtime, "float NCHW, normalised before"), settings="told not to spin")
        if m.runtime == "onnxruntime"
        else replace(m, takes=takes.get(m.runtime, "float NCHW, normalised before"))
        for m in result.models
    )
    text = markdown(bare(manifest(), replace(result, models=models))).decode()
    assert "OpenVINO: uint8 NHWC, normalised inside" in text
    assert "ONNX Runtime is told not to spin" in text


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


def test_markdown_has_the_same_sections_and_no_markup_of_strangers(single_page: Page) -> None:
    content = markdown(single_page).decode()
    assert re.findall(r"^## (.+)$", content, re.MULTILINE) == [section.title for section in single_page.sections]
    assert "<script" not in content
    assert "\x1b" not in content
    tables = re.findall(r"(?:^\|.*\n)+", content, re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_markdown_escapes() -> None:
    assert escaped("a|b_c*d`e`[f](g)<h>&\n#~\\") == r"a\|b\_c\*d\`e\`\[f\](g)&lt;h&gt;&amp;\\n\#\~\\"


@given(st.text(max_size=40))
def test_markdown_of_any_text_is_one_line_without_markup(text: str) -> None:
    line = escaped(text)
    assert line.isprintable()
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[|`*_\[\]]", line)


def test_marks_stand_where_they_are_looked_for(single_page: Page) -> None:
    assert MARKS["report.html"] in html(single_page)[:4096]
    assert MARKS["report.md"] in markdown(single_page)[:4096]


@pytest.mark.parametrize("with_latency", [True, False])
def test_a_bundle_without_a_benchmark_says_what_to_run(no_plots: None, with_latency: bool) -> None:
    page = bare(manifest() if with_latency else manifest(latency=None))
    texts = [b.text for s in page.sections for g in s.groups for b in g.blocks if isinstance(b, Text)]
    assert any("run edge-van benchmark" in text for text in texts)
    names = {plot.name for plot in plots(page)}
    assert ("latency-0-single" in names) == with_latency
    assert "tradeoff-0-plane" in names  # of the engines at least


def test_a_result_alone_says_where_accuracy_is(no_plots: None) -> None:
    page = bare(None, benchmark({"demo": manifest()}, rounds=40))
    texts = [b.text for s in page.sections for g in s.groups for b in g.blocks if isinstance(b, Text)]
    assert any("give the bundle's folder" in text for text in texts)
    assert "engines" not in [section.name for section in page.sections]
    html(page)
    markdown(page)


def test_an_empty_bundle_still_gives_a_page() -> None:
    page = bare(manifest(accuracy=None, latency=None, schemes=(), engines={}))
    assert plots(page) == []
    assert page.verdicts[0].verdict.status == "no"
    html(page)
    markdown(page)


def test_classes_without_images_and_empty_profiles_are_no_error(no_plots: None) -> None:
    content = manifest()
    assert content.accuracy is not None
    empty = tuple(replace(c, images=0) for c in content.accuracy.classes)
    result = benchmark({"demo": content}, rounds=20)
    result = replace(result, layers=tuple(replace(profile, layers=()) for profile in result.layers))
    page = bare(replace(content, accuracy=replace(content.accuracy, classes=empty)), result)
    assert "layers-0-parts" not in {plot.name for plot in plots(page)}


def test_two_sides_stand_beside_each_other(two_pages: Page) -> None:
    by_name = {section.name: section for section in two_pages.sections}
    assert [group.side for group in by_name["accuracy"].groups] == ["first", "second"]
    [together] = by_name["latency"].groups  # one run: one plot has the models of both
    assert together.side == ""
    single = next(b for b in together.blocks if isinstance(b, Plot))
    assert {row[0].split(":")[0] for row in single.table.rows} == {"first", "second"}
    content = html(two_pages).decode()
    assert content.count('<div class="pair">') >= 7
    assert "Beside each other" in content
