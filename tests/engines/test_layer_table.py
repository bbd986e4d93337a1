"""``engines.layer_table``: which datatype each convolution runs in, from a log and from an inspector's JSON."""

from __future__ import annotations

import json

import pytest

from edge_van.bundle.engine_record import PrecisionRow
from edge_van.engines.layer_table import (
    ONNXLayer,
    check_precision,
    parse_layer_json,
    parse_layer_log,
    precision_table,
    require_precision,
)
from edge_van.errors import DataError, VerificationError


def tensor(shape: str, datatype: str, name: str = "t") -> str:
    strides = "Strides: [1], StrideOrder: [0]"
    return f"{{ Name: {name}, Dimensions: [{shape}], {strides}, Datatype: {datatype}, Format: (NHWC) x }}"


def line(name: str, kind: str, given: str, constants: list[str], nodes: list[str]) -> str:
    held = f"Constants: [{', '.join(constants)}], " if constants else ""
    said = "".join(f"[ONNX Layer: {n}]" for n in nodes)
    return (
        f"VERBOSE: Name: {name}, LayerType: {kind}, Inputs: [{given}], {held}Outputs: [{tensor('1,8,4,4', 'Half')}], "
        f"TacticName: t, StreamId: 0, Metadata: {said}"
    )


LAYERS = [
    ONNXLayer("stem", (8, 3, 7, 7), "int8"),
    ONNXLayer("dw", (8, 1, 5, 5), "int8"),
    ONNXLayer("pw", (16, 8, 1, 1), "int8"),
    ONNXLayer("cropped", (8, 1, 1, 1), "fp16"),
    ONNXLayer("head", (10, 16), "fp16"),
    ONNXLayer("odd", (7, 16), "int8"),
]
LOG = [
    "INFO: Layers:",
    # prepares the stem's input and carries its name; holds the bias-like constant of a depthwise 1x1
    line("pre", "kgen", tensor("1,3,4,4", "Float"), [tensor("1,8,1,1", "Half")], ["stem", "cropped"]),
    line("stem_myl0_1", "correlation", tensor("1,4,4,4", "Int8"), [tensor("8,4,7,7", "Int8")], ["stem", "dq"]),
    line("dw_myl0_2", "correlation", tensor("1,32,4,4", "Int8"), [tensor("8,4,5,5", "Int8")], ["dw"]),
    line(
        "fc", "runtime_fusion", tensor("1,8,16", "Half"), [tensor("1,16,1", "Half"), tensor("1,16,8", "Half")], ["pw"]
    ),
    line("dw1", "correlation", tensor("1,8,4,4", "Half"), [tensor("8,1,1,1", "Half")], ["cropped"]),
    line("dot", "kgen", tensor("1,16", "Half"), [tensor("16,10", "Half")], ["head", "logits/cast"]),
    # 7 columns padded to 8 for alignment; what cuts them off again carries the name too
    line("mm", "gemm", tensor("1,16", "Int8"), [tensor("16,8", "Int8"), tensor("1", "Float")], ["odd"]),
    line("cut", "kgen", tensor("1,8", "Half"), [tensor("1,8", "Half")], ["odd"]),
]


def test_the_log() -> None:
    layers = parse_layer_log(["VERBOSE: something else", *LOG])
    assert [x.name for x in layers] == ["pre", "stem_myl0_1", "dw_myl0_2", "fc", "dw1", "dot", "mm", "cut"]
    assert layers[1].onnx_nodes == ("stem", "dq")
    assert layers[1].constants == (((8, 4, 7, 7), "int8"),)
    assert parse_layer_log(["\n".join(LOG)]) == layers  # one message may hold them all
    rows = {r.layer: (r.scheme, r.runs_in, r.kernel) for r in precision_table(layers, LAYERS)}
    assert rows == {
        "stem": ("int8", "int8", "stem_myl0_1"),
        "dw": ("int8", "int8", "dw_myl0_2"),
        "pw": ("int8", "fp16", "fc"),
        "cropped": ("fp16", "fp16", "dw1"),
        "head": ("fp16", "fp16", "dot"),
        "odd": ("int8", "int8", "mm"),
    }


def test_a_fallback_is_an_error_that_names_it() -> None:
    rows = precision_table(parse_layer_log(LOG), LAYERS)
    assert check_precision(rows) == ("pw is INT8 in the graph and runs in fp16 (fc)",)
    with pytest.raises(VerificationError, match=r"pw is INT8 in the graph and runs in fp16.*--allow-fallback"):
        require_precision(rows)
    require_precision([r for r in rows if r.layer != "pw"])


@pytest.mark.parametrize(
    ("given", "weight", "runs_in"),
    [("Half", "Int8", "fp16"), ("Int8", "Half", "fp16"), ("Int8", "Float", "fp32"), ("Int8", "Int8", "int8")],
)
def test_int8_takes_both_operands(given: str, weight: str, runs_in: str) -> None:
    log = [line("k", "correlation", tensor("1,8,4,4", given), [tensor("8,4,5,5", weight)], ["dw"])]
    [row] = precision_table(parse_layer_log(log), LAYERS[1:2])
    assert row.runs_in == runs_in


