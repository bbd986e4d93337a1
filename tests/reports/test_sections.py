"""``edge_van.reports.sections``: each says what its figures are of, and two sides can be compared by eye."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest
from bundle_samples import ACCURACY, MANIFEST
from hostile import explanation
from pages import bare, plots, report_of, table_of, text_of
from samples import ASYMMETRIC, SYMMETRIC, accuracy, benchmark, engines, manifest
from scipy.stats import binomtest

from edge_van.reports.figures import canvas
from edge_van.reports.figures.planes import RUNTIME_NAMES
from edge_van.reports.html import html
from edge_van.reports.markdown import markdown
from edge_van.reports.page import page_of
from edge_van.reports.record import Report, Side
from edge_van.reports.sections.labels import labels_of
from edge_van.reports.view import Page

SVG = "{http://www.w3.org/2000/svg}"


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


def test_the_rounded_network_is_among_the_drops(no_plots: None) -> None:
    rounded = replace(ACCURACY, model="bf16", drop_points=0.31, logit_sqnr_db=45.5)
    [table] = [plot.table for plot in plots(bare(manifest(rounded=rounded))) if plot.name == "accuracy-0-drop"]
    [row] = [row for row in table.rows if row[0] == "FP32 rounded to BF16, graph"]
    assert row[2] == "+0.31"
    assert row[5] == "45.5"


def test_engines_stand_in_the_plane_where_nothing_else_was_timed(no_plots: None) -> None:
    page = bare(manifest(engines=engines(), latency=None))
    [plane] = [plot for plot in plots(page) if plot.name.endswith("-plane")]
    assert [row[:3] for row in plane.table.rows if row[0].startswith("int8")] == [
        ("int8 engine, sm86-rtx1.7", "0.412", "85.62")
    ]
    assert plane.caption.endswith("Latency is that of edge-van build, of each engine on its own target.")
    assert "Engines are not drawn" not in text_of(page, "tradeoff")


def test_engines_share_no_axis_with_quantizes_latency(no_plots: None) -> None:
    """A GPU's milliseconds beside a CPU's, by another clock."""
    page = bare(manifest(engines=engines()))
    [plane] = [plot for plot in plots(page) if plot.name.endswith("-plane")]
    assert [row[0] for row in plane.table.rows] == ["OpenVINO FP32", "OpenVINO INT8"]
    assert plane.caption.endswith("Latency is that of edge-van quantize.")
    assert "Engines are not drawn: edge-van build timed them on a GPU" in text_of(page, "tradeoff")
    assert "Engines are not drawn" not in text_of(bare(manifest(engines={})), "tradeoff")


def test_engines_of_two_targets_are_told_apart() -> None:
    result = benchmark({"demo": manifest()}, rounds=20)
    engine = replace(result.models[2], runtime="tensorrt_rtx", name="a", file="tensorrt/sm86-rtx1.7/int8/model.engine")
    other = replace(engine, name="b", file="tensorrt/sm89-rtx1.7/int8/model.engine")
    alone = replace(other, name="c", precision="fp16")
    labels = labels_of((*result.models[:1], engine, other, alone), result)
    name = RUNTIME_NAMES["tensorrt_rtx"]
    assert [(label.whole, label.plot) for label in labels.values()] == [
        (text, text)
        for text in ("OpenVINO FP32", f"{name} INT8, sm86-rtx1.7", f"{name} INT8, sm89-rtx1.7", f"{name} FP16")
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


def test_classes_without_images_and_empty_profiles_are_no_error(no_plots: None) -> None:
    content = manifest()
    assert content.accuracy is not None
    empty = tuple(replace(c, images=0) for c in content.accuracy.classes)
    result = benchmark({"demo": content}, rounds=20)
    result = replace(result, layers=tuple(replace(profile, layers=()) for profile in result.layers))
    page = bare(replace(content, accuracy=replace(content.accuracy, classes=empty)), result)
    assert "layers-0-parts" not in {plot.name for plot in plots(page)}


def test_bundles_of_one_run_are_told_apart(two_pages: Page) -> None:
    """By their whole names in every table of both pages, and by what differs in the plots."""
    latency = [plot for plot in plots(two_pages) if plot.name.startswith("latency")]
    assert len(latency) == 7
    for plot in latency:
        assert {row[0].split(":")[0] for row in plot.table.rows} == {SYMMETRIC, ASYMMETRIC}
        for svg in (plot.wide, plot.narrow):
            labels = re.findall(r"<text[^>]*>(…[^<:]+): OpenVINO INT8</text>", svg)
            assert sorted(labels) == ["…asymmetric", "…symmetric"], plot.name
    text = markdown(two_pages).decode()
    for name in (SYMMETRIC, ASYMMETRIC):
        assert f"| {name}: OpenVINO INT8 |" in text.replace(r"\_", "_")


def test_a_bundle_of_the_run_that_is_no_side_is_not_drawn(no_plots: None) -> None:
    content = {name: manifest(created=f"2026-0{i}-01") for i, name in enumerate("abc", 1)}
    run = benchmark(content, rounds=20, most_models=3)
    page = page_of(report_of(*(Side(n, content[n], 0, n, None, "no images") for n in "ac"), runs=(run,)))
    tables = [plot.table for plot in plots(page) if plot.name.startswith("latency")]
    assert len(tables) == 7
    for table in tables:
        assert {row[0].split(":")[0] for row in table.rows} == {"a", "c"}, table.title


def test_plots_of_two_sides_share_their_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two bars of one length say different things beside each other."""
    shared = ("tradeoff", "layers", "logits", "classes", "attention")
    monkeypatch.setattr(canvas, "_svg", partial(drawn_if, shared, canvas._svg))
    near, apart = manifest(schemes=manifest().schemes[:3]), accuracy(5.0, 0.9, sqnr_db=60.0)
    recalls = tuple(replace(c, recall_int8_percent=c.recall_int8_percent - 40) for c in apart.classes)
    far = manifest(created="2026-03-03T00:00:00Z", accuracy=replace(apart, classes=recalls))
    fast, slow = benchmark({"near": near}, rounds=20), benchmark({"far": far}, rounds=20, speed=7.0)
    kernels = tuple(replace(layer, mean_ms=9 * layer.mean_ms) for layer in slow.layers[0].layers)
    slow = replace(slow, layers=(replace(slow.layers[0], layers=kernels), *slow.layers[1:]))
    alike = explanation()
    assert alike.cams is not None
    unlike = replace(alike, cams=replace(alike.cams, correlations=(0.1, *alike.cams.correlations * 3)))
    sides = Side("near", near, 0, "near", alike), Side("far", far, 1, "far", unlike)
    both = plots(page_of(report_of(*sides, runs=(fast, slow))))
    alone = {plot.name: plot for plot in plots(page_of(report_of(sides[0], runs=(fast,))))}
    for section in shared:
        first, second = (plot for plot in both if plot.name.startswith(section))
        for a, b, c in zip(*((p.wide, p.narrow) for p in (first, second, alone[first.name])), strict=True):
            assert ticks(a) == ticks(b) != ticks(c), first.name


