"""``edge_van.export.precision``: the same network in float16, from bytes, and as TensorRT 8 knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.engines.tensorrt_8 import for_tensorrt_8
from edge_van.errors import VerificationError
from edge_van.export.precision import to_float16, with_uint8_input
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.statistics import sqnr_db

SPEC = InputSpec((64, 64), 1.0, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def saved(model: Any, path: Path) -> Path:
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def logits(path: Path, pixels: np.ndarray) -> np.ndarray:
    with NormalizedSession(open_model("onnxruntime", path, exact=True), SPEC) as session:
        assert session.inputs[0].dtype == np.uint8
        return session.run({session.inputs[0].name: pixels})[session.outputs[0].name]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, *SPEC.size, 3), np.uint8)


@pytest.mark.parametrize(("name", "least_db"), [("fp32", 45.0), ("int8", 20.0), ("int8_pointwise", 20.0)])
def test_float16_is_the_same_network(
    graphs: dict[str, Path], pixels: np.ndarray, tmp_path: Path, name: str, least_db: float
) -> None:
    source = onnx.load(graphs[name])
    half = to_float16(source)
    types = {t.data_type for t in half.graph.initializer}
    assert TensorProto.FLOAT not in types
    assert [t.data_type for t in source.graph.initializer].count(TensorProto.FLOAT) > 10  # the source is left alone
    assert [n.op_type for n in half.graph.node].count("Cast") == 2
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert check_qdq_rules(half) == check_qdq_rules(source)
    found = logits(saved(half, tmp_path / "half.onnx"), pixels)
    assert found.dtype == np.float32
    assert sqnr_db(logits(graphs[name], pixels), found) > least_db


def test_the_int8_grid_does_not_move(graphs: dict[str, Path]) -> None:
    """Scales of symmetric schemes are float16 numbers from the start."""
    source, half = onnx.load(graphs["int8"]), to_float16(onnx.load(graphs["int8"]))
    before = {t.name: numpy_helper.to_array(t) for t in source.graph.initializer}
    scales = {n.input[1] for n in source.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert len(scales) > 80
    for tensor in half.graph.initializer:
        if tensor.name in scales or before[tensor.name].dtype == np.int8:
            assert np.array_equal(numpy_helper.to_array(tensor).astype(np.float32), before[tensor.name])


@pytest.mark.parametrize("name", ["fp32", "int8"])
@pytest.mark.parametrize("half", [False, True])
def test_bytes_in(graphs: dict[str, Path], pixels: np.ndarray, tmp_path: Path, name: str, half: bool) -> None:
    source = onnx.load(graphs[name])
    if half:
        source = to_float16(source)
    model = with_uint8_input(source, SPEC)
    [value] = model.graph.input
    assert value.type.tensor_type.elem_type == TensorProto.UINT8
    assert [d.dim_value for d in value.type.tensor_type.shape.dim][1:] == [64, 64, 3]
    found = logits(saved(model, tmp_path / "bytes.onnx"), pixels)
    reference = logits(saved(source, tmp_path / "floats.onnx"), pixels)
    assert sqnr_db(reference, found) > (100.0 if name == "fp32" and not half else 20.0)


@pytest.mark.parametrize("version", ["8.5.2", "8.6.2"])
@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_what_tensorrt_8_knows(
    graphs: dict[str, Path], pixels: np.ndarray, tmp_path: Path, name: str, version: str
) -> None:
    model = for_tensorrt_8(to_float16(onnx.load(graphs[name])), version)
    onnx.checker.check_model(model, full_check=True)
    operators = {n.op_type for n in model.graph.node}
    assert "Gelu" not in operators
    assert ("LayerNormalization" in operators) is (version == "8.6.2")
    assert "Erf" in operators
    assert model.opset_import[0].version == 17
    assert TensorProto.FLOAT16 not in {t.data_type for t in model.graph.initializer}
    assert check_qdq_rules(model).int8_layers == check_qdq_rules(onnx.load(graphs[name])).int8_layers
    found = logits(saved(model, tmp_path / "8.onnx"), pixels)
    assert sqnr_db(logits(graphs[name], pixels), found) > (45.0 if name == "fp32" else 20.0)


@given(st.floats(-30, 30, width=32))
def test_gelu_becomes_its_definition(x: float) -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"], "gelu")], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feed = {"x": np.array([x], np.float32)}
    [expected], [found] = (
        ReferenceEvaluator(model).run(None, feed),
        ReferenceEvaluator(for_tensorrt_8(model, "8.6.2")).run(None, feed),
    )
    assert found == pytest.approx(expected, abs=1e-5)


def edited(path: Path, name_ends: str, value: float) -> Any:
    model = onnx.load(path)
    [tensor] = [t for t in model.graph.initializer if t.name == name_ends]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def test_a_weight_too_large_is_named(graphs: dict[str, Path]) -> None:
    with pytest.raises(VerificationError, match=r"norm1\.weight holds 7e\+04, over float16's 65504.*tensorrt_float"):
        to_float16(edited(graphs["fp32"], "norm1.weight", 7e4))


@pytest.mark.parametrize("value", [1e-9, 0.1])
def test_a_scale_that_is_no_float16_is_named(graphs: dict[str, Path], value: float) -> None:
    name = "block1.0.attn.proj_1.weight_scale"
    with pytest.raises(VerificationError, match=rf"{name} is a scale of .*no float16"):
        to_float16(edited(graphs["int8"], name, value))