def test_a_layer_nobody_shows_is_fused_and_that_is_no_proof() -> None:
    rows = precision_table(parse_layer_log(LOG[1:2]), LAYERS[:1])
    assert rows == (PrecisionRow("stem", "int8", "fused", ""),)
    assert check_precision(rows) == ("stem is INT8 in the graph and runs in no kernel of its own",)


@pytest.mark.parametrize(("asked", "runs_in"), [("fp16", "int8"), ("fp16", "fp32"), ("fp32", "fp16")])
def test_a_float_type_that_nobody_asked_for(asked: str, runs_in: str) -> None:
    assert check_precision([PrecisionRow("x", asked, runs_in, "k")]) == (
        f"x is {asked} in the graph and runs in {runs_in} (k)",
    )
    assert check_precision([PrecisionRow("x", asked, asked, "k"), PrecisionRow("y", asked, "fused", "")]) == ()


def test_one_constant_proves_one_layer() -> None:
    twins = [ONNXLayer("a", (32, 32, 1, 1), "int8"), ONNXLayer("b", (32, 32, 1, 1), "int8")]
    weight = tensor("32,32,1,1", "Int8")
    both = line("both", "correlation", tensor("1,32,4,4", "Int8"), [weight], ["a", "b"])
    rows = precision_table(parse_layer_log([both]), twins)
    assert sorted(row.runs_in for row in rows) == ["fused", "int8"]
    assert len(check_precision(rows)) == 1
    # two constants, or a kernel for each with both names, prove both
    two = line("two", "correlation", tensor("1,32,4,4", "Int8"), [weight, weight], ["a", "b"])
    own = line("own", "correlation", tensor("1,32,4,4", "Int8"), [weight], ["a"])
    for log in ([two], [both, own], [own, both]):
        assert [row.runs_in for row in precision_table(parse_layer_log(log), twins)] == ["int8", "int8"]


def test_where_floats_are_free_only_int8_is_held() -> None:
    rows = [PrecisionRow("x", "fp16", "fp32", "k"), PrecisionRow("y", "int8", "int8", "k")]
    require_precision(rows, floats=False)
    with pytest.raises(VerificationError, match="x is fp16 in the graph and runs in fp32"):
        require_precision(rows)
    with pytest.raises(VerificationError, match="z is INT8"):
        require_precision([*rows, PrecisionRow("z", "int8", "fp16", "k")], floats=False)


def test_of_several_kernels_with_the_weight_the_widest_counts() -> None:
    again = line("again", "correlation", tensor("1,8,4,4", "Half"), [tensor("8,4,5,5", "Half")], ["dw"])
    for log in ([LOG[2], again], [again, LOG[2]]):
        [row] = precision_table(parse_layer_log(log), LAYERS[1:2])
        assert (row.runs_in, row.kernel) == ("fp16", "again")


@pytest.mark.parametrize("log", [[], ["Layers:"], ["Name: x"], ["VERBOSE: Name: x, LayerType: y"]])
def test_a_log_without_layers(log: list[str]) -> None:
    with pytest.raises(DataError, match="VERBOSE logger"):
        parse_layer_log(log)


def inspected(datatype_key: str, datatype: str, weights: dict[str, object]) -> str:
    """The shape that TensorRT documents for the engine inspector's JSON."""
    given = {"Name": "x", "Location": "Device", "Dimensions": [1, 8, 4, 4], datatype_key: datatype}
    layer = {
        "Name": "dw + gelu",
        "LayerType": "CaskConvolution",
        "Inputs": [given],
        "Outputs": [given],
        "ParameterType": "Convolution",
        "Weights": weights,
        "TacticName": "sm80_xmma",
        "StreamId": 0,
        "Metadata": "[ONNX Layer: dw]\x1e[ONNX Layer: gelu]",
    }
    return json.dumps({"Layers": [layer], "Bindings": ["x", "y"]})


@pytest.mark.parametrize(
    ("key", "datatype", "runs_in"),
    [
        ("Format/Datatype", "Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Format/Datatype", "Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Datatype", "Int8", "int8"),
    ],
)
def test_the_inspectors_json(key: str, datatype: str, runs_in: str) -> None:
    weights = {"Type": "Int8" if runs_in == "int8" else "Half", "Count": 200}
    layers = parse_layer_json(inspected(key, datatype, weights))
    [row] = precision_table(layers, LAYERS[1:2])
    assert (row.runs_in, row.kernel) == (runs_in, "dw + gelu")


def test_without_metadata_the_name_says_what_was_fused() -> None:
    document = json.loads(inspected("Datatype", "Int8", {"Type": "Int8", "Count": 200}))
    del document["Layers"][0]["Metadata"]
    [row] = precision_table(parse_layer_json(json.dumps(document)), LAYERS[1:2])
    assert (row.runs_in, row.kernel) == ("int8", "dw + gelu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[]", "no list 'Layers'"),
        ('{"Layers": []}', "no list 'Layers'"),
        ('{"Layers": ["conv1", "conv2"]}', "detailed profiling verbosity"),
    ],
)
def test_json_that_proves_nothing(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_layer_json(text)
