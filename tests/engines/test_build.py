"""``edge_van.engines.build``: a real bundle gets real engines, built ahead of time; without a GPU nothing is chosen."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_samples import ACCURACY, MANIFEST
from cli_samples import error_line, run, start
from PIL import Image

from edge_van.bundle.bundle import Bundle, open_bundle, update_manifest, verify
from edge_van.bundle.engine_record import EngineRecord
from edge_van.bundle.layout import LOG_NAME, PLAN_NAME
from edge_van.bundle.models import engine_of
from edge_van.bundle.records import SchemeResult
from edge_van.bundle.writer import BundleWriter
from edge_van.engines import build as engines
from edge_van.engines import target as engine_target
from edge_van.engines.build import ACTIVE_NAME, build
from edge_van.engines.target import EnginesOptions
from edge_van.engines.tensorrt import BuildOptions
from edge_van.errors import BundleError, MissingRuntimeError, UsageError, VerificationError
from edge_van.export.precision import to_float16
from edge_van.input_spec import InputSpec
from edge_van.progress import Terminal, Work
from edge_van.runtimes import Session, model_file, open_model
from edge_van.runtimes.cuda import Device

pytest.importorskip("tensorrt_rtx")
CARDS = EnginesOptions(compute_capabilities=("SM89", "SM120"))
CLASSES = tuple("abcdefg")
TAG = "rtx-sm89-sm120-1.7"
ADA = Device("NVIDIA GeForce RTX 4090", "8.9")


@pytest.fixture
def bundle(graphs: dict[str, Path], tmp_path: Path) -> Bundle:
    def scheme(name: str, layers: int, drop: float) -> SchemeResult:
        accuracy = replace(ACCURACY, drop_points=drop)
        file = f"onnx/model_{name}.onnx"
        return SchemeResult(name, file, True, (), layers, 30.0, 99.0, 9, "tensorrt", "float16", accuracy)

    schemes = (scheme("int8", 45, 0.5), scheme("int8_pointwise", 30, 0.2))
    with BundleWriter(tmp_path / "b") as writer:
        writer.path("onnx/model.onnx").write_bytes(graphs["fp32"].read_bytes())
        for s in schemes:
            model = to_float16(onnx.load(graphs[s.name]))
            writer.path(s.file).write_bytes(model.SerializeToString())
        spec = InputSpec(size=(64, 64), classes=CLASSES)
        return writer.finish(replace(MANIFEST, schemes=schemes, engines={}, num_classes=len(CLASSES), input_spec=spec))


REAL_BUILD = engines.build_engine


@pytest.fixture(scope="module")
def built_before(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., EngineRecord]:
    """The real builder, which builds once for a graph, a scheme and a card; then it gives copies. What is tested here
    is what becomes of engines, not the builder."""
    kept: dict[object, tuple[Path, EngineRecord]] = {}
    copies = itertools.count()

    def build(onnx_path: Path, folder: Path, scheme: str, options: BuildOptions, **others: Any) -> EngineRecord:
        key = (onnx_path.name, onnx_path.read_bytes(), scheme, options)
        if key not in kept:
            made = tmp_path_factory.mktemp("engine")
            kept[key] = made, REAL_BUILD(onnx_path, made, scheme, options, **others)
        made, record = kept[key]
        shutil.copytree(made, folder, dirs_exist_ok=True)
        with (folder / LOG_NAME).open("a") as log:
            log.write(f"copy {next(copies)}\n")  # so that one engine in another's place is seen
        return record

    return build


@pytest.fixture(autouse=True)
def _built_once(built_before: Callable[..., EngineRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "build_engine", built_before)


def test_engines_are_built_and_listed(bundle: Bundle) -> None:
    built = build(bundle, options=CARDS)
    updated, tag = built.bundle, built.target
    assert tag.startswith(TAG)
    assert built.failed == {}
    assert open_bundle(bundle.path).manifest == updated.manifest
    assert verify(updated) == []
    found = updated.manifest.engines[tag]
    assert [e.scheme for e in found.engines] == ["int8", "int8_pointwise"]
    assert found.choice.active is None
    assert {row.note for row in found.choice.table} == {"not timed: no GPU here"}
    assert [row.drop_points for row in found.choice.table] == [0.5, 0.2]
    listed = {f.path for f in updated.manifest.files}
    assert {f"tensorrt/{tag}/{ACTIVE_NAME}", f"tensorrt/{tag}/int8/{PLAN_NAME}"} <= listed
    assert {f.path for f in bundle.manifest.files} < listed

    # one scheme built again leaves the other where it is; what the caller's manifest lacks by now is not lost
    again = build(bundle, options=replace(CARDS, schemes=("int8",))).bundle
    assert verify(again) == []
    assert {e.scheme for e in again.manifest.engines[tag].engines} == {"int8", "int8_pointwise"}
    assert {row.scheme for row in again.manifest.engines[tag].choice.table} == {"int8", "int8_pointwise"}
    options = EnginesOptions(compute_capabilities=("8.6",), schemes=("int8",))
    other = build(bundle, options=options).bundle
    assert len(other.manifest.engines) == 2
    assert verify(other) == []
    assert not list((bundle.path / "tensorrt").glob(".*"))


def fails_for(*broken: str, error: type[BaseException] = VerificationError) -> Callable[..., EngineRecord]:
    """The builder that is in use, but for the schemes named."""
    working = engines.build_engine

    def build(onnx_path: Path, folder: Path, scheme: str, *rest: Any, **options: Any) -> EngineRecord:
        if scheme in broken:
            (folder / LOG_NAME).write_text("what the builder said")
            raise error("no kernel for it")
        return working(onnx_path, folder, scheme, *rest, **options)

    return build


def test_one_that_cannot_be_built_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "build_engine", fails_for("int8"))
    built = build(bundle, options=CARDS)
    assert built.failed == {"int8": "no kernel for it"}
    found = built.bundle.manifest.engines[built.target]
    rows = {row.scheme: row.note for row in found.choice.table}
    assert rows == {"int8": "no kernel for it", "int8_pointwise": "not timed: no GPU here"}
    assert [e.scheme for e in found.engines] == ["int8_pointwise"]
    assert verify(built.bundle) == []
    log = bundle.path / "tensorrt" / built.target / "int8" / LOG_NAME
    assert log.read_text() == "what the builder said"


def test_when_nothing_can_be_built_the_bundle_stays(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = build(bundle, options=replace(CARDS, schemes=("int8",))).bundle
    monkeypatch.setattr(engines, "build_engine", fails_for("int8", "int8_pointwise"))
    with pytest.raises(VerificationError, match="no kernel"):
        build(before, options=CARDS, work=Work(Terminal()))
    assert verify(before) == []
    assert open_bundle(bundle.path).manifest == before.manifest
    [logs] = [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines() if "builder's logs" in line]
    assert {p.parent.name for p in Path(logs).rglob(LOG_NAME)} == {"int8", "int8_pointwise"}
    shutil.rmtree(logs)


@pytest.mark.parametrize("there_before", [False, True])
def test_an_interrupt_leaves_what_was_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, there_before: bool
) -> None:
    if there_before:
        bundle = build(bundle, options=replace(CARDS, schemes=("int8",))).bundle
    monkeypatch.setattr(engines, "build_engine", fails_for("int8_pointwise", error=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(bundle, options=CARDS)
    assert verify(bundle) == []
    assert open_bundle(bundle.path).manifest == bundle.manifest
    assert not list((bundle.path / "tensorrt").glob(".*"))


def test_a_rebuild_that_fails_leaves_the_engine_that_was_there(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(bundle, options=CARDS)
    plan = bundle.path / "tensorrt" / before.target / "int8" / PLAN_NAME
    content = plan.read_bytes()
    monkeypatch.setattr(engines, "build_engine", fails_for("int8"))
    monkeypatch.setattr(engine_target, "device", lambda: ADA)
    monkeypatch.setattr(engines, "_time", lambda name, *_: (1.0 if name == "int8" else 2.0,))
    built = build(before.bundle, options=CARDS)
    assert built.failed == {"int8": "no kernel for it"}
    assert built.bundle.manifest.engines[built.target].choice.active == "int8"  # it can still be chosen
    assert {e.scheme for e in built.bundle.manifest.engines[built.target].engines} == {"int8", "int8_pointwise"}
    assert plan.read_bytes() == content
    assert (plan.parent / LOG_NAME).read_text() == "what the builder said"
    assert verify(built.bundle) == []


def test_a_damaged_engine_is_not_taken_over(bundle: Bundle) -> None:
    built = build(bundle, options=CARDS)
    plan = bundle.path / "tensorrt" / built.target / "int8" / PLAN_NAME
    data = bytearray(plan.read_bytes())
    data[len(data) // 2] ^= 1
    plan.write_bytes(data)
    again = build(built.bundle, options=replace(CARDS, schemes=("int8_pointwise",)))
    assert [e.scheme for e in again.bundle.manifest.engines[built.target].engines] == ["int8_pointwise"]
    assert not plan.exists()


def test_files_and_manifest_change_together(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(bundle, options=replace(CARDS, schemes=("int8",))).bundle

    def full(*_: object, **__: object) -> Bundle:
        raise OSError(errno.ENOSPC, "No space left on device", str(bundle.path / "manifest.json"))

    monkeypatch.setattr(engines, "update_manifest", full)
    with pytest.raises(BundleError, match="the disk is full"):
        build(bundle, options=CARDS)
    assert verify(before) == []
    assert open_bundle(bundle.path).manifest == before.manifest


def test_an_engine_of_a_graph_that_changed_is_not_kept(bundle: Bundle) -> None:
    built = build(bundle, options=CARDS)
    stale = tuple(
        replace(e, onnx_sha256="0" * 64) if e.scheme == "int8" else e
        for e in built.bundle.manifest.engines[built.target].engines
    )
    changed = replace(built.bundle.manifest.engines[built.target], engines=stale)
    bundle = update_manifest(built.bundle, engines={built.target: changed})
    again = build(bundle, options=replace(CARDS, schemes=("int8_pointwise",))).bundle
    assert [e.scheme for e in again.manifest.engines[built.target].engines] == ["int8_pointwise"]
    assert verify(again) == []


def test_the_fastest_within_the_limit_is_active(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times stand in for a GPU's; the engines and the choice are real."""
    times = {"int8": (1.0, 1.2), "int8_pointwise": (2.0, 2.2)}
    monkeypatch.setattr(engine_target, "device", lambda: ADA)
    monkeypatch.setattr(engines, "_time", lambda name, *_: times[name])
    for limit, active in ((1.0, "int8"), (0.3, "int8_pointwise"), (0.1, None)):
        built = build(bundle, options=replace(CARDS, max_drop_points=limit))
        choice = built.bundle.manifest.engines[built.target].choice
        assert choice.active == active
        assert [row.median_ms for row in choice.table] == [pytest.approx(1.1), pytest.approx(2.1)]


