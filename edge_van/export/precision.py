"""An ONNX graph in half precision, and one that takes the camera's bytes: a strongly typed engine is built as written.

In: an ONNX model of ``export.onnx``. Out: a new model. Int8 tensors stay; every float weight, bias and scale becomes
float16, with a Cast behind the input and one before the output, so that callers see float32 either way.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_van.errors import VerificationError

if TYPE_CHECKING:
    from edge_van.input_spec import InputSpec

LARGEST_FLOAT16 = 65504.0


def to_float16(model: Any) -> Any:
    """A copy of ``model`` (an onnx ``ModelProto``, opset 19 or later) that computes in float16 where it is not int8.

    The scales must be float16 numbers already, as those of the symmetric schemes are: the int8 grid stays as it is.
    Raises ``VerificationError`` that names the tensor otherwise, or if a weight is too large.
    """
    import onnx
    from onnx import numpy_helper

    result = copy.deepcopy(model)
    graph = result.graph
    scales = {n.input[1]: n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore", under="ignore"):
            half = values.astype(np.float16)
        _check_half(tensor.name, values, half, is_scale=tensor.name in scales)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    _cast_ends(graph, onnx)
    del graph.value_info[:]  # the types it states are float32's; they are inferred anew where they are wanted
    return result


def _check_half(name: str, values: np.ndarray, half: np.ndarray, *, is_scale: bool) -> None:
    if not np.isfinite(half).all():
        raise VerificationError(
            f"{name} holds {np.abs(values).max():.3g}, over float16's {LARGEST_FLOAT16:g}: write the graph in float32 "
            f'(tensorrt_float = "float32" in the recipe)'
        )
    if is_scale and not np.array_equal(half.astype(values.dtype), values):
        worst = values[half.astype(values.dtype) != values].flat[0]
        raise VerificationError(
            f"{name} is a scale of {worst:.9g}, which is no float16: quantise with a symmetric scheme, whose scales "
            f"are, or write the graph in float32"
        )


def _cast_ends(graph: Any, onnx: Any) -> None:
    """In place: float32 at the graph's input and output, float16 between."""
    helper, proto = onnx.helper, onnx.TensorProto
    for value in graph.input:
        if value.type.tensor_type.elem_type == proto.FLOAT:
            _redirect(graph, value.name, f"{value.name}_float16")
            cast = helper.make_node(
                "Cast", [value.name], [f"{value.name}_float16"], f"{value.name}/cast", to=proto.FLOAT16
            )
            graph.node.insert(0, cast)
    for value in graph.output:
        if value.type.tensor_type.elem_type == proto.FLOAT:
            inner = f"{value.name}_float16"
            for node in graph.node:
                for i, name in enumerate(node.output):
                    if name == value.name:
                        node.output[i] = inner
            _redirect(graph, value.name, inner)
            graph.node.append(helper.make_node("Cast", [inner], [value.name], f"{value.name}/cast", to=proto.FLOAT))


def _redirect(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def with_uint8_input(model: Any, spec: InputSpec) -> Any:
    """A copy of ``model`` that takes uint8 ``images`` (N, H, W, C): (x / 255 - mean) / std is its first layers.

    The normalisation is computed in float32 whatever follows: a pixel times a scale and plus an offset, per channel.
    """
    import onnx
    from onnx import helper, numpy_helper

    result = copy.deepcopy(model)
    graph = result.graph
    [value] = graph.input
    name = value.name
    batch = value.type.tensor_type.shape.dim[0]
    height, width = spec.size
    normalized = f"{name}_normalized"
    _redirect(graph, name, normalized)
    std, mean = np.array(spec.pixel_std, np.float64), np.array(spec.pixel_mean, np.float64)
    graph.initializer.extend(
        [
            numpy_helper.from_array((1.0 / (255.0 * std)).astype(np.float32), "images.scale"),
            numpy_helper.from_array((-mean / std).astype(np.float32), "images.offset"),
        ]
    )
    steps = [
        helper.make_node("Cast", [name], [f"{name}_float"], f"{name}/to_float", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", "images.scale"], [f"{name}_scaled"], f"{name}/scale"),
        helper.make_node("Add", [f"{name}_scaled", "images.offset"], [f"{name}_nhwc"], f"{name}/offset"),
        helper.make_node("Transpose", [f"{name}_nhwc"], [normalized], f"{name}/to_nchw", perm=[0, 3, 1, 2]),
    ]
    for step in reversed(steps):
        graph.node.insert(0, step)
    shape = [batch.dim_param or batch.dim_value, height, width, spec.channels]
    value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape))
    return result
