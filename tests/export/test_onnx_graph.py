"""``edge_van.export.onnx_graph``: the graph that torch's own exporter makes, and what is no network of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from narrow import spread_norms_
from onnx import ModelProto, helper, numpy_helper
from torch import Tensor, nn
from torch.fx import GraphModule

from edge_van.errors import VerificationError
from edge_van.export.onnx_graph import OPSET, to_onnx
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization.activations import with_activation
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import MAX_BATCH, capture, post_training_quantize, quiet_capture
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import open_model

SIZE = (32, 40)
SAID_BY_TORCH_ALONE = {
    "Conv": {"auto_pad": b"NOTSET"},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0},
    "LayerNormalization": {"stash_type": 1},
    "ReduceMean": {"noop_with_empty_axes": 0},
    "Reshape": {"allowzero": 1},  # no shape of ours has a zero
    "QuantizeLinear": {"axis": 1},
    "DequantizeLinear": {"axis": 1},
}
"""Attributes of the value that ONNX takes where they are left out; without meaning where a scale is one number."""


@pytest.fixture(scope="module")
def folded() -> FoldedVAN:
    torch.manual_seed(0)
    van = VAN(Variant("one block a stage", (4, 6, 8, 12), (1, 1, 1, 1), 0.0, 0.0, None), 5)
    return fold(spread_norms_(van, 1).eval(), SIZE)[0]  # type: ignore[arg-type]


def by_torch(graph: GraphModule) -> ModelProto:
    with quiet_capture(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, 3, *SIZE),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def meaning(model: ModelProto) -> tuple[str, list[str]]:
    """A digest of what the output is computed from, by which operators, and how; and all operators. Names and the order
    of independent nodes are no part of it."""
    digests = {tensor.name: "input" for tensor in model.graph.input}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        digests[tensor.name] = _digest(values.dtype, values.shape, values.tobytes())
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for name, usual in SAID_BY_TORCH_ALONE.get(node.op_type, {}).items():
            if attributes.get(name) == usual:
                del attributes[name]
        digests[node.output[0]] = _digest(node.op_type, sorted(attributes.items()), [digests[i] for i in node.input])
    return digests[model.graph.output[0].name], sorted(node.op_type for node in model.graph.node)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@pytest.mark.parametrize("kind", ["float", "openvino", "int8_pointwise"])
def test_it_is_the_graph_that_torch_exports(folded: FoldedVAN, images: Callable[..., Tensor], kind: str) -> None:
    """GELU in the schemes, hard-swish in the float network."""
    if kind == "float":
        graph = capture(with_activation(folded, "hardswish"))
    else:
        batches = [images(4, *SIZE, seed=1)]
        graph = post_training_quantize(equalize(folded, batches), batches, SCHEMES[kind]).graph
    assert meaning(to_onnx(graph, SIZE)) == meaning(by_torch(graph))


def test_the_comparison_sees_one_weight_and_one_attribute(folded: FoldedVAN) -> None:
    graph = capture(folded)
    expected = meaning(to_onnx(graph, SIZE))
    other = to_onnx(graph, SIZE)
    next(a for n in other.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "pads").ints[0] += 1
    assert meaning(other) != expected
    with torch.no_grad():
        graph.get_parameter("head.weight")[0, 0] += 1
    assert meaning(to_onnx(graph, SIZE)) != expected


@pytest.mark.parametrize("kernel", [12, 24])
def test_an_even_kernel_is_padded_as_torch_pads_it(kernel: int, tmp_path: Any, images: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    van = VAN(Variant("even", (4, 4, 4, 4), (1, 1, 1, 1), 0.0, 0.0, None), 5, kernel_size=kernel, dilation=3)
    folded, _ = fold(van.eval(), (96, 96))  # large enough that no kernel is cropped to an odd one
    graph, x = capture(folded), images(2, 96, 96)
    assert any(n.target is torch.ops.aten.conv2d.padding for n in graph.graph.nodes)
    path = tmp_path / "even.onnx"
    path.write_bytes(to_onnx(graph, (96, 96)).SerializeToString())
    with open_model("onnxruntime", path, exact=True) as session:
        found = session.run({"images": x.numpy()})["logits"]
    expected = folded(x).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def captured(network: nn.Module) -> GraphModule:
    with quiet_capture():
        return torch.export.export(network, (torch.zeros(2, 3, *SIZE),)).module()


def test_what_no_van_has_is_refused() -> None:
    class Sigmoid(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x).mean((2, 3))

    with pytest.raises(VerificationError, match=r"aten\.sigmoid\.default, which no VAN has"):
        to_onnx(captured(Sigmoid()), SIZE)
    with pytest.raises(VerificationError, match="convolution or linear layer the scheme does not know"):
        to_onnx(captured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())), SIZE)


def test_a_grid_that_onnx_cannot_say_is_refused(folded: FoldedVAN, images: Callable[..., Tensor]) -> None:
    graph = post_training_quantize(folded, [images(2, *SIZE)], SCHEMES["int8"]).graph
    node = next(n for n in graph.graph.nodes if "quantize_per_tensor" in str(n.target))
    node.args = (*node.args[:3], -127, *node.args[4:])
    with pytest.raises(VerificationError, match=r"-127\.\.127 of torch\.int8; ONNX takes all of int8 or uint8"):
        to_onnx(graph, SIZE)