def test_what_cannot_be_timed_is_kept_and_not_chosen(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def timing(name: str, *_: object) -> tuple[float, ...]:
        if name == "int8":
            raise MissingRuntimeError("no memory on this GPU")
        return (2.0, 2.2)

    monkeypatch.setattr(engine_target, "device", lambda: ADA)
    monkeypatch.setattr(engines, "_time", timing)
    built = build(bundle, options=CARDS)
    found = built.bundle.manifest.engines[built.target]
    assert [e.scheme for e in found.engines] == ["int8", "int8_pointwise"]
    assert found.choice.active == "int8_pointwise"
    assert [row.note for row in found.choice.table] == ["not timed: no memory on this GPU", ""]


@pytest.mark.parametrize("broken", [IndexError("out of bounds"), ModuleNotFoundError("No module named 'scipy'"), None])
def test_whatever_happens_while_timing_the_engines_are_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, broken: Exception | None
) -> None:
    def timing(*_: object) -> tuple[float, ...]:
        if broken is not None:
            raise broken
        return ()

    monkeypatch.setattr(engine_target, "device", lambda: ADA)
    monkeypatch.setattr(engines, "_time", timing)
    built = build(bundle, options=replace(CARDS, schemes=("int8",)))
    choice = built.bundle.manifest.engines[built.target].choice
    assert (choice.active, choice.reason, choice.timed_by) == (None, "no engine was timed", "")
    assert choice.table[0].note.startswith(
        "not timed: " + ("no inference" if broken is None else type(broken).__name__)
    )


