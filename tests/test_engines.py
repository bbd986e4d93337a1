"""``edge_van.engines``: a real bundle gets real engines, built ahead of time; without a GPU nothing is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from bundle_samples import ACCURACY, MANIFEST
from cli_samples import error_line, run

from edge_van import engines
from edge_van.bundle import Bundle, BundleWriter, open_bundle, verify
from edge_van.engine_record import PLAN_NAME, EngineRecord
from edge_van.engines import ACTIVE_NAME, EnginesOptions, build_engines
from edge_van.errors import BundleError, MissingRuntimeError, UsageError, VerificationError
from edge_van.export.precision import to_float16
from edge_van.progress import SILENT
from edge_van.records import SchemeResult
from edge_van.runtimes.cuda import Device

pytest.importorskip("tensorrt_rtx")
CARDS = EnginesOptions(compute_capabilities=("SM89", "SM120"))
TAG = "rtx-sm89-sm120-1.7"


@pytest.fixture
def bundle(graphs: dict[str, Path], tmp_path: Path) -> Bundle:
    def scheme(name: str, layers: int, drop: float) -> SchemeResult:
        accuracy = replace(ACCURACY, top1_drop_points=drop)
        file = f"onnx/model_{name}.onnx"
        return SchemeResult(name, file, True, (), layers, 30.0, 99.0, 9, "tensorrt", "float16", accuracy)

    schemes = (scheme("int8", 45, 0.5), scheme("int8_pointwise", 30, 0.2))
    with BundleWriter(tmp_path / "b") as writer:
        for s in schemes:
            model = to_float16(onnx.load(graphs[s.name]))
            writer.path(s.file).write_bytes(model.SerializeToString())
        return writer.finish(replace(MANIFEST, schemes=schemes, engines={}))


def test_engines_are_built_and_listed(bundle: Bundle) -> None:
    updated, tag = build_engines(bundle, CARDS, SILENT)
    assert tag.startswith(TAG)
    assert open_bundle(bundle.path).manifest == updated.manifest
    assert verify(updated) == []
    found = updated.manifest.engines[tag]
    assert [e.scheme for e in found.engines] == ["int8", "int8_pointwise"]
    assert found.choice.active is None
    assert {row.note for row in found.choice.table} == {"not timed: no GPU here"}
    assert [row.top1_drop_points for row in found.choice.table] == [0.5, 0.2]
    listed = {f.path for f in updated.manifest.files}
    assert {f"tensorrt/{tag}/{ACTIVE_NAME}", f"tensorrt/{tag}/int8/{PLAN_NAME}"} <= listed
    assert {f.path for f in bundle.manifest.files} < listed

    again, _ = build_engines(updated, replace(CARDS, schemes=("int8",)), SILENT)  # replaces what was there
    assert verify(again) == []
    assert [e.scheme for e in again.manifest.engines[tag].engines] == ["int8"]
    other, _ = build_engines(again, EnginesOptions(compute_capabilities=("8.6",), schemes=("int8",)), SILENT)
    assert len(other.manifest.engines) == 2
    assert verify(other) == []
    assert not list((bundle.path / "tensorrt").glob(".*"))


def test_one_that_cannot_be_built_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engines.build_engine

    def failing(onnx_path: Path, folder: Path, scheme: str, *rest: object) -> EngineRecord:
        if scheme == "int8":
            raise VerificationError("no kernel for it")
        return real(onnx_path, folder, scheme, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "build_engine", failing)
    updated, tag = build_engines(bundle, CARDS, SILENT)
    rows = {row.scheme: row.note for row in updated.manifest.engines[tag].choice.table}
    assert rows == {"int8": "no kernel for it", "int8_pointwise": "not timed: no GPU here"}


def test_when_nothing_can_be_built_the_bundle_stays(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> EngineRecord:
        raise VerificationError("no kernel for it")

    monkeypatch.setattr(engines, "build_engine", failing)
    with pytest.raises(VerificationError, match="no kernel"):
        build_engines(bundle, CARDS, SILENT)
    assert verify(bundle) == []
    assert open_bundle(bundle.path).manifest == bundle.manifest


def test_an_interrupt_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> EngineRecord:
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "build_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_engines(bundle, CARDS, SILENT)
    assert verify(bundle) == []


def test_the_fastest_within_the_limit_is_active(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times stand in for a GPU's; the engines and the choice are real."""
    times = {"int8": (1.0, 1.2), "int8_pointwise": (2.0, 2.2)}
    monkeypatch.setattr(engines, "device", lambda: Device("NVIDIA GeForce RTX 4090", "8.9"))
    monkeypatch.setattr(engines, "_times", lambda records, *_: ((name, times[name]) for name in records))
    for limit, active in ((1.0, "int8"), (0.3, "int8_pointwise"), (0.1, None)):
        updated, tag = build_engines(bundle, replace(CARDS, max_drop_points=limit), SILENT)
        assert updated.manifest.engines[tag].choice.active == active


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (EnginesOptions(), UsageError, "nothing here can build|name the cards"),
        (EnginesOptions("tensorrt_rtx"), UsageError, "--compute-capability"),
        (EnginesOptions("openvino"), UsageError, "tensorrt, tensorrt_rtx, trtexec"),
        (EnginesOptions("tensorrt"), MissingRuntimeError, "JetPack"),
        (EnginesOptions("trtexec"), MissingRuntimeError, "trtexec does not run"),
        (EnginesOptions(compute_capabilities=("8.7",)), UsageError, "Jetson"),
        (EnginesOptions(compute_capabilities=("8.9",), schemes=("int4",)), UsageError, "no scheme int4"),
    ],
)
def test_what_cannot_be_built(
    bundle: Bundle,
    options: EnginesOptions,
    kind: type[Exception],
    message: str,
) -> None:
    expected = (kind, MissingRuntimeError) if options == EnginesOptions() else kind
    with pytest.raises(expected, match=message):
        build_engines(bundle, options, SILENT)
    assert verify(bundle) == []


def test_a_bundle_without_graphs(bundle: Bundle) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, schemes=()))
    with pytest.raises(BundleError, match="holds no graph for TensorRT"):
        build_engines(bare, CARDS, SILENT)


def test_the_command(bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capfd, monkeypatch, "build", bundle.path, "--compute-capability", "SM89", "--max-drop", 1)
    assert code == 0, err
    assert "45 int8" in out
    assert "15 fp16, 30 int8" in out
    assert "Active: none" in out
    flags = ("build", bundle.path, "--max-drop", 1, "--compute-capability")
    code, out, err = run(capfd, monkeypatch, *flags, "SM86", "--scheme", "int8", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["target"].startswith("rtx-sm86-")
    assert [len(e["layers"]) for e in document["engines"]] == [45]
    code, out, err = run(capfd, monkeypatch, *flags, "SM99")
    assert (code, out) == (2, "")
    assert "SM99" in error_line(err)
