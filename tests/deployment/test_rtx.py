"""``edge_van.deployment`` for a card with TensorRT for RTX: engines built here for real, opened by a stand-in."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from deployment.jetsons import FILES, TIMES
from rtx_stand_in import rtx

from edge_van.bundle.active import active_model
from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.deployment.releases import DeviceOptions, rollback
from edge_van.deployment.rollout import Deployed, DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.errors import BundleError, UsageError

trt = pytest.importorskip("tensorrt_rtx")
SLOWER = {name: 10.0 * ms for name, ms in TIMES.items()}  # beside what ONNX Runtime takes for the network itself


def target_of(python: tuple[str, ...]) -> Target:
    target = load_target("desktop-rtx")
    return replace(target, candidates=tuple(FILES), runtime_python=python, rounds=1, seconds=0.3, warm_up_s=0.0)


@pytest.fixture(scope="module")
def bundle(jetson_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One's own: engines are built into it, once."""
    path = tmp_path_factory.mktemp("rtx") / "bundle"
    shutil.copytree(jetson_bundle.path, path)
    return open_bundle(path)


def run(bundle: Bundle, target: Target, root: Path, **more: object) -> Deployed:
    return deploy(bundle.path, "local", target, options=DeployOptions(root=str(root), **more))  # type: ignore[arg-type]


def test_engines_are_built_here_and_opened_there(bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    target = target_of(rtx(tmp_path / "rtx", graph_files, SLOWER, trt.__version__))
    done = run(bundle, target, tmp_path / "root")
    assert {row.name: row.error for row in done.rows} == dict.fromkeys(FILES, "")
    assert done.device["tensorrt_rtx"]["compute_capability"] == "8.9"
    assert done.choice.active == "int8"
    median_ms = done.choice.table[0].median_ms
    assert median_ms is not None
    assert median_ms > SLOWER["int8"]
    [tag] = open_bundle(bundle.path).manifest.engines  # kept, as edge-van build keeps them
    assert tag == f"rtx-sm89-{trt.__version__}"
    found = active_model(open_bundle(tmp_path / "root" / "current"))
    assert found is not None
    assert (found.model.runtime, found.model.file) == ("tensorrt_rtx", f"tensorrt/{tag}/int8/model.engine")
    found.bundle.check(*found.model.files)
    assert {problem.kind for problem in verify(open_bundle(tmp_path / "root" / "current"))} == {"extra"}  # active.json

    again = run(bundle, target, tmp_path / "root")
    assert (again.release, again.sent_bytes) == (done.release, 0)
    slower = run(bundle, target, tmp_path / "root", max_drop_points=0.1)
    assert slower.choice.active == "fp32"
    options = DeviceOptions(target=target, root=str(tmp_path / "root"))
    assert rollback("local", options).name == done.release


def test_an_engine_that_computes_something_else(bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    target = target_of(rtx(tmp_path / "rtx", graph_files, SLOWER, trt.__version__, wrong=("int8",)))
    done = run(bundle, target, tmp_path / "root")
    assert "image 0 is class" in {row.name: row.error for row in done.rows}["int8"]
    assert done.choice.active == "int8_pointwise"


def test_another_version_or_card(bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    target = target_of(rtx(tmp_path / "older", graph_files, SLOWER, "1.7.0.1"))
    with pytest.raises(UsageError, match=r"the device has TensorRT for RTX 1\.7\.0\.1, this machine 1\.7"):
        run(bundle, target, tmp_path / "root")
    target = target_of(rtx(tmp_path / "new", graph_files, SLOWER, "1.6.0.1"))
    with pytest.raises(UsageError, match=r"is no NVIDIA RTX GPU: it has TensorRT for RTX 1\.6"):
        run(bundle, target, tmp_path / "root")
    target = target_of(rtx(tmp_path / "orin", graph_files, SLOWER, trt.__version__, card="8.7"))
    with pytest.raises(UsageError, match="no compute capability that TensorRT for RTX builds for"):
        run(bundle, target, tmp_path / "root")


def test_a_damaged_engine_is_not_sent(bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    python = rtx(tmp_path / "rtx", graph_files, SLOWER, trt.__version__)
    run(bundle, target_of(python), tmp_path / "root")
    shutil.copytree(bundle.path, tmp_path / "bundle")
    [plan] = (tmp_path / "bundle").glob("tensorrt/*/int8/model.engine")
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.engine"):
        run(open_bundle(tmp_path / "bundle"), target_of(python), tmp_path / "root")


def test_without_a_card(bundle: Bundle, tmp_path: Path) -> None:
    """The package as it is: what it says of this machine is what a user reads."""
    with pytest.raises(UsageError, match=r"it has no TensorRT for RTX that runs \(edge-van: .*NVIDIA GPU.*\): install"):
        run(bundle, target_of((sys.executable,)), tmp_path / "root")
    with pytest.raises(UsageError, match=r"it has no TensorRT for RTX that runs .*No module named"):
        run(bundle, target_of((sys.executable, "-S")), tmp_path / "root")
