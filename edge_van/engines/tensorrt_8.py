"""A Q/DQ graph as TensorRT 8.5 and 8.6 read it: they know no float16 in it, no opset over 17 and no Gelu.

In: an ONNX model of ``export.tensorrt_graphs``. Out: a new model.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

TENSORRT_8_OPSET = 17


def for_tensorrt_8(model: Any, version: str) -> Any:
    """A copy of ``model`` in float32, opset 17 and without Gelu: TensorRT 8.5 and 8.6 know no more.

    Gelu becomes its definition, x / 2 * (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel, 2016, section 2), and so does
    LayerNormalization before 8.6 (Ba et al., 2016, equation 4).
    """
    import onnx
    from onnx import helper, version_converter

    result = _to_float32(model)
    graph = result.graph
    nodes = []
    for node in graph.node:
        if node.op_type != "Gelu":
            nodes.append(node)
            continue
        [x], [y], name = node.input, node.output, node.name
        scaled, erf, shifted, half = (f"{y}_{part}" for part in ("scaled", "erf", "shifted", "half"))
        nodes += [
            helper.make_node("Div", [x, "gelu.sqrt_2"], [scaled], f"{name}/scale"),
            helper.make_node("Erf", [scaled], [erf], f"{name}/erf"),
            helper.make_node("Add", [erf, "gelu.one"], [shifted], f"{name}/shift"),
            helper.make_node("Mul", [x, "gelu.half"], [half], f"{name}/half"),
            helper.make_node("Mul", [half, shifted], [y], name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    for name, value in (("gelu.sqrt_2", 2.0**0.5), ("gelu.one", 1.0), ("gelu.half", 0.5)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    result = version_converter.convert_version(result, TENSORRT_8_OPSET)
    if version.startswith("8.5."):
        _without_layer_norm_(result.graph)
    for node in result.graph.node:  # the converter leaves an attribute that the older operator does not have
        kept = [a for a in node.attribute if (node.op_type, a.name) != ("ReduceMean", "noop_with_empty_axes")]
        del node.attribute[:]
        node.attribute.extend(kept)
    return result


def _without_layer_norm_(graph: Any) -> None:
    nodes: list[Any] = []
    for node in graph.node:
        nodes += _layer_norm(graph, node) if node.op_type == "LayerNormalization" else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _layer_norm(graph: Any, node: Any) -> list[Any]:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis, in operators of opset 17."""
    from onnx import helper, numpy_helper

    (x, weight, bias), [y], name = node.input, node.output, node.name
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    epsilon = f"{y}_epsilon"
    graph.initializer.append(numpy_helper.from_array(np.array(attributes.get("epsilon", 1e-5), np.float32), epsilon))
    parts = ("mean", "centred", "squared", "variance", "shifted", "deviation", "normal", "scaled")
    mean, centred, squared, variance, shifted, deviation, normal, scaled = (f"{y}_{part}" for part in parts)
    return [
        helper.make_node("ReduceMean", [x], [mean], f"{name}/mean", axes=[-1], keepdims=1),
        helper.make_node("Sub", [x, mean], [centred], f"{name}/centre"),
        helper.make_node("Mul", [centred, centred], [squared], f"{name}/square"),
        helper.make_node("ReduceMean", [squared], [variance], f"{name}/variance", axes=[-1], keepdims=1),
        helper.make_node("Add", [variance, epsilon], [shifted], f"{name}/shift"),
        helper.make_node("Sqrt", [shifted], [deviation], f"{name}/root"),
        helper.make_node("Div", [centred, deviation], [normal], f"{name}/divide"),
        helper.make_node("Mul", [normal, weight], [scaled], f"{name}/weight"),
        helper.make_node("Add", [scaled, bias], [y], name),
    ]


def _to_float32(model: Any) -> Any:
    """``to_float16`` undone: every value is exact in float32. A model in float32 comes back as a copy."""
    import onnx
    from onnx import numpy_helper

    result = copy.deepcopy(model)
    graph = result.graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT16:
                attribute.i = onnx.TensorProto.FLOAT
    del graph.value_info[:]
    return result
