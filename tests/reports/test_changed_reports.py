"""A report whose values somebody changed is refused in one line, or drawn: nothing in between.

What is changed: one or two values of a report with every section, at any depth, to other types, signs, sizes, lengths.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import HOSTILE, bundle_folder, manifest

from edge_van.errors import EdgeVanError
from edge_van.progress import SILENT
from edge_van.reports.collect import ReportOptions, collect
from edge_van.reports.html import html
from edge_van.reports.markdown import markdown
from edge_van.reports.page import page_of
from edge_van.reports.record import Report, encode_report, read_report

Place = tuple[str | int, ...]
VALUES = (None, True, 0, -1, 3, 0.5, 101.0, 1e-300, 1e300, -1e300, 10**18, "", "x" * 3000, HOSTILE, [], {})


def places(node: Any, at: Place = ()) -> list[Place]:
    """Where every value is; of long lists the first three elements."""
    children = node.items() if isinstance(node, dict) else enumerate(node[:3]) if isinstance(node, list) else ()
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


def change(document: Any, place: Place, value: Any) -> None:
    """A number instead of a value for a list means that it is repeated so many times, or emptied."""
    *path, last = place
    for key in path:
        document = document[key]
    old = document[last]
    document[last] = old[:2] * value if isinstance(old, list) and value in (0, 3) else value


Content = tuple[Any, list[Place]]


@pytest.fixture(scope="module")
def content(single: Report) -> Content:
    document = json.loads(encode_report(single))
    return document, [place for place in places(document) if place]


@pytest.fixture(scope="module")
def without_run(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Of a bundle whose only times are those in its manifest."""
    folder = bundle_folder(tmp_path_factory.mktemp("without_run") / "demo", manifest())
    document = json.loads(encode_report(collect([folder], ReportOptions(), SILENT).report))
    return document, [place for place in places(document) if place]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_values_are_refused_or_drawn(
    data: st.DataObject,
    content: Content,
    without_run: Content,
    no_plots: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    original, everywhere = data.draw(st.sampled_from((content, without_run)))
    document = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 2))):
        place, value = data.draw(st.sampled_from(everywhere)), data.draw(st.sampled_from(VALUES))
        try:
            change(document, place, value)
        except (KeyError, IndexError, TypeError):  # the first change took this place away
            continue
    path: Path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(document))
    try:
        report = read_report(path)
    except EdgeVanError as error:
        assert "\n" not in str(error)  # noqa: PT017  # most are refused, and must be so in one line
        return
    page = page_of(report)
    assert html(page)
    assert markdown(page)


def test_what_is_not_changed_is_drawn(content: Content, without_run: Content, no_plots: None, tmp_path: Path) -> None:
    """Else the test above would only see refusals."""
    path = tmp_path / "report.json"
    for document, _ in (content, without_run):
        path.write_text(json.dumps(document))
        assert html(page_of(read_report(path)))


MANIFEST = ("sides", 0, "manifest")
INT8 = (*MANIFEST, "latency", "rows", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {(*INT8, "samples_ms"): [2.0]},
        {(*INT8, "samples_ms"): [1e-9, 1e11], (*INT8, "median_ms"): 1e11, (*INT8, "p99_ms"): 1e-9},
        {(*INT8, "ratio"): 1e-9, (*INT8, "ratio_interval"): {"low": 1e-9, "high": 1e11}},
        {(*INT8, "name"): HOSTILE, (*MANIFEST, "accuracy", "classes", 0, "name"): "x" * 3000},
        {(*MANIFEST, "accuracy", "logit_sqnr_db"): -1e300, (*MANIFEST, "schemes", 1, "logit_sqnr_db"): 140.0},
        {(*MANIFEST, "accuracy", "drop_interval"): {"low": -100.0, "high": 100.0}},
        {(*MANIFEST, "recipe", "max_drop_points"): 100.0},
        {(*MANIFEST, "accuracy", "classes", 0, "recall_int8_percent"): 0.0},
    ],
    ids=["one-sample", "spread", "ratio", "names", "sqnr", "interval", "limit", "recall"],
)
def test_what_is_not_refused_is_drawn_with_its_plots(
    changes: dict[Place, Any], without_run: Content, tmp_path: Path
) -> None:
    """The test above draws none: plots take seconds."""
    document = copy.deepcopy(without_run[0])
    for place, value in changes.items():
        change(document, place, value)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    assert html(page_of(read_report(path)))
