"""The FP32 network as a CPU computes it in a shorter float: weights and every operator's result rounded.

In: the FP32 ONNX file. Out: a graph of the same network for ``export.exact``. An engine that fuses operators
rounds less often; one that adds up in float16, too, rounds more, which the golden images of a device show.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_van.errors import VerificationError

ROUNDED = "bf16"
"""What stands for any shorter float: it has the fewest bits."""
SHORTER = {"bf16": "BFLOAT16", "fp16": "FLOAT16"}
"""ONNX's name of each shorter float."""
_MOVES_ONLY = ("Reshape", "Transpose", "Flatten", "Identity")


@contextmanager
def rounded_file(source: Path, kind: str) -> Iterator[Path]:
    """``write_rounded`` into a file that is there as long."""
    with tempfile.TemporaryDirectory(prefix="edge-van-rounded-") as folder:
        path = Path(folder) / "model.onnx"
        write_rounded(source, path, kind)
        yield path


def write_rounded(source: Path, target: Path, kind: str) -> None:
    """Write ``source``, an FP32 ONNX file, to ``target``, its tensors rounded to ``kind``, "bf16" or "fp16".

    Raises ``VerificationError`` for a result that is not known to be float32.
    """
    import onnx

    model = onnx.load(source)
    graph, to = model.graph, getattr(onnx.TensorProto, SHORTER[kind])
    kinds = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    floats = {name for name, elem in kinds.items() if elem == onnx.TensorProto.FLOAT}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = _rounded(onnx.numpy_helper.to_array(tensor), kind)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    nodes: list[Any] = []
    for value in graph.input:
        if value.name in floats:
            nodes += _there_and_back(value.name, f"{value.name}_rounded", to)
    inputs = {value.name: f"{value.name}_rounded" for value in graph.input if value.name in floats}
    for node in graph.node:
        node.input[:] = [inputs.get(name, name) for name in node.input]
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name not in floats:
                raise VerificationError(
                    f"{node.op_type} {node.name} of {source.name} gives no float32: it is not rounded"
                )
            if node.op_type not in _MOVES_ONLY:
                node.output[i] = f"{name}_exact"
                nodes += _there_and_back(node.output[i], name, to)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    onnx.save(model, target)


def _there_and_back(name: str, result: str, to: int) -> list[Any]:
    """Two casts; the shorter one between them is what rounds."""
    import onnx

    short = f"{result}_short"
    return [
        onnx.helper.make_node("Cast", [name], [short], name=f"{short}_cast", to=to),
        onnx.helper.make_node("Cast", [short], [result], name=f"{result}_cast", to=onnx.TensorProto.FLOAT),
    ]


def _rounded(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Float32 values that are numbers of the shorter float, to the nearest, ties to even."""
    if kind == "fp16":
        return values.astype(np.float16).astype(np.float32)
    import ml_dtypes

    return values.astype(ml_dtypes.bfloat16).astype(np.float32)
