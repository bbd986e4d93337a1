"""The operators that dense heads have beside a VAN's own, each as ONNX has it.

In: a node of a captured network. Out: the name of its result, once its nodes are written.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edge_van.errors import VerificationError
from edge_van.export.onnx_writer import Translator, Writer


def _resize(mode: str, coordinates: str, **attributes: Any) -> Translator:
    """By scales, which leave the batch size free; torch's own maps pixel centres, or their corners where nearest."""

    def translate(writer: Writer, node: Any, output: str) -> str:
        source = node.args[0]
        before, after = (tuple(map(int, n.meta["val"].shape[2:])) for n in (source, node))
        scales = np.array([1.0, 1.0, *(_scale(b, a) for b, a in zip(before, after, strict=True))], np.float32)
        inputs = [writer.tensor(source), "", writer.constant(f"{output}.scales", scales)]
        return writer.emit(
            "Resize", inputs, output, mode=mode, coordinate_transformation_mode=coordinates, **attributes
        )

    return translate


def _scale(before: int, after: int) -> Any:
    """The float32 of which the standard's floor(before * scale) is ``after``."""
    scale = np.float32(after / before)
    while math.floor(float(scale) * before) < after:
        scale = np.float32(np.nextafter(scale, np.float32(np.inf)))
    return scale


def _cat(writer: Writer, node: Any, output: str) -> str:
    sources, axis = node.args[0], node.args[1] if len(node.args) > 1 else 0
    return writer.emit("Concat", [writer.tensor(source) for source in sources], output, axis=axis)


def _slice(writer: Writer, node: Any, output: str) -> str:
    source, axis, start, end = node.args[:4]
    end = min(end, int(source.meta["val"].shape[axis])) if isinstance(end, int) and axis else end
    if axis == 0 or (start, end) == (0, int(source.meta["val"].shape[axis])):
        if (start, end) != (0, 2**63 - 1) and axis == 0:
            raise VerificationError(f"{node.name} takes a part of the batch, whose size is free")
        return writer.tensor(source)
    bounds = [writer.constant(f"{output}.{n}", np.array([v], np.int64)) for n, v in (("start", start), ("end", end))]
    axes = writer.constant(f"{output}.axes", np.array([axis], np.int64))
    return writer.emit("Slice", [writer.tensor(source), *bounds, axes], output)


def _transpose(writer: Writer, node: Any, output: str) -> str:
    source, first, second = node.args
    order = list(range(len(source.meta["val"].shape)))
    order[first], order[second] = order[second], order[first]
    return writer.emit("Transpose", [writer.tensor(source)], output, perm=order)


def _softmax(writer: Writer, node: Any, output: str) -> str:
    return writer.emit("Softmax", [writer.tensor(node.args[0])], output, axis=node.args[1])


def _group_norm(writer: Writer, node: Any, output: str) -> str:
    """Of opset 20 the operator scales by group, and is deprecated: its parts, as opset 21 defines it."""
    source, groups, weight, bias, epsilon = node.args[:5]
    channels, height, width = map(int, node.meta["val"].shape[1:])
    grouped = writer.constant(f"{output}.grouped", np.array([0, groups, -1], np.int64))
    ones, zeros = (
        writer.constant(f"{output}.{n}", np.full(groups, v, np.float32)) for n, v in (("one", 1), ("zero", 0))
    )
    rows = writer.emit("Reshape", [writer.tensor(source), grouped], f"{output}.rows")
    normal = writer.emit("InstanceNormalization", [rows, ones, zeros], f"{output}.normal", epsilon=epsilon)
    whole = writer.constant(f"{output}.whole", np.array([-1, channels, height, width], np.int64))
    maps = writer.emit("Reshape", [normal, whole], f"{output}.maps")
    scale, shift = (writer.value(v).reshape(1, -1, 1, 1).numpy() for v in (weight, bias))
    scaled = writer.emit("Mul", [maps, writer.constant(f"{output}.weight", scale)], f"{output}.scaled")
    return writer.emit("Add", [scaled, writer.constant(f"{output}.bias", shift)], output)


def _conv_transpose(writer: Writer, node: Any, output: str) -> str:
    arguments = list(node.args[3:])
    strides, padding, more, group, dilations = arguments + [(1, 1), (0, 0), (0, 0), 1, (1, 1)][len(arguments) :]
    inputs = [writer.tensor(argument) for argument in node.args[:3] if argument is not None]
    attributes: dict[str, Any] = {"strides": list(strides), "pads": [*padding, *padding], "dilations": list(dilations)}
    return writer.emit("ConvTranspose", inputs, output, group=group, output_padding=list(more), **attributes)


def _binary(kind: str) -> Translator:
    def translate(writer: Writer, node: Any, output: str) -> str:
        return writer.emit(kind, [writer.tensor(source) for source in node.args], output)

    return translate


def _alias(writer: Writer, node: Any, _output: str) -> str:
    return writer.tensor(node.args[0])


DENSE_OPERATORS: dict[str, Translator] = {
    "alias": _alias,
    "upsample_bilinear2d": _resize("linear", "half_pixel"),
    "upsample_nearest2d": _resize("nearest", "asymmetric", nearest_mode="floor"),
    "cat": _cat,
    "slice": _slice,
    "transpose": _transpose,
    "softmax": _softmax,
    "matmul": _binary("MatMul"),
    "div": _binary("Div"),
    "group_norm": _group_norm,
    "conv_transpose2d": _conv_transpose,
}
