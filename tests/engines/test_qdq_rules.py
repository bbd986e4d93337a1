"""``edge_van.engines.qdq_rules``: a graph that TensorRT would refuse is refused first, by the tensor's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.errors import VerificationError

Edit = Callable[[Any], None]


def constant(name: str, values: Any, dtype: Any) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


@pytest.fixture
def model() -> Any:
    """x -> Q -> DQ -> Conv with an int8 weight behind DQ -> y; a second Conv in float."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], "quantize"),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], "weight", axis=0),
        helper.make_node("Conv", ["xd", "wd", "bias"], ["h"], "first"),
        helper.make_node("Conv", ["h", "w2"], ["y"], "second"),
    ]
    initializers = [
        constant("x_scale", 0.1, np.float32),
        constant("x_zero", 0, np.int8),
        constant("w", np.ones((4, 3, 1, 1)), np.int8),
        constant("w_scale", [0.1, 0.2, 0.3, 0.4], np.float32),
        constant("w_zero", [0] * 4, np.int8),
        constant("bias", [0.0] * 4, np.float32),
        constant("w2", np.ones((2, 4, 1, 1)), np.float32),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])],
        initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def put(name: str, values: Any, dtype: Any) -> Edit:
    def edit(model: Any) -> None:
        [tensor] = [t for t in model.graph.initializer if t.name == name]
        tensor.CopyFrom(constant(name, values, dtype))

    return edit


def drop(name: str) -> Edit:
    def edit(model: Any) -> None:
        kept = [t for t in model.graph.initializer if t.name != name]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)

    return edit


def bias_behind_dequantize(model: Any) -> None:
    drop("bias")(model)
    model.graph.initializer.append(constant("bias_q", [1] * 4, np.int32))
    node = helper.make_node("DequantizeLinear", ["bias_q", "w_scale"], ["bias"], "bias/dequantize", axis=0)
    model.graph.node.insert(0, node)


def without_zero_point(model: Any) -> None:
    del model.graph.node[0].input[2]


def integer_operator(model: Any) -> None:
    model.graph.node[3].op_type = "ConvInteger"


def float_weight(model: Any) -> None:
    model.graph.node[3].input[1] = "w2"


def old_opset(model: Any) -> None:
    put("x_scale", 0.1, np.float16)(model)
    model.opset_import[0].version = 18


def another_scale_behind(model: Any) -> None:
    model.graph.initializer.append(constant("other", 0.2, np.float32))
    model.graph.node[1].input[1] = "other"


def along_the_inputs(model: Any) -> None:
    model.graph.node[2].attribute[0].i = 1
    put("w_scale", [0.1] * 3, np.float32)(model)
    put("w_zero", [0] * 3, np.int8)(model)


def int8_into_a_layer(model: Any) -> None:
    model.graph.node[3].input[0] = "xq"


def test_a_good_graph_is_summed_up(model: Any) -> None:
    found = check_qdq_rules(model)
    assert (found.int8_layers, found.float_layers) == (("first",), ("second",))
    assert (found.quantize_nodes, found.dequantize_nodes) == (1, 2)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("x_zero", 3, np.int8), r"x_zero is a zero point of 3; expected 0"),
        (put("w_zero", [0, 0, 3, 0], np.int8), r"w_zero is a zero point of 3"),
        (put("x_zero", 0, np.uint8), r"x_zero makes the quantised type uint8"),
        (put("x_scale", 0.0, np.float32), r"x_scale is a scale of 0\.0; .*dead channel"),
        (put("w_scale", [0.1, 0.0, 0.1, 0.1], np.float32), r"w_scale is a scale of 0\.0"),
        (put("w_scale", [0.1, np.inf, 0.1, 0.1], np.float32), r"w_scale is a scale of inf"),
        (put("w_scale", [0.1, np.nan, 0.1, 0.1], np.float32), r"w_scale is a scale of nan"),
        (put("x_scale", -0.1, np.float32), r"x_scale is a scale of -0\.1"),
        (put("x_scale", [0.1] * 3, np.float32), r"x_scale has 3 scales for the activation x"),
        (put("w_scale", [0.1] * 7, np.float32), r"w_scale has 7 scales along axis 0 for weights of shape \(4, 3"),
        (put("w", np.ones((4, 3, 1, 1)), np.uint8), r"w is a constant of uint8 behind DequantizeLinear"),
        (bias_behind_dequantize, r"bias_q is a constant of int32 behind DequantizeLinear"),
        (drop("x_scale"), r"x_scale is a scale computed at run time"),
        (drop("x_zero"), r"x_zero is a zero point computed at run time"),
        (without_zero_point, r"xq is quantised to uint8"),
        (integer_operator, r"first is a ConvInteger"),
        (float_weight, r"w2 is float where the other operand of first is quantised"),
        (put("x_zero", [0, 0, 0], np.int8), r"x_zero has 3 zero points for 1 scales"),
        (put("bias", [0] * 4, np.int32), r"bias, the bias of first, is int32; expected float32"),
        (put("bias", [0.0] * 4, np.float16), r"bias, the bias of first, is float16; expected float32"),
        (another_scale_behind, r"other is another scale than x_scale, which quantised the same tensor"),
        (along_the_inputs, r"w_scale has 3 scales along axis 1 .* axis 0"),
        (int8_into_a_layer, r"xq goes into first as int8"),
        (old_opset, r"x_scale is a float16 scale in opset 18"),
    ],
    ids=lambda value: None if callable(value) else value[:24],
)
def test_a_broken_rule_is_named_with_its_tensor(model: Any, edit: Edit, message: str) -> None:
    edit(model)
    with pytest.raises(VerificationError, match=message):
        check_qdq_rules(model)


def test_what_is_refused_here_tensorrt_refuses_too(model: Any, tmp_path: Path) -> None:
    """The referee itself, on the rules it has an opinion on: our check is not stricter by accident."""
    trt = pytest.importorskip("tensorrt_rtx")

    def parses(candidate: Any) -> bool:
        logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        return bool(trt.OnnxParser(network, logger).parse(candidate.SerializeToString()))

    assert parses(model)
    for edit in (put("x_zero", 3, np.int8), bias_behind_dequantize, put("bias", [0] * 4, np.int32), int8_into_a_layer):
        broken = onnx.ModelProto.FromString(model.SerializeToString())
        edit(broken)
        assert not parses(broken)