def drawn_if(sections: tuple[str, ...], draw: Callable[..., str], name: str, *arguments: Any, **options: Any) -> str:
    return draw(name, *arguments, **options) if name.startswith(sections) else "<svg></svg>"


def ticks(svg: str) -> list[str]:
    """The numbers along the axes."""
    groups = [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if re.search(r"[xy]tick_\d+$", g.get("id", ""))]
    texts = [text.text or "" for group in groups for text in group.iter(f"{SVG}text")]
    return [text for text in texts if re.fullmatch(r"−?[0-9.,]+", text)]


def test_every_accuracy_has_an_interval(no_plots: None) -> None:
    content = manifest()
    assert content.accuracy is not None
    table = table_of(bare(content), "accuracy", "2,000 images")
    rows = {row[0]: row for row in table.rows}
    for column, percent in ((1, content.accuracy.fp32_percent), (2, content.accuracy.int8_percent)):
        expected = binomtest(round(20 * percent), 2000).proportion_ci(method="wilson")
        assert rows["95 % intervals"][column] == f"{100 * expected.low:.2f} to {100 * expected.high:.2f}"
    assert table.columns[3].name == "drop, points"
    assert rows["95 % intervals"][3] == "−0.40 to +0.50"
    assert "Wilson's" in table.note


