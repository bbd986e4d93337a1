"""``bundle.models``: every model of a bundle, what runs it, what it takes, which engine is active."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import ACCURACY, MANIFEST

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet
from edge_van.bundle.layout import ARM_IR, ARM_ONNX, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX, graph_path, plan_path
from edge_van.bundle.models import engine_of, models_of
from edge_van.bundle.records import FileEntry, Manifest, SchemeResult
from edge_van.errors import UsageError

RTX = "rtx-sm89-1.7"


def scheme(name: str, file: str, *, quantized: int, float_type: str = "float16") -> SchemeResult:
    result = SchemeResult(name, file, True, (), quantized, 30.0, 99.0, 64, "tensorrt", float_type)
    return replace(result, accuracy=replace(ACCURACY, model=name))


def engine(name: str) -> EngineRecord:
    sha = "ab" * 32
    return EngineRecord(
        1, name, "tensorrt_rtx", "1.7", ("8.9",), None, "a.onnx", sha, sha, 1, 2.0, "none", layers=()
    )  # fmt: skip


SCHEMES = (
    SchemeResult("openvino", OPENVINO_ONNX, False, ("conv",), 74, 31.5, 99.0, 64),
    replace(scheme("openvino_arm", ARM_ONNX, quantized=70, float_type="float32"), target="openvino_arm"),
    scheme("int8", graph_path("int8"), quantized=109),
    scheme("fp16", graph_path("fp16"), quantized=0),
    scheme("fp32", FP32_ONNX, quantized=0, float_type="float32"),
)
FILES = (FP32_IR, INT8_IR, ARM_IR, FP32_ONNX, OPENVINO_ONNX, ARM_ONNX, graph_path("int8"), graph_path("fp16"))
ENGINES = EngineSet((engine("int8"), engine("fp16")), EngineChoice("int8", 1.0, "int8 is the fastest", ()))
PLANS = tuple(plan_path(RTX, name) for name in ("int8", "fp16"))


def manifest(*, files: tuple[str, ...] = (*FILES, *PLANS), **changes: object) -> Manifest:
    entries = tuple(FileEntry(path, 1, "ab" * 32) for path in files)
    fields = {"schemes": SCHEMES, "files": entries, "accuracy": ACCURACY, "engines": {RTX: ENGINES}}
    return replace(MANIFEST, **{**fields, **changes})


def test_every_model_by_every_runtime() -> None:
    found = {(m.runtime, m.precision, m.scheme, m.file, m.takes) for m in models_of(manifest())}
    assert found == {
        ("openvino", "fp32", None, FP32_IR, "pixels"),
        ("openvino", "int8", "openvino", INT8_IR, "pixels"),
        ("openvino", "int8", "openvino_arm", ARM_IR, "pixels"),
        ("onnxruntime", "int8", "openvino_arm", ARM_ONNX, "floats"),
        ("onnxruntime", "fp32", None, FP32_ONNX, "floats"),
        ("onnxruntime", "int8", "openvino", OPENVINO_ONNX, "floats"),
        ("torch", "fp32", None, FP32_ONNX, "floats"),
        ("onnxruntime", "int8", "int8", graph_path("int8"), "floats"),
        ("onnxruntime", "fp16", "fp16", graph_path("fp16"), "floats"),
        ("onnxruntime", "fp32", "fp32", FP32_ONNX, "floats"),
        ("tensorrt_rtx", "int8", "int8", PLANS[0], "floats"),
        ("tensorrt_rtx", "fp16", "fp16", PLANS[1], "floats"),
    }


def test_what_is_not_listed_is_not_there() -> None:
    assert {m.file for m in models_of(manifest(files=(FP32_ONNX, graph_path("int8"))))} == {
        FP32_ONNX,
        graph_path("int8"),
    }
    assert models_of(manifest(files=())) == ()


def test_what_a_model_takes_follows_the_input_spec_and_the_recipe() -> None:
    camera = manifest(input_spec=replace(MANIFEST.input_spec, source_size=(480, 640)))
    assert {m.takes for m in models_of(camera) if m.runtime == "openvino"} == {"camera"}
    assert {m.takes for m in models_of(camera) if m.runtime == "onnxruntime"} == {"floats"}
    bytes_in = manifest(recipe=replace(MANIFEST.recipe, tensorrt_input="uint8"))
    assert {m.takes for m in models_of(bytes_in) if m.is_engine} == {"pixels"}
    assert {m.takes for m in models_of(bytes_in) if m.file == graph_path("int8")} == {"pixels"}
    assert {m.takes for m in models_of(bytes_in) if m.file == FP32_ONNX} == {"floats"}


def test_accuracy_files_and_graphs() -> None:
    models = {(m.runtime, m.file): m for m in models_of(manifest())}
    int8 = models["openvino", INT8_IR]
    assert (int8.accuracy, int8.files, int8.graph) == (ACCURACY, (INT8_IR, "openvino/model.bin"), OPENVINO_ONNX)
    plan = models["tensorrt_rtx", PLANS[0]]
    assert plan.accuracy is not None
    assert (plan.accuracy.model, plan.files, plan.graph) == ("int8", (PLANS[0],), graph_path("int8"))
    assert (plan.active, models["tensorrt_rtx", PLANS[1]].active) == (True, False)
    assert (plan.target, plan.compute_capabilities) == (RTX, ("8.9",))


def test_the_graphs_of_other_devices() -> None:
    assert [m.scheme for m in models_of(manifest()) if m.is_device_graph] == ["openvino_arm", "int8", "fp16", "fp32"]


def test_one_engine() -> None:
    content = manifest()
    assert engine_of(content, RTX, None).scheme == "int8"
    assert engine_of(content, RTX, "fp16").file == PLANS[1]
    none = replace(ENGINES, choice=replace(ENGINES.choice, active=None, reason="not timed"))
    for changed, target, name, words in (
        (content, "orin", None, "has no engines for 'orin'; it has rtx-sm89-1.7"),
        (content, RTX, "int4", "no engine of the scheme 'int4'; it has int8, fp16"),
        (manifest(engines={RTX: none}), RTX, None, "is active (not timed): give --scheme int8|fp16"),
        (manifest(engines={}), RTX, None, "it has none"),
    ):
        with pytest.raises(UsageError) as caught:
            engine_of(changed, target, name)
        assert words in str(caught.value)


def test_an_engine_whose_graph_is_gone() -> None:
    content = manifest(schemes=SCHEMES[:3])  # without fp16
    [gone] = [m for m in models_of(content) if m.is_engine and m.scheme == "fp16"]
    assert (gone.accuracy, gone.graph, gone.precision) == (None, FP32_ONNX, "fp32")
    unlisted = manifest(files=FILES)
    with pytest.raises(UsageError, match="make them again with edge-van build"):
        engine_of(unlisted, RTX, None)


def test_a_cpu_gets_the_model_it_has_kernels_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, manifest())
    for arm, file, graph in ((False, INT8_IR, OPENVINO_ONNX), (True, ARM_IR, ARM_ONNX)):
        monkeypatch.setattr("edge_van.bundle.bundle.is_arm", lambda arm=arm: arm)
        assert bundle.model("openvino", "int8").file == file
        assert bundle.model("onnxruntime", "int8").file == graph
        assert bundle.model("openvino", "fp32").file == FP32_IR
        old = Bundle(tmp_path, manifest(files=(FP32_IR, INT8_IR)))  # of a version without ARM's scheme
        assert old.model("openvino", "int8").file == INT8_IR


def test_a_bundles_own_model(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, manifest())
    assert bundle.model("openvino", "int8").file == INT8_IR
    assert bundle.model("onnxruntime", "int8").file == OPENVINO_ONNX
    bare = Bundle(tmp_path, manifest(files=(FP32_ONNX, graph_path("int8"))))
    assert bare.model("onnxruntime", "int8").file == graph_path("int8")
    with pytest.raises(UsageError, match="has no int8 model for openvino; it has onnxruntime fp32"):
        bare.model("openvino", "int8")
