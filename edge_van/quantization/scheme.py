"""Which tensors of a folded VAN are quantised, and how, for each target: the one torchao ``Quantizer`` of the package.

In: the exported graph of a ``FoldedVAN``. Out: the same graph, every quantised input annotated with its spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from edge_van.bundle.recipe import ARM_SCHEME_NAME
from edge_van.errors import UsageError, VerificationError
from edge_van.model.layer_names import Part, part_of
from edge_van.text import TextEnum

EPS = 2.0**-24
"""The smallest scale: a dead channel would get 0, which no engine takes."""


class Role(TextEnum):
    """What a node does in a VAN; the official layer names say which."""

    PATCH_EMBED = "patch_embed"
    POINTWISE = "pointwise"  # proj_1, proj_2, the LKA's 1x1, fc1, fc2
    LKA_LOCAL = "lka_local"  # the 5x5 depthwise convolution
    LKA_DILATED = "lka_dilated"  # the 7x7 depthwise convolution of dilation 3
    FFN_DEPTHWISE = "ffn_depthwise"  # the feed-forward's 3x3
    HEAD = "head"
    GATE = "gate"  # the multiplication of the LKA's output with its input
    RESIDUAL = "residual"  # the block's two additions and the residual's channel factor
    NORM = "norm"  # the LayerNorm at the end of a stage, in and out, on the map's side of its transposes


_LAYER_ROLES = {
    Part.PATCH_EMBED: Role.PATCH_EMBED,
    Part.ATTENTION_POINTWISE: Role.POINTWISE,
    Part.LKA_LOCAL: Role.LKA_LOCAL,
    Part.LKA_DILATED: Role.LKA_DILATED,
    Part.LKA_POINTWISE: Role.POINTWISE,
    Part.FFN_POINTWISE: Role.POINTWISE,
    Part.FFN_DEPTHWISE: Role.FFN_DEPTHWISE,
    Part.HEAD: Role.HEAD,
}
_LAYER_OPERATORS = (
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,  # an even kernel of odd dilation is padded "same"
    torch.ops.aten.linear.default,
)
_VIEWS = (
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.transpose.int,
    torch.ops.aten.reshape.default,
    torch.ops.aten.view.default,
)
_GATE_MODULE = re.compile(r"block[1-4]\.\d+\.attn\.spatial_gating_unit")
_BLOCK_MODULE = re.compile(r"block[1-4]\.\d+")

DEPTHWISE = frozenset({Role.LKA_LOCAL, Role.LKA_DILATED, Role.FFN_DEPTHWISE})
LAYERS = DEPTHWISE | {Role.PATCH_EMBED, Role.POINTWISE, Role.HEAD}


@dataclass(frozen=True)
class Scheme:
    """Which roles are quantised and on which grid.

    Weights are int8, per output channel, symmetric. Activations are per tensor: asymmetric uint8 (0..255), or symmetric
    int8 (-128..127) with zero point 0, the only form TensorRT takes, and with scales that float16 holds exactly.

    ``weight_bits=7`` keeps the weights of layers that mix channels within -63..63. An x86 CPU without VNNI adds pairs
    of uint8 x int8 products in 16 bits, which saturate: 2 * 255 * 127 does not fit, 2 * 255 * 63 does. Depthwise
    kernels widen to 32 bits first and keep all 8.

    ``weight_bits=4`` keeps all weights within -7..7, still stored as int8: a stress for training, nothing is faster.

    With ``outputs`` what a quantised layer computes is quantised too, before anything reads it. Arm's Compute Library
    has integer kernels for such layers alone: int8 in, int8 out.
    """

    name: str
    symmetric: bool
    roles: frozenset[Role]
    weight_bits: int = 8
    outputs: bool = False

    def __post_init__(self) -> None:
        if self.weight_bits not in (4, 7, 8):
            raise UsageError(f"scheme {self.name!r}: weight_bits is 4, 7 or 8, got {self.weight_bits}")
        if not self.roles & LAYERS:
            raise UsageError(f"scheme {self.name!r} quantises no convolution and no linear layer")


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("openvino", symmetric=False, roles=LAYERS | {Role.GATE, Role.RESIDUAL, Role.NORM}, weight_bits=7),
        Scheme("asymmetric", symmetric=False, roles=LAYERS, weight_bits=7),
        Scheme("int8", symmetric=True, roles=LAYERS),
        Scheme("int8_pointwise", symmetric=True, roles=LAYERS - DEPTHWISE),
        # depthwise convolutions have no integer kernel on ARM, however they are quantised
        Scheme(ARM_SCHEME_NAME, symmetric=True, roles=LAYERS - DEPTHWISE, outputs=True),
    )
}


def get_scheme(name: str) -> Scheme:
    """The scheme called ``name``; an unknown name is a ``UsageError`` that lists the known ones."""
    if name not in SCHEMES:
        raise UsageError(f"unknown quantisation scheme {name!r}; known: {', '.join(SCHEMES)}")
    return SCHEMES[name]


def for_openvino(name: str) -> Scheme:
    """The scheme called ``name`` as a CPU takes it: with 7-bit weights, whatever it has for other engines."""
    return replace(get_scheme(name), weight_bits=7)


def module_path(node: Node) -> str:
    """Dotted name of the innermost module a node was traced from, '' at the top."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return path.removeprefix("L['self'].").removeprefix("L__self__.")


