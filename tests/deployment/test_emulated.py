"""The demo on emulated ARM CPUs, through a real OpenSSH server: what is active has no reference kernel.

``pytest -m slow tests/deployment/test_emulated.py``: a quarter of an hour a CPU. Times under emulation mean nothing.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment.aarch64 import AArch64, make_aarch64
from deployment.sshd import HOST, ssh_server

from edge_van.bundle.bundle import Bundle
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import load_target
from edge_van.pipeline import QuantizeOptions, quantize

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LAYERS_1X1 = 69  # patch embeds and 1x1 convolutions of b0
LOADS_X86 = {"cortex-a72": False, "cortex-a76": True, "neoverse-n1": True}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return quantize(
        output=tmp_path_factory.mktemp("demo") / "b",
        options=QuantizeOptions(targets=("openvino", "openvino_arm")),
    )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> AArch64:
    return make_aarch64(tmp_path_factory.mktemp("aarch64"))


@pytest.mark.parametrize("cpu", LOADS_X86)
def test_the_demo_on_an_arm_cpu(demo: Bundle, machine: AArch64, tmp_path: Path, cpu: str) -> None:
    target = replace(load_target("cpu-arm"), python=machine.python(cpu), rounds=1, seconds=0.1, warm_up_s=0.0)
    with ssh_server(tmp_path / "sshd") as server:
        options = DeployOptions(ssh_config=server.config, root=str(tmp_path / "root"))
        done = deploy(demo, HOST, target, options=options)
    assert done.device["architecture"] == "aarch64"
    rows = {row.name: row for row in done.rows}
    assert rows["openvino_arm"].passed_check, rows["openvino_arm"].error
    assert rows["fp32"].passed_check, rows["fp32"].error
    assert not rows["openvino"].passed_check
    why = "run in reference kernels" if LOADS_X86[cpu] else "object is not initialized"
    assert why in rows["openvino"].error
    assert done.choice.active in ("openvino_arm", "fp32", "fp16")
    state = json.loads((tmp_path / "root" / "deployments" / done.identity / "state.json").read_text())
    kernels: dict[str, list[Any]] = {n: c["check"].get("kernels", []) for n, c in state["candidates"].items()}
    arm = [kernel for _, kernel in kernels["openvino_arm"]]
    assert sum("i8" in kernel for kernel in arm) == LAYERS_1X1 + 1, arm  # and the head
    assert not [kernel for kernel in (*arm, *(k for _, k in kernels["fp32"])) if kernel.startswith("ref")]
    if LOADS_X86[cpu]:
        first = next(layer for layer, kernel in kernels["openvino"] if kernel.startswith("ref"))
        assert rows["openvino"].error.endswith(f"the first is {first}")
    print(cpu, {name: (row.sqnr_db, row.error) for name, row in rows.items()})
