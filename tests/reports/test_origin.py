"""``edge_van.reports.sections.origin``: every machine that figures come from is named, and none of them twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import benchmark, manifest

from edge_van.bundle.records import Manifest
from edge_van.machine import Machine
from edge_van.reports.record import Explanation, Report, Side
from edge_van.reports.sections.origin import origin
from edge_van.reports.verdict import judge
from edge_van.reports.view import Table

CONTENT = manifest()
RUN = benchmark({"demo": CONTENT}, rounds=20)
MADE = replace(RUN.machine, versions={"openvino": "2025.1", "numpy": "2.4"})


def machines(
    made: Machine, timed: Machine | None, looked: Machine | None, content: Manifest = CONTENT
) -> dict[str, dict[str, str]]:
    """Title to facts of every table of a machine."""
    shown = None if looked is None else Explanation("images", looked, 10, 0, 0, 0, 0, (), None)
    runs = () if timed is None else (replace(RUN, machine=timed),)
    side = Side("demo", replace(content, machine=made), None if timed is None else 0, "demo", shown)
    report = Report(1, "edge-van report", "0.1.0", "2026", "", (side,), runs, (judge(side, runs),))
    tables = [b for group in origin(report).groups for b in group.blocks if isinstance(b, Table)]
    return {t.title: {str(row[0]): str(row[1]) for row in t.rows} for t in tables if t.title.startswith("Machine")}


def test_one_machine_is_one_table() -> None:
    numpy = replace(MADE, versions={"openvino": "2025.1", "numpy": "2.3"}, load_average_1min=3.0)
    for found in (machines(MADE, MADE, MADE), machines(MADE, numpy, None), machines(MADE, None, MADE)):
        assert list(found) == ["Machine"]
        assert "openvino 2025.1" in found["Machine"]["versions"]


@pytest.mark.parametrize("package", ["openvino", "onnxruntime", "torch"])
def test_another_version_of_an_engine_is_shown(package: str) -> None:
    later = replace(MADE, versions={**MADE.versions, package: "2025.4"})
    found = machines(MADE, later, MADE)
    assert list(found) == ["Machine that measured speed", "Machine that measured accuracy, flips and Grad-CAM"]
    versions = [facts["versions"] for facts in found.values()]
    assert f"{package} 2025.4" in versions[0]
    assert f"{package} 2025.4" not in versions[1]


def test_the_machine_that_ran_the_images_is_shown() -> None:
    found = machines(MADE, replace(MADE, cpu="a desktop's"), replace(MADE, cpu="a laptop's"))
    assert [facts["CPU"].split(",")[0] for facts in found.values()] == ["a desktop's", MADE.cpu, "a laptop's"]
    assert list(found)[2] == "Machine that measured flips and Grad-CAM"
    assert list(machines(MADE, None, replace(MADE, cpu="a laptop's"))) == [
        "Machine that measured speed, accuracy",
        "Machine that measured flips and Grad-CAM",
    ]


def test_a_machine_is_not_said_to_have_measured_what_was_not_measured() -> None:
    elsewhere = replace(MADE, cpu="a laptop's")
    titles = [
        list(machines(MADE, timed, elsewhere, replace(CONTENT, **missing)))[:2]
        for timed, missing in (
            (None, {"latency": None}),
            (elsewhere, {"accuracy": None, "schemes": CONTENT.schemes[:1]}),
            (None, {"latency": None, "accuracy": None, "schemes": CONTENT.schemes[:1]}),
        )
    ]
    assert titles == [
        ["Machine that measured accuracy", "Machine that measured flips and Grad-CAM"],
        ["Machine that measured speed, flips and Grad-CAM", "Machine that measured noise on the logits"],
        ["Machine that measured noise on the logits", "Machine that measured flips and Grad-CAM"],
    ]
