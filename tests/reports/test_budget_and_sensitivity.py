"""The sections of a budget and of the layers that cost: figures, what is said, hostile names, broken records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bundle_samples import MANIFEST
from pages import bare, plots, report_of, text_of
from samples import HOSTILE, manifest

from edge_van.bundle.budget_record import Budget, BudgetRecord, Missed, Rung
from edge_van.bundle.interval import Interval
from edge_van.bundle.manifest import check_consistent
from edge_van.errors import BundleError, UsageError
from edge_van.evaluation.sensitivity_record import (
    SENSITIVITY_KIND,
    ActivationRange,
    Cost,
    Measurement,
    PlaceSensitivity,
    Sensitivity,
)
from edge_van.evaluation.sensitivity_record import check_consistent as check_sensitivity
from edge_van.reports.html import html
from edge_van.reports.markdown import markdown
from edge_van.reports.page import page_of
from edge_van.reports.record import REPORT_FORMAT, Side, encode_report

SVG = "{http://www.w3.org/2000/svg}"


def rung(name: str, drop: float, ms: float, layers: int = 0) -> Rung:
    around, speed = Interval(drop - 0.2, drop + 0.2), Interval(1.4, 1.6)
    left = tuple(f"block1.{i}.mlp.fc1" for i in range(layers))
    figures = ("top-1", 85.0, drop, around, drop, 97.0, 25.0, ms, 1.5, speed, 40.0)
    return Rung(name, "ptq", "squared_error", 300, left, *figures)


def record(*rungs: Rung, missed: Missed = "", by_interval: bool = True, ms: float | None = None) -> BudgetRecord:
    return BudgetRecord(Budget(0.3, ms), by_interval, missed, "the reason", len(rungs) - 1, rungs)


def cost(sqnr_db: float) -> Cost:
    return Cost(sqnr_db, sqnr_db, (sqnr_db + 0.1, sqnr_db - 0.1), 0.1, Interval(-0.2, 0.4))


def place(name: str, part: str, only: float) -> PlaceSensitivity:
    ranges = (ActivationRange(-1.0, 2.0, -1.5, 2.5, 0.25),)
    return PlaceSensitivity(name, part, cost(only), cost(26.0), ranges)


def measured(*places: PlaceSensitivity, of: int | None = None, scheme: str = "openvino") -> Sensitivity:
    asked = Measurement(
        scheme, "onnx/model_openvino.onnx", "a" * 64, "b" * 64, "val", 256, "c" * 64, "softmax 0.5", "all"
    )
    count = len(places) if of is None else of
    machine = MANIFEST.machine
    return Sensitivity(
        1, SENSITIVITY_KIND, "0.1.0", "2026-01-01T00:00:00+00:00", "d" * 64, asked, machine, cost(25.0), count, places
    )


PLACES = (
    place("patch_embed1.proj", "patch embedding", 38.0),
    place("block1.0.attn.spatial_gating_unit.conv_spatial", "LKA dilated depthwise", 45.0),
    place("block1.0.attn.spatial_gating_unit", "LKA gate", 41.0),
    place("head", "head", 40.0),
)


def test_a_ladder_is_drawn_with_a_row_a_rung() -> None:
    page = bare(manifest(budget=record(rung("as asked", 0.4, 2.0), rung("4 layers in float", 0.0, 2.2, 4), ms=3.0)))
    [plot] = [p for p in plots(page) if p.name == "budget-0-frontier"]
    assert [row[1] for row in plot.table.rows] == ["as asked", "4 layers in float (taken)"]
    assert plot.table.rows[0][2:4] == ("+0.40", "+0.20 to +0.60")
    text = text_of(page, "budget")
    assert "At most 0.3 points lost, at most 3.00 ms an image: kept. The reason." in text
    assert "The same images judged 2 rungs" in text
    ElementTree.fromstring(plot.wide)
    ElementTree.fromstring(plot.narrow)


def test_what_was_not_kept_and_what_images_cannot_show_is_said() -> None:
    text = text_of(
        bare(manifest(budget=record(rung("as asked", 0.4, 2.0), missed="accuracy", by_interval=False))), "budget"
    )
    assert "not kept" in text
    assert "too few for any interval" in text
    assert "looks" not in text


@pytest.mark.parametrize(("ms", "axis"), [(None, "FP32's in the same run"), (3.0, "median latency, ms")])
def test_rungs_that_were_timed_minutes_apart_are_compared_by_fp32(ms: float | None, axis: str) -> None:
    tried = record(rung("as asked", 0.4, 2.0), replace(rung("QAT", 0.0, 2.6), speedup=1.2), ms=ms)
    [plot] = [p for p in plots(bare(manifest(budget=tried))) if p.name == "budget-0-frontier"]
    assert axis in plot.wide


def test_what_is_inside_and_of_no_use_is_told_apart() -> None:
    slow = replace(rung("4 layers in float", 0.0, 4.0, 4), speedup=0.9)
    tried = record(rung("as asked", 0.4, 2.0), slow, rung("QAT", 0.0, 2.0))
    assert [tried.verdict(one) for one in tried.rungs] == ["no", "no faster than FP32", "yes"]
    [plot] = [p for p in plots(bare(manifest(budget=tried))) if p.name == "budget-0-frontier"]
    assert [row[-1] for row in plot.table.rows] == ["no", "no faster than FP32", "yes"]
    asked_for = record(slow, replace(slow, name="QAT"))  # layers that the recipe leaves in float are the user's choice
    assert asked_for.verdict(slow) == "yes"


def test_pages_without_either_have_no_section_of_them() -> None:
    assert not {"budget", "sensitivity"} & {section.name for section in bare(manifest()).sections}


def test_the_side_without_a_budget_says_how_to_get_one() -> None:
    sides = (Side("a", manifest(budget=record(rung("as asked", 0.0, 2.0)))), Side("b", manifest()))
    assert "edge-van quantize --max-drop POINTS" in text_of(page_of(report_of(*sides)), "budget")


def test_places_are_ranked_and_summed() -> None:
    page = page_of(report_of(Side("demo", manifest(), sensitivity=measured(*PLACES))))
    parts, along = (p for p in plots(page) if p.name.startswith("sensitivity-0"))
    assert [row[0] for row in parts.table.rows] == ["patch embedding", "head", "LKA gate", "LKA dilated depthwise"]
    assert sum(float(row[2]) for row in parts.table.rows) == pytest.approx(100.0, abs=0.2)
    assert [row[0] for row in along.table.rows][:2] == ["patch_embed1.proj", "head"]
    assert along.table.rows[0][2:4] == ("38.0", "+1.00")
    assert along.table.rows[0][6:] == ("−1.00 to 2.00", "−1.50 to 2.50", "0.250")
    assert "either half of the images: 1.000" in text_of(page, "sensitivity")
    names = [section.name for section in page.sections]
    assert names.index("sensitivity") == names.index("logits") + 1
    for svg in (parts.wide, parts.narrow, along.wide, along.narrow):
        ElementTree.fromstring(svg)


@pytest.mark.parametrize("places", [(), PLACES[:1], PLACES[:2]])
def test_a_measurement_that_was_stopped(places: tuple[PlaceSensitivity, ...]) -> None:
    page = page_of(report_of(Side("demo", manifest(), sensitivity=measured(*places, of=4))))
    assert f"stopped after {len(places)} of 4 places" in text_of(page, "sensitivity")
    assert markdown(page)


def test_hostile_names_stay_text() -> None:
    strange = place(HOSTILE, HOSTILE, 30.0)
    side = Side(
        "demo", manifest(budget=record(rung(HOSTILE, 0.1, 2.0))), sensitivity=measured(strange, *PLACES, scheme=HOSTILE)
    )
    page = page_of(report_of(side))
    assert "<script>alert" not in html(page).decode()
    assert "\x1b" not in str(markdown(page))


def test_a_report_is_read_again() -> None:
    side = Side("demo", manifest(budget=record(rung("as asked", 0.0, 2.0))), sensitivity=measured(*PLACES))
    whole = replace(report_of(side), schema_version=REPORT_FORMAT.version)
    assert REPORT_FORMAT.decoded(encode_report(whole), Path("report.json")) == whole


WRONG = {
    "no rung": record(),
    "another is chosen": replace(record(rung("as asked", 0.0, 2.0)), chosen=3),
    "no time": record(rung("as asked", 0.0, 0.0)),
    "no drop": record(rung("as asked", 500.0, 2.0)),
    "no speed": record(replace(rung("as asked", 0.0, 2.0), speedup=-1.0)),
    "no noise": record(replace(rung("as asked", 0.0, 2.0), logit_sqnr_db=float("inf"))),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_budget_that_is_none_is_refused(what: str) -> None:
    with pytest.raises(BundleError, match="has a budget whose rungs are none"):
        check_consistent(manifest(budget=WRONG[what]), "the manifest")


def test_a_sensitivity_that_is_none_is_refused() -> None:
    check_sensitivity(measured(*PLACES), "it")
    for wrong in (measured(PLACES[0], PLACES[0]), measured(*PLACES, of=2), measured(place("a", "head", 1e9))):
        with pytest.raises(UsageError, match="a place twice, or a figure that is none"):
            check_sensitivity(wrong, "it")


def test_places_that_are_all_alike_have_no_ranking() -> None:
    """As of a network that loses nothing: every SQNR is at its cap."""
    silent = Cost(200.0, 200.0, (200.0, 200.0), 0.0, Interval(0.0, 0.0))
    places = tuple(replace(p, only=silent, without=silent) for p in PLACES)
    assert measured(*places).rank_correlation is None
    assert markdown(page_of(report_of(Side("demo", manifest(), sensitivity=measured(*places)))))
