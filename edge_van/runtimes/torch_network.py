"""The folded network back from a bundle's float32 ONNX file: what ``export.onnx`` wrote, as a torch module again.

In: ``onnx/model.onnx``. Out: a ``FoldedVAN``. The shapes decide widths, depths and ratios. Every operator and every
tensor of the file must be accounted for, so that a file of another network is refused rather than half read.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from edge_van.errors import BundleError, UsageError
from edge_van.model.fold import FoldedBlock, FoldedVAN
from edge_van.model.van import VAN
from edge_van.model.variants import Variant, match_variant
from edge_van.runtimes.onnx_file import read_onnx

_OPERATORS = (
    "Conv", "Gemm", "Gelu", "LayerNormalization", "ReduceMean", "Mul", "Add", "Reshape", "Transpose",
)  # fmt: skip
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_SHAPE_READERS = ("Reshape", "ReduceMean")
"""Their second input is a shape or axes, not a weight."""


@dataclass
class _Layers:
    """What the file holds, by the official names of the layers."""

    nodes: dict[str, Any] = field(default_factory=dict)  # convolutions, norms and the head
    scales: dict[str, Tensor] = field(default_factory=dict)  # "block1.0.residual_scale", "block1.0.output_scale"
    counts: Counter[str] = field(default_factory=Counter)


def read_folded(path: Path, graph: Any | None = None) -> FoldedVAN:
    """The network in ``path`` in float32, eval mode, without gradients for its weights.

    ``graph`` is the file's, for a caller that has read it already.
    ``BundleError`` for a quantised or float16 graph, one with another activation than GELU, one with tensors or
    operators that a folded VAN has not, or no ONNX file; ``MissingRuntimeError`` without the package ``onnx``.
    """
    graph = read_onnx(path).graph if graph is None else graph
    _check_operators(path, graph)
    constants = _constants(path, graph)
    layers = _layers(path, graph, constants)
    try:
        model = _skeleton(path, graph, layers, constants)
        _fill_(path, model, layers, constants)
    except (KeyError, IndexError, UsageError, ValueError) as error:
        raise _other(path, f"it does not fit a VAN at {error}") from error
    _check_wiring(path, model, layers)
    return model.eval().requires_grad_(False)


def _check_operators(path: Path, graph: Any) -> None:
    kinds = {node.op_type for node in graph.node}
    if kinds.intersection(_QUANTIZERS):
        raise BundleError(
            f"{path.name} is a quantised graph, PyTorch runs the float32 one: give onnx/model.onnx, or run this file "
            f"with ONNX Runtime"
        )
    if unknown := sorted(kinds.difference(_OPERATORS)):
        another = " (another activation than GELU)"
        hints = {"HardSwish": another, "Relu": another, "Cast": " (a float16 graph)"}
        hint = next((hints[kind] for kind in unknown if kind in hints), "")
        raise _other(path, f"it has the operators {', '.join(unknown)}{hint}")
    if any(a.name == "approximate" and a.s not in (b"", b"none") for node in graph.node for a in node.attribute):
        raise _other(path, "its GELU is an approximation")


def _other(path: Path, what: str) -> BundleError:
    return BundleError(
        f"{path.name} is not the float32 graph of a VAN that edge-van quantize writes: {what}; run it with OpenVINO or "
        f"ONNX Runtime, or make the bundle again"
    )


def _constants(path: Path, graph: Any) -> dict[str, Tensor]:
    """Every initialiser that is a weight. Tensors of the same values may be one in the file, under one of the names."""
    from onnx import TensorProto, numpy_helper

    shapes = {node.input[1] for node in graph.node if node.op_type in _SHAPE_READERS and len(node.input) > 1}
    constants = {}
    for tensor in graph.initializer:
        if tensor.name in shapes and tensor.data_type == TensorProto.INT64:
            continue
        if tensor.data_type != TensorProto.FLOAT:
            raise _other(path, f"{tensor.name} is {TensorProto.DataType.Name(tensor.data_type)}, not FLOAT")
        constants[tensor.name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    used = {name for node in graph.node for name in node.input}
    if spare := sorted(constants.keys() - used):
        raise _other(path, f"it holds {len(spare)} tensors that nothing reads, the first is {spare[0]}")
    return constants


def _layers(path: Path, graph: Any, constants: dict[str, Tensor]) -> _Layers:
    layers = _Layers(counts=Counter(node.op_type for node in graph.node))
    producer = {output: node for node in graph.node for output in node.output}
    readers = {
        (node.input[0], node.name.rpartition(".")[2]): node.name for node in graph.node if node.op_type == "Conv"
    }
    norms = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            layers.nodes[node.name] = node
        elif node.op_type == "LayerNormalization":
            norms += 1
            layers.nodes[f"norm{norms}"] = node
        elif scale := [name for name in node.input if name in constants]:
            if node.op_type != "Mul" or len(scale) != 1:
                raise _other(path, f"{node.name} reads {', '.join(scale)}")
            [data] = [name for name in node.input if name not in constants]
            name = _scale_name(data, readers, producer)
            if name is None or name in layers.scales:
                raise _other(path, f"{node.name} scales by {scale[0]} where no block does")
            layers.scales[name] = constants[scale[0]]
    return layers


def _scale_name(data: str, readers: dict[tuple[str, str], str], producer: dict[str, Any]) -> str | None:
    """The state dict's name of the scale that ``data`` is multiplied by: of the block that reads or that wrote it."""
    if (reader := readers.get((data, "proj_1"))) is not None:
        return f"{reader.removesuffix('.attn.proj_1')}.residual_scale"
    added = producer.get(data)
    for name in () if added is None else added.input:
        writer = producer.get(name)
        if writer is not None and writer.name.endswith(".mlp.fc2"):
            return f"{writer.name.removesuffix('.mlp.fc2')}.output_scale"
    return None


