"""Which tensors of a folded VAN are quantised, and on which grid, for each target; what each node of its graph does.

In: a name, the exported graph of a ``FoldedVAN``. Out: a ``Scheme``; the roles and places of the graph's nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import GraphModule, Node

from edge_van.bundle.recipe import ARM_SCHEME_NAME
from edge_van.errors import UsageError, VerificationError
from edge_van.model.layer_names import Part, part_of
from edge_van.text import TextEnum


class Role(TextEnum):
    """What a node does in a VAN; the official layer names say which."""

    PATCH_EMBED = "patch_embed"
    POINTWISE = "pointwise"  # proj_1, proj_2, the LKA's 1x1, fc1, fc2
    LKA_LOCAL = "lka_local"  # the 5x5 depthwise convolution
    LKA_DILATED = "lka_dilated"  # the 7x7 depthwise convolution of dilation 3
    FFN_DEPTHWISE = "ffn_depthwise"  # the feed-forward's 3x3
    HEAD = "head"
    DENSE_HEAD = "dense_head"  # the convolutions of a dense network's neck and head
    GATE = "gate"  # the multiplication of the LKA's output with its input
    RESIDUAL = "residual"  # the block's two additions and the residual's channel factor
    NORM = "norm"  # what the LayerNorm at the end of a stage computes, before it becomes a map again
    NORM_INPUT = "norm_input"  # what it reads, while that is a map


_LAYER_ROLES = {
    Part.PATCH_EMBED: Role.PATCH_EMBED,
    Part.ATTENTION_POINTWISE: Role.POINTWISE,
    Part.LKA_LOCAL: Role.LKA_LOCAL,
    Part.LKA_DILATED: Role.LKA_DILATED,
    Part.LKA_POINTWISE: Role.POINTWISE,
    Part.FFN_POINTWISE: Role.POINTWISE,
    Part.FFN_DEPTHWISE: Role.FFN_DEPTHWISE,
    Part.HEAD: Role.HEAD,
    Part.DENSE_HEAD: Role.DENSE_HEAD,
}
_LAYER_OPERATORS = (
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,  # an even kernel of odd dilation is padded "same"
    torch.ops.aten.linear.default,
)
_VIEWS = (
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.permute.default,
    torch.ops.aten.reshape.default,
    torch.ops.aten.view.default,
)
ACTIVATIONS = (torch.ops.aten.gelu.default, torch.ops.aten.hardswish.default, torch.ops.aten.relu.default)
_GATE_MODULE = re.compile(r"block[1-4]\.\d+\.attn\.spatial_gating_unit")
_BLOCK_MODULE = re.compile(r"block[1-4]\.\d+")

DEPTHWISE = frozenset({Role.LKA_LOCAL, Role.LKA_DILATED, Role.FFN_DEPTHWISE})
HEADS = frozenset({Role.HEAD, Role.DENSE_HEAD})
"""A network has one of them, or none."""
LAYERS = DEPTHWISE | HEADS | {Role.PATCH_EMBED, Role.POINTWISE}


@dataclass(frozen=True)
class Scheme:
    """Which roles are quantised and on which grid.

    Weights are int8, per output channel, symmetric. Activations are per tensor: asymmetric uint8 (0..255), or symmetric
    int8 (-128..127) with zero point 0, the only form TensorRT takes, and with scales that float16 holds exactly. What
    the feed-forward's last 1x1 reads, a GELU's output, is uint8 in either: a grid around 0 would leave half of itself
    to values that do not occur, and a file that must have one gets the tensor moved there.

    An x86 CPU without VNNI adds the products of two neighbouring input channels in 16 bits, which saturate: 255 * 127 *
    2 does not fit. With ``pairs`` the weights of layers that mix channels are scaled so that no two neighbours of one
    sign are over 128 together, 255 * 128 being the most that fits. Depthwise kernels widen to 32 bits first.
    ``weight_bits=7`` keeps those layers within -63..63 instead, which costs most of them half of their grid.

    ``weight_bits=4`` keeps all weights within -7..7, still stored as int8: a stress for training, nothing is faster.

    ``left`` are places that stay in float nevertheless, by the names that ``place_of`` gives them.

    With ``outputs`` what a quantised layer computes is quantised too, before anything reads it. Arm's Compute Library
    has integer kernels for such layers alone: int8 in, int8 out.
    """

    name: str
    symmetric: bool
    roles: frozenset[Role]
    weight_bits: int = 8
    outputs: bool = False
    pairs: bool = False
    left: frozenset[str] = frozenset()
    ranges: str = "squared_error"

    def __post_init__(self) -> None:
        if self.weight_bits not in (4, 7, 8):
            raise UsageError(f"scheme {self.name!r}: weight_bits is 4, 7 or 8, got {self.weight_bits}")
        if not self.roles & LAYERS:
            raise UsageError(f"scheme {self.name!r} quantises no convolution and no linear layer")

    @property
    def grids(self) -> tuple[bool, int, bool, bool, str]:
        """All but which tensors: schemes that are equal here have the same range for the same tensor."""
        return self.symmetric, self.weight_bits, self.outputs, self.pairs, self.ranges

    def quantizes(self, role: Role, place: str) -> bool:
        return role in self.roles and place not in self.left

    def is_part_of(self, other: Scheme) -> bool:
        """Whether ``other`` has the same grids on all the tensors that this quantises. Where a LayerNorm's output is
        left in float its readers have grids of their own."""
        norms = any(map(is_norm, self.left ^ other.left))
        same_norms = not norms and (Role.NORM in self.roles) == (Role.NORM in other.roles)
        return self.grids == other.grids and self.roles <= other.roles and other.left <= self.left and same_norms


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("openvino", symmetric=False, roles=LAYERS | {Role.NORM}, pairs=True),
        Scheme(
            "openvino_fast",
            symmetric=False,
            roles=LAYERS | {Role.GATE, Role.RESIDUAL, Role.NORM, Role.NORM_INPUT},
            pairs=True,
        ),
        Scheme("asymmetric", symmetric=False, roles=LAYERS, pairs=True),
        # the head's one matrix by one vector takes no time on a GPU, and is a twentieth of the noise
        Scheme("int8", symmetric=True, roles=LAYERS - {Role.HEAD}),
        Scheme("int8_pointwise", symmetric=True, roles=LAYERS - DEPTHWISE - {Role.HEAD}),
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
    """The scheme called ``name`` as an x86 CPU takes it, without VNNI too, whatever it is for other engines."""
    return replace(get_scheme(name), pairs=True)


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
    if node.target is torch.ops.aten.permute.default:
        read_by = {reader.target for tokens in node.users for reader in tokens.users}
        return Role.NORM_INPUT if torch.ops.aten.layer_norm.default in read_by else None
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


def place_of(node: Node, role: Role) -> str:
    """What the place of a node that has a ``role`` is called: a layer and a LayerNorm by their module, the gate by its
    LKA; "" for the others, which cannot be left in float one by one."""
    if role is Role.NORM_INPUT:
        norms = [r for tokens in node.users for r in tokens.users if r.target is torch.ops.aten.layer_norm.default]
        return f"{module_path(norms[0])}.input"
    return "" if role is Role.RESIDUAL else module_path(node)


def is_norm(place: str) -> bool:
    """Whether that is what a LayerNorm computes."""
    return re.fullmatch(r"norm\d", place) is not None


def above_views(node: Node) -> Node:
    """The node whose values ``node`` holds in another shape or order; ``node`` itself if it computes."""
    while node.target in _VIEWS:
        node = node.all_input_nodes[0]
    return node
