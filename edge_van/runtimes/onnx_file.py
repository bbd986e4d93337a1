"""ONNX files of a bundle read as data: the model, and the weights of its head.

In: the path of an ``.onnx`` file. Out: a ``ModelProto``, numpy arrays. Needs the package ``onnx``, no engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import BundleError, MissingRuntimeError


def load_onnx(file: str) -> Any:
    """The package ``onnx``; ``MissingRuntimeError`` names ``file``, which it was to read."""
    try:
        import onnx
    except ImportError as error:
        raise MissingRuntimeError(
            f"reading {file} needs the package onnx, which is not installed: pip install onnx"
        ) from error
    return onnx


def read_onnx(path: Path) -> Any:
    """The ``ModelProto`` in ``path``; ``BundleError`` for what is none, ``MissingRuntimeError`` without ``onnx``."""
    onnx = load_onnx(path.name)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, OSError
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise BundleError(f"{path.name} cannot be read as ONNX: {reason}; make or copy the bundle again") from error
    if not model.graph.node:  # protobuf takes an empty file for an empty message
        raise BundleError(f"{path.name} holds no ONNX graph: make or copy the bundle again")
    return model


def head_weights(path: Path) -> NDArray[np.float64]:
    """(classes, C): the rows that turn the mean of the last stage's map into logits, dequantised where they are INT8.

    ``BundleError`` for a file without a ``head`` of that form.
    """
    graph = read_onnx(path).graph
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}

    def value(name: str) -> NDArray[np.float64]:
        if name in tensors:
            return np.asarray(numpy_helper.to_array(tensors[name]), np.float64)
        node = producer.get(name)
        if node is not None and node.op_type == "Cast":
            return value(node.input[0])
        if node is None or node.op_type != "DequantizeLinear":
            raise BundleError(f"{path.name}: the weights of the head are no constants: make the bundle again")
        quantized, scale, *zero_point = (value(i) for i in node.input)
        # y = (q - zero point) * scale; one scale a class, or one for all (ONNX, DequantizeLinear, axis 0 here)
        offset = zero_point[0] if zero_point else np.zeros_like(scale)
        return (quantized - offset.reshape(-1, 1)) * scale.reshape(-1, 1)

    head = next((node for node in graph.node if node.name == "head" and node.op_type == "Gemm"), None)
    if head is None or not any(a.name == "transB" and a.i == 1 for a in head.attribute):
        raise BundleError(f"{path.name} has no linear layer called head: it was not written by edge-van quantize")
    return value(head.input[1])