def _skeleton(path: Path, graph: Any, layers: _Layers, constants: dict[str, Tensor]) -> FoldedVAN:
    """A network of the file's widths and depths, its tensors not there yet."""

    def rows(name: str) -> int:
        return len(constants[layers.nodes[name].input[1]])

    dims = tuple(rows(f"patch_embed{s}.proj") for s in range(1, 5))
    depths = tuple(len([n for n in layers.nodes if re.fullmatch(rf"block{s}\.\d+\.mlp\.fc1", n)]) for s in range(1, 5))
    hidden = tuple(rows(f"block{s}.0.mlp.fc1") for s in range(1, 5))
    if any(wide % dim for wide, dim in zip(hidden, dims, strict=True)):
        raise _other(path, f"feed-forwards of {hidden} channels are no multiple of {dims}")
    ratios = tuple(wide // dim for wide, dim in zip(hidden, dims, strict=True))
    sides = [side.dim_value for side in graph.input[0].type.tensor_type.shape.dim]
    if len(graph.input) != 1 or len(graph.output) != 1 or len(sides) != 4 or min(sides[2:]) < 1:
        raise _other(path, "its input is not one batch of images of a fixed size")
    four = cast(Any, (dims, depths, ratios))
    name = match_variant(*four) or "unnamed"
    with torch.device("meta"):
        van = VAN(Variant(name, four[0], four[1], 0.0, 0.0, None, four[2]), rows("head"), in_channels=sides[1])
        return FoldedVAN(van, (sides[2], sides[3]))


def _fill_(path: Path, model: FoldedVAN, layers: _Layers, constants: dict[str, Tensor]) -> None:
    """In place: every tensor and every convolution's geometry from the file."""
    left = set(layers.nodes)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm):
            node = layers.nodes[name]
            left.discard(name)
            weight = constants[node.input[1]]
            # the exporter leaves a bias of zeros out
            bias = constants[node.input[2]] if len(node.input) > 2 else torch.zeros(len(weight))
            attributes = {a.name: a for a in node.attribute}
            if isinstance(module, nn.Conv2d):
                _set_geometry_(path, name, module, attributes, weight)
            elif isinstance(module, nn.LayerNorm):
                module.eps = float(attributes["epsilon"].f)
            if bias.shape != module.weight.shape[:1] or (
                not isinstance(module, nn.Conv2d) and weight.shape != module.weight.shape
            ):
                raise _other(path, f"{name} has a weight of {tuple(weight.shape)} and a bias of {tuple(bias.shape)}")
            module.weight, module.bias = nn.Parameter(weight), nn.Parameter(bias)
        elif isinstance(module, FoldedBlock):
            module.residual_scale = layers.scales.pop(f"{name}.residual_scale", None)
            module.output_scale = layers.scales.pop(f"{name}.output_scale", None)
            for scale in (module.residual_scale, module.output_scale):
                if scale is not None and scale.shape != (1, module.attn.proj_1.in_channels, 1, 1):
                    raise _other(path, f"{name} has a scale of {tuple(scale.shape)}")
    if left or layers.scales:
        raise _other(path, f"no layer of a VAN is called {min(left | layers.scales.keys())}")


def _set_geometry_(path: Path, name: str, conv: nn.Conv2d, attributes: dict[str, Any], weight: Tensor) -> None:
    """In place: kernel, dilation and padding, which the fold crops to what the input size can reach."""
    strides, dilations, pads = (tuple(attributes[k].ints) for k in ("strides", "dilations", "pads"))
    if (
        strides != conv.stride
        or attributes["group"].i != conv.groups
        or weight.dim() != 4
        or weight.shape[:2] != conv.weight.shape[:2]
        or ("auto_pad" in attributes and attributes["auto_pad"].s not in (b"", b"NOTSET"))
        or pads[:2] != pads[2:]
    ):
        raise _other(path, f"{name} is another convolution: weight {tuple(weight.shape)}, strides {strides}")
    conv.kernel_size = (weight.shape[2], weight.shape[3])
    conv.dilation = cast(Any, dilations)
    conv.padding = cast(Any, pads[:2])
    conv._reversed_padding_repeated_twice = [pads[1], pads[1], pads[0], pads[0]]


def _check_wiring(path: Path, model: FoldedVAN, layers: _Layers) -> None:
    """As many operators of each kind as the network has, its layers in the order in which it runs them."""
    blocks = [m for m in model.modules() if isinstance(m, FoldedBlock)]
    scales = sum(s is not None for b in blocks for s in (b.residual_scale, b.output_scale))
    want = {"Gelu": 2 * len(blocks), "Add": 2 * len(blocks), "Mul": len(blocks) + scales, "ReduceMean": 1}
    if wrong := {k: layers.counts[k] for k, v in want.items() if layers.counts[k] != v}:
        raise _other(path, f"it has {wrong} operators, a VAN of its layers {want}")
    order = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    written = [n for n in layers.nodes if not n.startswith("norm")]
    if written != order:
        odd = next(a for a, b in zip(written, order, strict=True) if a != b)
        raise _other(path, f"{odd} stands at another place than in a VAN")