def test_no_engine_within_the_limit_is_the_accuracy_gate(
    bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_target, "device", lambda: ADA)
    monkeypatch.setattr(engines, "_time", lambda *_: (1.0,))
    code, out, err = run(
        capfd, monkeypatch, "build", bundle.path, "--compute-capability", "SM89", "--max-drop", 0.1, "--json"
    )
    assert code == 3
    assert "every engine loses over 0.1 points, the best 0.20" in error_line(err)
    assert json.loads(out)["choice"]["timed_by"] == "wall time with the copies to and from the GPU"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_real_build(bundle: Bundle, number: signal.Signals) -> None:
    process = start("build", bundle.path, "--compute-capability", "SM89")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("Building int8"):
        assert line, "ended before the signal"
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert "Traceback" not in err
    assert open_bundle(bundle.path).manifest == bundle.manifest
    assert verify(bundle) == []
    assert not list((bundle.path / "tensorrt").glob("*"))


def test_engines_for_another_card_are_not_timed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_target, "device", lambda: Device("NVIDIA GeForce RTX 3090", "8.6"))
    monkeypatch.setattr(engines, "_time", lambda *_: pytest.fail("it was timed"))
    built = build(bundle, options=replace(CARDS, schemes=("int8",)))
    [row] = built.bundle.manifest.engines[built.target].choice.table
    assert row.note == "not timed: the GPU here (NVIDIA GeForce RTX 3090) is none it was built for"


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
        build(bundle, options=options)
    assert verify(bundle) == []