def classify(node: Node) -> Role | None:
    """The role of a node of an exported ``FoldedVAN``, None where it has none that can be quantised."""
    if node.op != "call_function":
        return None
    path = module_path(node)
    if node.target in _LAYER_OPERATORS:
        if (part := part_of(path)) is not None:
            return _LAYER_ROLES[part]
        raise VerificationError(f"the graph has a convolution or linear layer the scheme does not know: {path!r}")
    if node.target is torch.ops.aten.layer_norm.default:
        return Role.NORM
    if node.target is torch.ops.aten.mul.Tensor and _GATE_MODULE.fullmatch(path):
        return Role.GATE
    if node.target is torch.ops.aten.add.Tensor and _BLOCK_MODULE.fullmatch(path):
        return Role.RESIDUAL
    if node.target is torch.ops.aten.mul.Tensor and _BLOCK_MODULE.fullmatch(path):
        # a block's output_scale multiplies its own sum: engines fuse it with the addition, nothing in between is stored
        own_sum = any(a.target is torch.ops.aten.add.Tensor and module_path(a) == path for a in node.all_input_nodes)
        return None if own_sum else Role.RESIDUAL
    return None


def roles(graph: GraphModule) -> Iterator[tuple[Node, Role]]:
    """Every node that has a role, in graph order."""
    for node in graph.graph.nodes:
        role = classify(node)
        if role is not None:
            yield node, role


def above_views(node: Node) -> Node:
    """The node whose values ``node`` holds in another shape or order; ``node`` itself if it computes."""
    while node.target in _VIEWS:
        node = node.all_input_nodes[0]
    return node


def _weight_spec(largest: int, *, half_scale: bool) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-largest,
        quant_max=largest,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=(HalfScalePerChannelObserver if half_scale else PerChannelMinMaxObserver).with_args(
            eps=EPS
        ),
    )


def half_scale(scale: Tensor) -> Tensor:
    """Rounded up to float16, subnormals included, so that a graph in float16 has the same grid, and clips no more."""
    half = scale.half()
    step = torch.nextafter(half, torch.full_like(half, torch.inf))
    return torch.where(half.float() < scale, step, half).float()


class RangeObserver(HistogramObserver):  # type: ignore[misc]
    """torchao's, but what its search found is kept until more is observed: ``convert`` asks again for every scheme."""

    _range: tuple[Tensor, Tensor] | None = None

    def forward(self, x_orig: Tensor) -> Tensor:
        self._range = None
        return cast(Tensor, super().forward(x_orig))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        if self._range is None:
            self._range = super().calculate_qparams()
        return self._range


class HalfScaleRangeObserver(RangeObserver):
    """With a scale that float16 holds exactly."""

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero_point = super().calculate_qparams()
        return half_scale(scale), zero_point


class HalfScalePerChannelObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """torchao's, with scales that float16 holds exactly."""

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        scale, zero_point = super().calculate_qparams()
        return half_scale(scale), zero_point


def _annotate(node: Node, inputs: dict[Node, QuantizationSpec], output: QuantizationSpec | None = None) -> None:
    node.meta["quantization_annotation"] = QuantizationAnnotation(
        input_qspec_map=inputs, output_qspec=output, _annotated=True
    )


class VANQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates the inputs (and weights) of every node whose role the scheme names."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        symmetric = scheme.symmetric
        # one object for all: torchao shares the observer of a tensor that several nodes read only if the spec is equal
        self._activation = QuantizationSpec(
            dtype=torch.int8 if symmetric else torch.uint8,
            quant_min=-128 if symmetric else 0,
            quant_max=127 if symmetric else 255,
            qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
            observer_or_fake_quant_ctr=(HalfScaleRangeObserver if symmetric else RangeObserver).with_args(eps=EPS),
        )
        # LayerNorm cancels the scale of a grid centred on 0, so the kernel reads the integers as they are
        self._centred = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_symmetric,
            observer_or_fake_quant_ctr=RangeObserver.with_args(eps=EPS),
        )
        self._weight = _weight_spec(7 if scheme.weight_bits == 4 else 127, half_scale=symmetric)
        self._weight_7bit = _weight_spec(63, half_scale=symmetric)

    def annotate(self, model: GraphModule) -> GraphModule:
        for node, role in roles(model):
            if role not in self.scheme.roles:
                continue
            if role is Role.NORM:
                self._annotate_norm(node)
            elif role in (Role.GATE, Role.RESIDUAL):
                _annotate(node, {a: self._activation for a in node.all_input_nodes if a.op == "call_function"})
            else:
                narrow = self.scheme.weight_bits == 7 and role not in DEPTHWISE
                data, weight = node.all_input_nodes[:2]
                inputs = {weight: self._weight_7bit if narrow else self._weight}
                if not self._is_quantized_norm(above_views(data)):
                    inputs[data] = self._activation
                _annotate(node, inputs, self._activation if self.scheme.outputs else None)
        return model

    def _annotate_norm(self, node: Node) -> None:
        """The input where the map is read, before it becomes tokens: the transposes between then move bytes, and the
        engine merges them with the kernel's own layout."""
        first = node
        while (above := first.all_input_nodes[0]).target in _VIEWS:
            first = above
        if first is node:
            raise VerificationError(f"LayerNorm {module_path(node)!r} does not read a reshaped map")
        _annotate(first, {first.all_input_nodes[0]: self._centred})
        _annotate(node, {}, self._activation)

    def _is_quantized_norm(self, node: Node) -> bool:
        return Role.NORM in self.scheme.roles and classify(node) is Role.NORM

    def validate(self, model: GraphModule) -> None:
        wanted = self.scheme.roles & LAYERS
        annotated = {r for n, r in roles(model) if "quantization_annotation" in n.meta}
        if missing := sorted(wanted - annotated):
            raise VerificationError(f"scheme {self.scheme.name!r} names layers the graph does not have: {missing}")
