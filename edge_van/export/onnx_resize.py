"""A written graph at another input size: the same integers, scales and zero points, another map to run over.

In: an ONNX model that ``edge-van quantize`` wrote, of any scheme and float type, and a size. Out: a new model. What
depends on the size is the input's shape, the shapes that a stage's LayerNorm goes through, and cropped kernels.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np

from edge_van.errors import BundleError
from edge_van.export.onnx_subset import drop_unused
from edge_van.model.fold import taps_on_the_map
from edge_van.model.van import stage_sizes

_STAGE = re.compile(r"block([1-4])\.")
_RESHAPES_PER_STAGE = 2


def resized_graph(model: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    """A copy of ``model`` (an onnx ``ModelProto``) for images of ``new`` (height, width) where it had ``old``.

    Kernels are cropped further, which is exact; that those left suffice for a larger map is the caller's to know
    (``model.resize``). Raises ``BundleError`` for a graph that is not of the form or of the size it should be.
    """
    import onnx

    result = copy.deepcopy(model)
    graph = result.graph
    _resize_input(graph, old, new)
    _resize_shapes(graph, old, new)
    _crop_kernels(graph, new)
    if graph.value_info:
        del graph.value_info[:]
        result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    return result


def _other(what: str) -> BundleError:
    return BundleError(f"this graph is not as edge-van quantize writes it, {what}: make the bundle again")


def _resize_input(graph: Any, old: tuple[int, int], new: tuple[int, int]) -> None:
    from onnx import TensorProto

    [images] = graph.input
    sides = images.type.tensor_type.shape.dim
    is_bytes = images.type.tensor_type.elem_type == TensorProto.UINT8  # (N, H, W, C), else (N, C, H, W)
    places = (1, 2) if is_bytes else (2, 3)
    there = tuple(side.dim_value for side in sides)
    if len(sides) != 4 or tuple(there[i] for i in places) != old:
        raise _other(f"it takes {there}, not images of {old[0]}x{old[1]} px")
    for place, side in zip(places, new, strict=True):
        sides[place].dim_value = side


def _resize_shapes(graph: Any, old: tuple[int, int], new: tuple[int, int]) -> None:
    """A LayerNorm reads tokens (N, H*W, C): its map (N, H, W, C) is flattened before it and gets its sides back."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    reshapes = [node for node in graph.node if node.op_type == "Reshape"]
    maps = list(zip(stage_sizes(*old), stage_sizes(*new), strict=True))
    if len(reshapes) != _RESHAPES_PER_STAGE * len(maps):
        raise _other(f"it has {len(reshapes)} Reshape nodes, expected {_RESHAPES_PER_STAGE} a stage")
    for i, node in enumerate(reshapes):
        before, after = maps[i // _RESHAPES_PER_STAGE]
        if node.input[1] not in constants:
            raise _other(f"{node.name} has no constant shape")
        shape = numpy_helper.to_array(constants[node.input[1]]).tolist()
        forms = {len(sides): (sides, wanted) for sides, wanted in ((before, after), (_tokens(before), _tokens(after)))}
        sides, wanted = forms.get(len(shape) - 2, ((), ()))
        if not sides or tuple(shape[1:-1]) != sides:
            raise _other(f"{node.name} makes {shape} of a map of {before[0]}x{before[1]}")
        # equal shapes are one constant, and need not be equal at the other size
        node.input[1] = f"{node.output[0]}.shape_at_{new[0]}x{new[1]}"
        graph.initializer.append(
            numpy_helper.from_array(np.array([shape[0], *wanted, shape[-1]], np.int64), node.input[1])
        )
    drop_unused(graph)


def _tokens(sides: tuple[int, int]) -> tuple[int]:
    return (sides[0] * sides[1],)


def _crop_kernels(graph: Any, size: tuple[int, int]) -> None:
    """As ``model.fold.crop_kernel_`` does it: taps that read only padding go, from integers as from floats."""
    from onnx import numpy_helper

    maps = stage_sizes(*size)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        stage = _STAGE.match(node.name)
        if node.op_type != "Conv" or stage is None:
            continue
        attributes = {a.name: a for a in node.attribute}
        kernel, dilations, pads, strides = (
            list(attributes[name].ints) for name in ("kernel_shape", "dilations", "pads", "strides")
        )
        total = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        if strides != [1, 1] or pads[:2] != pads[2:] or [2 * p for p in pads[:2]] != total:
            continue
        sides = zip(kernel, dilations, maps[int(stage[1]) - 1], strict=True)
        keep, padding = zip(*(taps_on_the_map(k, d, side) for k, d, side in sides), strict=True)
        written = producer.get(node.input[1])
        tensor = constants[node.input[1] if written is None else written.input[0]]
        weight = numpy_helper.to_array(tensor)
        cropped = np.ascontiguousarray(weight[:, :, keep[0], keep[1]])
        if cropped.shape != weight.shape:
            tensor.CopyFrom(numpy_helper.from_array(cropped, tensor.name))
            attributes["kernel_shape"].ints[:] = cropped.shape[2:]
            attributes["pads"].ints[:] = [*padding, *padding]
