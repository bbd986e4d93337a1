"""``edge_van.deployment`` for a card with TensorRT for RTX: engines built here for real, opened by a stand-in."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_samples import tree
from deployment.jetsons import FILES, TIMES
from rtx_stand_in import rtx

from edge_van.bundle.active import active_model
from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.bundle.layout import plan_path
from edge_van.deployment import built_here
from edge_van.deployment.releases import DeviceOptions, rollback
from edge_van.deployment.rollout import Deployed, DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.engines.build import build
from edge_van.engines.target import EnginesOptions
from edge_van.errors import MissingRuntimeError, UsageError, VerificationError

trt = pytest.importorskip("tensorrt_rtx")
TAG = f"rtx-sm89-{trt.__version__}"
SLOWER = {name: 10.0 * ms for name, ms in TIMES.items()}  # beside what ONNX Runtime takes for the network itself


def target_of(python: tuple[str, ...]) -> Target:
    target = load_target("desktop-rtx")
    return replace(target, candidates=tuple(FILES), runtime_python=python, rounds=1, seconds=0.3, warm_up_s=0.0)


@pytest.fixture(scope="module")
def built(jetson_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With engines for the stand-in's card; read-only."""
    path = tmp_path_factory.mktemp("rtx") / "bundle"
    shutil.copytree(jetson_bundle.path, path)
    return build(path, options=EnginesOptions("tensorrt_rtx", ("8.9",))).bundle


@pytest.fixture
def copy(built: Bundle, tmp_path: Path) -> Path:
    """A bundle with engines, one's own."""
    return Path(shutil.copytree(built.path, tmp_path / "copy"))


@pytest.fixture
def target(graph_files: dict[str, Path], tmp_path: Path) -> Target:
    return target_of(rtx(tmp_path / "rtx", graph_files, SLOWER, trt.__version__))


