"""``edge_van.deployment.on_device``: what it answers of a deployed folder, and to what it cannot answer."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.deployment.on_device import answer
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import load_target
from edge_van.errors import BundleError, UsageError


@pytest.fixture(scope="module")
def current(device_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    target = replace(load_target("cpu-x86"), rounds=1, seconds=0.1, warm_up_s=0.0)
    deploy(device_bundle, "local", target, options=DeployOptions(("fp32",), root=str(root)))
    return root / "current"


def request(folder: Path, **more: Any) -> dict[str, Any]:
    return {"folder": str(folder), "images": str(folder / "golden.bin"), "shape": [64, 64, 3], **more}


def test_its_logits_are_the_golden_ones(current: Path, device_bundle: Bundle) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "edge_van.deployment.on_device"],
        input=json.dumps(request(current)),
        capture_output=True,
        text=True,
        check=True,
    )
    logits = json.loads(process.stdout.splitlines()[-1])["logits"]
    golden = read_golden(device_bundle).logits["openvino_fp32/model.xml"]
    np.testing.assert_allclose(logits, golden, rtol=1e-3, atol=1e-4)


def test_its_times(current: Path) -> None:
    found = answer(request(current, seconds=0.2, warm_up_s=0.1))["samples_ms"]
    assert len(found) >= 10
    assert sum(found) < 10_000
    assert len(answer(request(current, seconds=0.0, warm_up_s=0.0))["samples_ms"]) == 10  # so many at least


def test_what_it_cannot_answer(current: Path, device_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no active\.json: deploy again"):
        answer(request(Path(device_bundle.path)))
    with pytest.raises(UsageError, match="engines are run by tensorrt, tensorrt_rtx, not by 'openvino'"):
        answer({"about": "openvino"})
    process = subprocess.run(
        [sys.executable, "-m", "edge_van.deployment.on_device"],
        input=json.dumps(request(current.parent)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == BundleError.exit_code
    assert process.stderr.splitlines()[-1].startswith(str(current.parent))
