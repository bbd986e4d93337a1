"""``edge_van.export.onnx_centred``: a one-sided tensor on a grid around 0, with the same integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_van.errors import VerificationError
from edge_van.export.onnx_centred import centre
from edge_van.runtimes import open_model
from edge_van.statistics import sqnr_db


def model(zero_point: int, seed: int, *, kernel: int = 1, readers: int = 1) -> Any:
    """GELU, uint8 Q/DQ, a convolution of int8 weights."""
    random = np.random.default_rng(seed)
    values = {
        "s": np.float32(0.0625),
        "z": np.uint8(zero_point),
        "w": random.integers(-127, 128, (5, 3, kernel, kernel)).astype(np.int8),
        "ws": random.uniform(0.001, 0.1, 5).astype(np.float32),
        "wz": np.zeros(5, np.int8),
        "c.bias": random.normal(size=5).astype(np.float32),
    }
    pads = [kernel // 2] * 4
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"], "gelu"),
        helper.make_node("QuantizeLinear", ["g", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "weight", axis=0),
    ]
    outputs = [f"y{i}" for i in range(readers)]
    for i, output in enumerate(outputs):
        nodes.append(
            helper.make_node("Conv", ["d", "wd", "c.bias"], [output], f"c{i}", kernel_shape=[kernel] * 2, pads=pads)
        )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, 5, 4, 4]) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def computed(proto: Any, path: Path, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    with open_model("onnxruntime", path, exact=True) as session:
        return session.run({"x": x})["y0"]


@settings(max_examples=25, deadline=None)
@given(zero_point=st.integers(0, 255), seed=st.integers(0, 99), scale=st.floats(0.1, 8.0))
def test_it_computes_the_same(
    tmp_path_factory: pytest.TempPathFactory, zero_point: int, seed: int, scale: float
) -> None:
    """The scale is a power of 2, and no value is as near to the middle of two steps as float32 rounds when it is moved:
    no tie turns, and what is left is float32's rounding of the bias."""
    folder = tmp_path_factory.mktemp("m")
    x = (scale * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))).numpy()
    before, after = model(zero_point, seed), model(zero_point, seed)
    steps = torch.nn.functional.gelu(torch.from_numpy(x)).numpy() / 0.0625
    assume(float(np.abs(steps - np.floor(steps) - 0.5).min()) > 1e-4)
    centre(after.graph)
    assert sqnr_db(computed(before, folder / "a.onnx", x), computed(after, folder / "b.onnx", x)) > 90.0
    [quantize] = [n for n in after.graph.node if n.op_type == "QuantizeLinear"]
    constants = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    assert constants[quantize.input[2]] == np.int8(0)
    assert constants[quantize.input[2]].dtype == np.int8
    assert "z" not in constants


@pytest.mark.parametrize(("options", "words"), [({"kernel": 3}, "pads what it reads"), ({"readers": 2}, "Conv, Conv")])
def test_what_would_not_be_exact_is_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(VerificationError, match=words):
        centre(model(4, 0, **options).graph)


def test_a_graph_around_zero_stays_as_it_is() -> None:
    proto = model(4, 0)
    centre(proto.graph)
    written = proto.SerializeToString(deterministic=True)
    centre(proto.graph)
    assert proto.SerializeToString(deterministic=True) == written
