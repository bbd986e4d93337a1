"""An ONNX file computed as it is written: quantise, dequantise, float convolution, in no integer kernel of any CPU.

In: a file, of whichever float type. Out: a ``ModelFile`` that OpenVINO computes so, much faster than ONNX Runtime
without its rewrites. Float16 tensors become float32 ones of the same values, as any CPU engine computes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_van.errors import VerificationError
from edge_van.runtimes.model_file import ModelFile


@contextmanager
def exact_file(path: Path) -> Iterator[ModelFile]:
    """Of ``path``, or of a copy in float32, which is there as long."""
    with tempfile.TemporaryDirectory(prefix="edge-van-exact-") as folder:
        copy = Path(folder) / path.name
        source = copy if write_float32(path, copy) else path
        yield ModelFile(path.name, "openvino", source, {"exact": True})


def write_float32(source: Path, target: Path) -> bool:
    """Write ``source`` to ``target`` with float32 for float16; False, and nothing is written, where it has none.

    Raises ``VerificationError`` where float16 would be left.
    """
    import onnx
    from onnx import TensorProto

    model = onnx.load(source)
    graph = model.graph
    halves = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    if not halves:
        return False
    for tensor in halves:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", TensorProto.FLOAT16):
                attribute.i = TensorProto.FLOAT
    del graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    left = [v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16]
    if left:
        raise VerificationError(
            f"{source.name} makes float16 of {left[0]} by other means than its constants and casts, which no file of "
            f"edge-van does: make the bundle again"
        )
    onnx.save(model, target)
    return True