def test_the_planes_whiskers_are_called_what_they_are(single_page: Page) -> None:
    [plane] = [plot for plot in plots(single_page) if plot.name == "tradeoff-0-plane"]
    assert plane.table.columns[3].name == "FP32's less the drop's 95 % interval"
    assert dict(zip([row[0] for row in plane.table.rows], plane.table.rows, strict=True))["OpenVINO INT8"][3] == (
        "85.05 to 85.95"  # 85.55 less -0.40 to 0.50
    )
    assert "FP32's top-1 less the 95 % interval of the drop" in plane.caption


@pytest.mark.parametrize(
    ("stage", "activation", "said", "not_said"),
    [
        (
            4,
            "gelu",
            "its own head: FP32's exactly, INT8's straight through the quantiser of the head's",
            "behind the map",
        ),
        (4, "hardswish", "its own head: FP32's exactly", "hard-swish"),
        (2, "gelu", "that of the FP32 network behind this stage", "hard-swish"),
        (2, "hardswish", "with its GELU, where INT8 computes hard-swish, behind this stage", "exactly"),
    ],
)
def test_whose_gradient_a_heat_map_has_is_said(
    no_plots: None, stage: int, activation: str, said: str, not_said: str
) -> None:
    found = explanation()
    assert found.cams is not None
    found = replace(found, cams=replace(found.cams, stage=stage))
    content = manifest(recipe=replace(MANIFEST.recipe, activation=activation))
    text = text_of(page_of(report_of(Side("demo", content, explanation=found))), "attention")
    assert said in text
    assert not_said not in text


def test_which_flips_are_shown_is_said_and_each_names_its_image(no_plots: None) -> None:
    side = Side("demo", manifest(), explanation=explanation())
    page = page_of(report_of(side))
    assert "Shown are 7 of the 10: those that only FP32 had right first" in text_of(page, "classes")
    assert "Images whose prediction flipped are shown first" in text_of(page, "attention")
    cams = side.explanation.cams if side.explanation is not None else None
    assert cams is not None
    alike = replace(side, explanation=replace(explanation(), cams=replace(cams, pairs=cams.pairs[1:])))
    assert "shown first" not in text_of(page_of(report_of(alike)), "attention")
    content = html(page).decode()
    assert content.count('<p class="file">val/') == 7 + 1  # the flips, and the pair that flipped
    assert content.count('<span class="mark">flipped</span> INT8 predicts airplane') == 1
    assert markdown(page).decode().count("airplane (flipped)") == 1
    all_shown = replace(explanation(), lost=7, gained=0, both_wrong=0)
    assert "Shown are" not in text_of(page_of(report_of(replace(side, explanation=all_shown))), "classes")


def test_what_nobody_watched_is_said(no_plots: None) -> None:
    result = benchmark({"demo": manifest()}, rounds=20)
    assert "steady, other work within its limits." in text_of(bare(manifest(), result), "origin")
    assert "Not watched" not in text_of(bare(manifest(), result), "origin")
    blind = replace(result, conditions=replace(result.conditions, not_watched=("heat", "the GPU")))
    page = bare(manifest(), blind)
    said = "steady, what was watched of other work within its limits. Not watched here: heat; the GPU."
    assert said in text_of(page, "origin")
    assert ("not watched", "heat; the GPU") in table_of(page, "origin", "Conditions").rows