def test_a_bundle_without_graphs(bundle: Bundle) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, schemes=()))
    with pytest.raises(BundleError, match="holds no graph for TensorRT"):
        build(bare, options=CARDS)


def test_the_command(bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capfd, monkeypatch, "build", bundle.path, "--compute-capability", "SM89", "--max-drop", 1)
    assert code == 0, err
    assert "1 fp16, 44 int8" in out
    assert "16 fp16, 29 int8" in out
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


def test_the_command_ends_with_an_error_where_a_scheme_is_missing(
    bundle: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "build_engine", fails_for("int8"))
    code, out, err = run(capfd, monkeypatch, "build", bundle.path, "--compute-capability", "SM89", "--max-drop", 1)
    assert code == 1
    assert "int8: no kernel for it" in out
    assert "16 fp16, 29 int8" in out
    assert error_line(err) == "edge-van: error: not built: int8: no kernel for it"
    assert verify(open_bundle(bundle.path)) == []


@pytest.fixture
def with_engines(bundle: Bundle) -> tuple[Bundle, str]:
    built = build(bundle, options=CARDS)
    found = built.bundle.manifest.engines[built.target]
    chosen = replace(found, choice=replace(found.choice, active="int8_pointwise"))
    return update_manifest(built.bundle, engines={built.target: chosen}), built.target


@pytest.mark.parametrize(("scheme", "runs"), [((), "int8_pointwise"), (("--scheme", "int8"), "int8")])
def test_an_engine_is_validated_against_the_float_graph(
    with_engines: tuple[Bundle, str],
    graphs: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: tuple[str, ...],
    runs: str,
) -> None:
    """No GPU is here: ONNX Runtime stands in for it, with the graph the engine was built from."""
    bundle, tag = with_engines
    data = tmp_path / "val"
    for name in CLASSES:
        (data / name).mkdir(parents=True)
        Image.fromarray(np.full((70, 70, 3), 9 * ord(name) % 256, np.uint8)).save(data / name / "0.png")
    opened = []

    def on_the_gpu(runtime: str, path: Path, **options: Any) -> Session:
        if runtime == "tensorrt_rtx":
            opened.append(path.relative_to(bundle.path).as_posix())
            session = open_model("onnxruntime", graphs[path.parent.name], exact=True)
            run_one = session._run

            def within_the_profile(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                assert all(len(array) == 1 for array in feed.values()), "an engine is built for one image"
                return run_one(feed)

            monkeypatch.setattr(session, "_run", within_the_profile)
            return session
        return open_model(runtime, path, **options)

    flags = ("validate", bundle.path, "--data", data, "--engine", tag, *scheme, "--json")
    code, out, err = run(capfd, monkeypatch, *flags)
    assert (code, out) == (5, "")  # the real one
    assert "no NVIDIA GPU" in error_line(err)
    monkeypatch.setattr(model_file, "open_model", on_the_gpu)
    code, out, err = run(capfd, monkeypatch, *flags)
    assert code == 0, err
    assert opened == [f"tensorrt/{tag}/{runs}/{PLAN_NAME}"]
    assert json.loads(out)["images"] == len(CLASSES)


def test_an_engine_that_is_not_there(
    with_engines: tuple[Bundle, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, tag = with_engines
    found = bundle.manifest.engines[tag]
    for target, scheme, message in (
        ("orin", None, f"has no engines for 'orin'; it has {tag}"),
        (tag, "fp16", "has no engine of the scheme 'fp16'; it has int8, int8_pointwise"),
    ):
        with pytest.raises(UsageError, match=message):
            engine_of(bundle.manifest, target, scheme)
    none = replace(found, choice=replace(found.choice, active=None, reason="not timed"))
    bundle = update_manifest(bundle, engines={tag: none})
    with pytest.raises(UsageError, match=r"is active \(not timed\): give --scheme int8\|int8_pointwise"):
        engine_of(bundle.manifest, tag, None)
