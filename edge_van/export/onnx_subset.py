"""A Q/DQ file with fewer quantised layers, made from one with more: no second export of the same network.

In: the file of a scheme, and a ``QuantizedVAN`` of a scheme that quantises a part of its layers. Out: that one's file,
checked against it as every export is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from edge_van.errors import UsageError
from edge_van.export.onnx import check_quantized, finish
from edge_van.quantization.ptq import QuantizedVAN


def export_subset(source: Path, quantized: QuantizedVAN, path: Path, check_images: Tensor) -> Path:
    """Write ``quantized`` to ``path``: ``source``, with every layer that it leaves in float given its float weights.

    ``check_images`` are float (N, 3, H, W), normalised. Raises ``UsageError`` if ``source`` does not quantise a layer
    that is wanted, ``VerificationError`` if the file's logits differ from the graph's.
    """
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(source)
    graph = proto.graph
    producer = {output: node for node in graph.node for output in node.output}
    layers = {node.name: node for node in graph.node if node.op_type in ("Conv", "Gemm")}
    is_quantized = {name for name, node in layers.items() if node.input[1] in producer and node.input[0] in producer}
    if missing := sorted(set(quantized.layers) - is_quantized):
        raise UsageError(f"{source.name} does not quantise {len(missing)} of the layers that are wanted: {missing[:3]}")
    for name in sorted(is_quantized - set(quantized.layers)):
        node = layers[name]
        dequantize = producer[node.input[0]]
        node.input[0] = producer[dequantize.input[0]].input[0]
        node.input[1] = f"{name}.float_weight"
        weight = quantized.model.get_parameter(f"{name}.weight").detach().numpy()
        graph.initializer.append(numpy_helper.from_array(weight, node.input[1]))
    drop_unused(graph)
    finish(proto, path)
    check_quantized(quantized, path, check_images)
    return path


def drop_unused(graph: Any) -> None:
    """In place: nodes nobody reads any more, then initializers. The nodes are in topological order."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in read for name in node.output):
            kept.append(node)
            read.update(node.input)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
