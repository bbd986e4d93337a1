"""``edge_van.export.rounded``: every tensor is a number of the shorter float, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edge_van.errors import VerificationError
from edge_van.export.rounded import SHORTER, write_rounded
from edge_van.statistics import sqnr_db

TYPES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
LEAST_DB = {"bf16": 35.0, "fp16": 55.0}


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def with_all_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    shown = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name not in shown and not name.endswith("_short"):
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("kind", SHORTER)
def test_every_tensor_is_rounded(graphs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    target = tmp_path / "rounded.onnx"
    write_rounded(graphs["fp32"], target, kind)
    plain, rounded = onnx.load(graphs["fp32"]), onnx.load(target)
    onnx.checker.check_model(rounded, full_check=True)
    assert [n.op_type for n in rounded.graph.node if n.op_type != "Cast"] == [n.op_type for n in plain.graph.node]
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer]
    floats = [values for values in weights if values.dtype == np.float32]
    assert len(floats) > 10
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    found = run(with_all_tensors(rounded), images)
    exact = {name: values for name, values in found.items() if name.endswith("_exact")}
    computing = [node for node in plain.graph.node if node.op_type not in ("Reshape", "Transpose")]
    assert {f"{name}_exact" for node in computing for name in node.output} == set(exact)
    for values in (*floats, *(found[name.removesuffix("_exact")] for name in exact)):
        np.testing.assert_array_equal(values, values.astype(TYPES[kind]).astype(np.float32))
    for name, values in exact.items():  # of what was computed, the nearest
        np.testing.assert_array_equal(found[name.removesuffix("_exact")], values.astype(TYPES[kind]).astype(np.float32))
    [logits] = run(onnx.load(graphs["fp32"]), images).values()
    assert LEAST_DB[kind] < sqnr_db(logits, found[rounded.graph.output[0].name]) < 90.0


def test_a_result_that_is_no_float(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Shape", ["x"], ["y"], name="s")], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "g.onnx")
    with pytest.raises(VerificationError, match=r"Shape s of g\.onnx gives no float32"):
        write_rounded(tmp_path / "g.onnx", tmp_path / "r.onnx", "bf16")


def test_the_file_it_is_made_of_stays(graphs: dict[str, Path], tmp_path: Path) -> None:
    before = graphs["fp32"].read_bytes()
    write_rounded(graphs["fp32"], tmp_path / "rounded.onnx", "bf16")
    assert graphs["fp32"].read_bytes() == before
