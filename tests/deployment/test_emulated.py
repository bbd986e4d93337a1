"""The demo on emulated ARM CPUs, through a real OpenSSH server: what is active has no reference kernel. ONNX Runtime's
kernels on the same graphs.

``pytest -m slow tests/deployment/test_emulated.py``: a quarter of an hour a CPU. Times under emulation mean nothing.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.aarch64 import AArch64, make_aarch64
from deployment.sshd import HOST, ssh_server

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import ARM_IR, ARM_ONNX, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import load_target
from edge_van.pipeline import quantize
from edge_van.starting_point import QuantizeOptions
from edge_van.statistics import sqnr_db

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LAYERS_1X1 = 69  # patch embeds and 1x1 convolutions of b0
IN_ONNX_RUNTIME = {
    ARM_ONNX: ARM_IR,
    OPENVINO_ONNX: INT8_IR,
    FP32_ONNX: FP32_IR,
}
"""Which file's golden logits a graph is compared with."""
PROGRAM = """
import collections, json, sys
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.enable_profiling, options.profile_file_prefix, options.intra_op_num_threads = True, sys.argv[3], 1
without = {"disabled_optimizers": sys.argv[4:]}
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"], **without)
[given] = session.get_inputs()
logits = [session.run(None, {given.name: image[None]})[0][0].tolist() for image in np.load(sys.argv[2])]
events = json.load(open(session.end_profiling()))
kernels = {e["name"]: e["args"]["op_name"] for e in events if "op_name" in e.get("args", {})}
print(json.dumps({"logits": logits, "kernels": collections.Counter(kernels.values())}))
"""
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


@pytest.mark.parametrize("cpu", LOADS_X86)
def test_onnx_runtimes_kernels_on_an_arm_cpu(demo: Bundle, machine: AArch64, tmp_path: Path, cpu: str) -> None:
    """Integer kernels for every layer of ARM's scheme, and for most of x86's, on the oldest CPU too."""
    golden, spec = read_golden(demo), demo.manifest.input_spec
    floats = (golden.pixels[:4] / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.save(tmp_path / "images.npy", floats.transpose(0, 3, 1, 2).astype(np.float32))
    kernels: dict[str, dict[str, int]] = {}
    for graph, file in IN_ONNX_RUNTIME.items():
        words = [str(demo.file(graph)), str(tmp_path / "images.npy"), str(tmp_path / "profile")]
        done = subprocess.run(
            [*machine.python(cpu), "-c", PROGRAM, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        logits, kernels[graph] = np.array(said["logits"]), said["kernels"]
        found_db = sqnr_db(golden.logits[file][:4], logits)
        assert (logits.argmax(1) == golden.logits[file][:4].argmax(1)).all()
        assert found_db > (100.0 if graph == FP32_ONNX else 30.0)
        print(cpu, graph, f"{found_db:.1f} dB", said["kernels"])
    assert (kernels[ARM_ONNX]["QLinearConv"], kernels[ARM_ONNX]["QGemm"]) == (LAYERS_1X1, 1)
    assert kernels[OPENVINO_ONNX]["QLinearConv"] == 82  # of 108
    assert "QLinearConv" not in kernels[FP32_ONNX]