def change_record(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Of the engine "int8", in the manifest."""
    content = json.loads((path / "manifest.json").read_text())
    [record] = [engine for engine in content["engines"][TAG]["engines"] if engine["scheme"] == "int8"]
    change(record)
    (path / "manifest.json").write_text(json.dumps(content))


def run(bundle: Bundle, target: Target, root: Path, **more: object) -> Deployed:
    return deploy(bundle.path, "local", target, options=DeployOptions(root=str(root), **more))  # type: ignore[arg-type]


def test_engines_are_built_here_and_opened_there(jetson_bundle: Bundle, target: Target, tmp_path: Path) -> None:
    before = tree(Path(jetson_bundle.path))
    done = run(jetson_bundle, target, tmp_path / "root")
    assert {row.name: row.error for row in done.rows} == dict.fromkeys(FILES, "")
    assert done.device["tensorrt_rtx"]["compute_capability"] == "8.9"
    assert done.choice.active == "int8"
    median_ms = done.choice.table[0].median_ms
    assert median_ms is not None
    assert median_ms > SLOWER["int8"]
    assert tree(Path(jetson_bundle.path)) == before  # which may be on a disk that cannot be written to
    found = active_model(open_bundle(tmp_path / "root" / "current"))
    assert found is not None
    assert (found.model.runtime, found.model.file) == ("tensorrt_rtx", plan_path(TAG, "int8"))
    found.bundle.check(*found.model.files)
    assert {problem.kind for problem in verify(open_bundle(tmp_path / "root" / "current"))} == {"extra"}  # active.json

    again = run(jetson_bundle, target, tmp_path / "root", candidates=("int8",))  # its engine has the same bytes
    assert (again.choice.active, again.sent_bytes) == ("int8", 0)


def test_the_bundles_own_engines_are_taken(
    built: Bundle, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # nothing here could build one
    done = run(built, target, tmp_path / "root")
    assert done.choice.active == "int8"
    again = run(built, target, tmp_path / "root")
    assert (again.release, again.sent_bytes, again.warnings) == (done.release, 0, ())
    slower = run(built, target, tmp_path / "root", max_drop_points=0.1)
    assert slower.choice.active == "fp32"
    options = DeviceOptions(target=target, root=str(tmp_path / "root"))
    assert rollback("local", options).name == done.release


def widened(path: Path) -> None:
    """As --allow-fallback leaves an engine."""

    def change(record: dict[str, Any]) -> None:
        next(layer for layer in record["layers"] if layer["scheme"] == "int8")["runs_in"] = "fp32"

    change_record(path, change)


def of_another_graph(path: Path) -> None:
    change_record(path, lambda record: record.update(onnx_sha256="0" * 64))


def damaged(path: Path) -> None:
    plan = path / plan_path(TAG, "int8")
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)


def gone(path: Path) -> None:
    (path / plan_path(TAG, "int8")).unlink()


@pytest.mark.parametrize("spoil", [widened, of_another_graph, damaged, gone])
def test_an_engine_that_is_not_good_is_not_sent(
    copy: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    """It is built anew; where nothing builds it is left out, and the others go on."""
    spoil(copy)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    done = run(open_bundle(copy), target, tmp_path / "root")
    assert done.choice.active == "int8_pointwise"
    assert [w for w in done.warnings if "int8 is left out: not built: tensorrt_rtx is not installed" in w]
    with pytest.raises(MissingRuntimeError, match="tensorrt_rtx is not installed"):  # asked for it alone
        run(open_bundle(copy), target, tmp_path / "root", candidates=("int8",))


def test_a_graph_that_cannot_be_built(
    copy: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(copy)

    def refuse(*_: object, **__: object) -> None:
        raise VerificationError("no kernel for node conv0")

    monkeypatch.setattr(built_here, "build_engine", refuse)
    done = run(open_bundle(copy), target, tmp_path / "root")
    assert "int8 is left out: not built: no kernel for node conv0" in done.warnings
    with pytest.raises(VerificationError, match="no kernel for node conv0"):
        run(open_bundle(copy), target, tmp_path / "root", candidates=("int8",))


def test_an_engine_that_computes_something_else(built: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    target = target_of(rtx(tmp_path / "rtx", graph_files, SLOWER, trt.__version__, wrong=("int8",)))
    done = run(built, target, tmp_path / "root")
    assert "image 0 is class" in {row.name: row.error for row in done.rows}["int8"]
    assert done.choice.active == "int8_pointwise"


def test_another_version_or_card(jetson_bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path) -> None:
    target = target_of(rtx(tmp_path / "older", graph_files, SLOWER, "1.7.0.1"))
    with pytest.raises(UsageError, match=r"the device has TensorRT for RTX 1\.7\.0\.1, this machine 1\.7"):
        run(jetson_bundle, target, tmp_path / "root")
    target = target_of(rtx(tmp_path / "new", graph_files, SLOWER, "1.6.0.1"))
    with pytest.raises(UsageError, match=r"does not fit the target NVIDIA RTX GPU: it has TensorRT for RTX 1\.6"):
        run(jetson_bundle, target, tmp_path / "root")
    target = target_of(rtx(tmp_path / "orin", graph_files, SLOWER, trt.__version__, card="8.7"))
    with pytest.raises(UsageError, match=r"card is a NVIDIA GeForce RTX 4070: '8\.7' is no compute capability"):
        run(jetson_bundle, target, tmp_path / "root")


def test_what_is_wrong_is_said_before_anything_is_built(
    jetson_bundle: Bundle, device_bundle: Bundle, target: Target, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no candidate bogus"):
        run(jetson_bundle, target, tmp_path / "root", candidates=("int8", "bogus"))
    with pytest.raises(UsageError, match=r"int8: the bundle has no such graph: make it with edge-van quantize"):
        run(device_bundle, target, tmp_path / "root", candidates=("int8",))


def test_without_a_card(jetson_bundle: Bundle, tmp_path: Path) -> None:
    """The package as it is: what it says of this machine is what a user reads."""
    with pytest.raises(
        UsageError, match=r"no TensorRT for RTX that runs \(edge-van: .*GPU.*\): it takes NVIDIA's driver"
    ):
        run(jetson_bundle, target_of((sys.executable,)), tmp_path / "root")
    with pytest.raises(UsageError, match=r"it has no TensorRT for RTX that runs .*No module named 'edge_van'\)"):
        run(jetson_bundle, target_of((sys.executable, "-S")), tmp_path / "root")
