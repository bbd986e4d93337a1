"""``edge_van.deployment.plan``: what a device is offered, by what the bundle has and what the device can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bundle_samples import ACCURACY

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR
from edge_van.deployment.candidates import UNMEASURED_FLOOR_DB
from edge_van.deployment.plan import make_plan
from edge_van.deployment.targets import load_target

PROBE: dict[str, Any] = {
    **dict.fromkeys(("module", "cpu", "gpu", "l4t", "tensorrt", "tensorrt_rtx")),
    "architecture": "x86_64",
    "openvino": {"version": "2026.4.1", "capabilities": ["BF16", "FP32", "INT8"]},
}


def test_a_shorter_float_counts_with_the_rounded_network(device_bundle: Bundle) -> None:
    golden = device_bundle.manifest.golden
    assert golden is not None
    measured = replace(ACCURACY, model="bf16", drop_points=0.125)
    manifest = replace(device_bundle.manifest, rounded=measured, golden=replace(golden, rounded_floor_db=44.5))
    plan = make_plan(Bundle(device_bundle.path, manifest), load_target("cpu-x86"), PROBE)
    assert plan.candidates["bf16"].drop_points == 0.125
    floors = {name: candidate.request["floor_db"] for name, candidate in plan.candidates.items()}
    assert floors == {"openvino": 10.0, "bf16": 44.5, "fp32": golden.floors_db[FP32_IR]}
    hints = {name: candidate.request["precision"] for name, candidate in plan.candidates.items()}
    assert hints == {"openvino": "f32", "bf16": "bf16", "fp32": "f32"}


def test_a_bundle_of_before_has_no_figure_for_it(device_bundle: Bundle) -> None:
    plan = make_plan(device_bundle, load_target("cpu-x86"), PROBE)
    bf16 = plan.candidates["bf16"]
    assert (bf16.drop_points, bf16.request["floor_db"]) == (None, UNMEASURED_FLOOR_DB)


@pytest.mark.parametrize("capabilities", [["FP32", "INT8"], []])
def test_a_cpu_without_the_units(device_bundle: Bundle, capabilities: list[str]) -> None:
    probe = PROBE | {"openvino": {"version": "2026.4.1", "capabilities": capabilities}}
    plan = make_plan(device_bundle, load_target("cpu-x86"), probe)
    assert plan.left_out == {"bf16": "this CPU has no BF16 units"}


def test_the_identity_is_that_of_the_device(device_bundle: Bundle) -> None:
    target = load_target("cpu-x86")
    plans = [
        make_plan(device_bundle, target, PROBE | change).identity for change in ({}, {}, {"cpu": {"name": "another"}})
    ]
    assert plans[0] == plans[1] != plans[2]
