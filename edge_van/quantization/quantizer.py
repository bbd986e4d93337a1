"""The one torchao ``Quantizer`` of the package.

In: the exported graph of a ``FoldedVAN``, a ``Scheme``. Out: the same graph, every quantised input annotated with its
spec.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from edge_van.errors import UsageError, VerificationError
from edge_van.quantization.observers import EPS, WeightObserver, range_observer
from edge_van.quantization.scheme import (
    ACTIVATIONS,
    DEPTHWISE,
    HEADS,
    LAYERS,
    Role,
    Scheme,
    above_views,
    classify,
    place_of,
    roles,
)


def _weight_spec(largest: int, *, halves: bool, pairs: bool = False) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-largest,
        quant_max=largest,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=WeightObserver.with_args(eps=EPS, halves=halves, pairs=pairs),
    )


_Specs = tuple[Node, dict[Node, QuantizationSpec], QuantizationSpec | None]
"""A node, what its inputs are quantised by, and its output."""


class VANQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates the inputs (and weights) of every node whose role the scheme names."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme
        symmetric = scheme.symmetric
        observer = range_observer(scheme.ranges, halves=symmetric).with_args(eps=EPS)
        # one object for all: torchao shares the observer of a tensor that several nodes read only if the spec is equal
        self._activation = QuantizationSpec(
            dtype=torch.int8 if symmetric else torch.uint8,
            quant_min=-128 if symmetric else 0,
            quant_max=127 if symmetric else 255,
            qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
            observer_or_fake_quant_ctr=observer,
        )
        # export moves it into the middle of a grid around 0: see ``export.onnx_centred``
        self._one_sided = QuantizationSpec(
            dtype=torch.uint8,
            quant_min=0,
            quant_max=255,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=observer,
        )
        # LayerNorm cancels the scale of a grid centred on 0, so the kernel reads the integers as they are
        self._centred = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_symmetric,
            observer_or_fake_quant_ctr=range_observer(scheme.ranges, halves=False).with_args(eps=EPS),
        )
        largest = {4: 7, 7: 63, 8: 127}[scheme.weight_bits]
        self._mixing = _weight_spec(largest, halves=symmetric, pairs=scheme.pairs and largest == 127)
        self._depthwise = _weight_spec(7 if scheme.weight_bits == 4 else 127, halves=symmetric)

    def annotate(self, model: GraphModule) -> GraphModule:
        for node, inputs, output in self._specs(model):
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map=inputs, output_qspec=output, _annotated=True
            )
        return model

    def tensors(self, model: GraphModule) -> set[str]:
        """The nodes of ``model``, which is left as it is, whose values need a range."""
        names = set()
        for node, inputs, output in self._specs(model):
            names |= {source.name for source in inputs if source.op != "get_attr"}
            names |= set() if output is None else {node.name}
        return names

    def _specs(self, model: GraphModule) -> Iterator[_Specs]:
        """Each node that is quantised, with the specs of its inputs and of its output."""
        for node, role in roles(model):
            if not self.scheme.quantizes(role, place_of(node, role)):
                continue
            if role is Role.NORM:
                yield node, {}, self._activation
            elif role is Role.NORM_INPUT:
                yield node, {node.all_input_nodes[0]: self._centred}, None
            elif role in (Role.GATE, Role.RESIDUAL):
                yield node, {a: self._activation for a in node.all_input_nodes if a.op == "call_function"}, None
            else:
                data, weight = node.all_input_nodes[:2]
                inputs = {weight: self._depthwise if role in DEPTHWISE else self._mixing}
                if not self._is_quantized_norm(above_views(data)):
                    one_sided = role is Role.POINTWISE and data.target in ACTIVATIONS
                    inputs[data] = self._one_sided if one_sided else self._activation
                yield node, inputs, self._activation if self.scheme.outputs else None

    def _is_quantized_norm(self, node: Node) -> bool:
        return classify(node) is Role.NORM and self.scheme.quantizes(Role.NORM, place_of(node, Role.NORM))

    def validate(self, model: GraphModule) -> None:
        places = [(node, role, place_of(node, role)) for node, role in roles(model)]
        if unknown := sorted(self.scheme.left - {place for _, _, place in places if place}):
            raise UsageError(
                f"the network has no {unknown[0]!r} that could be left in float; it has block1.0.attn.proj_1"
            )
        wanted = self.scheme.roles & LAYERS - HEADS - {role for _, role, place in places if place in self.scheme.left}
        annotated = {role for node, role, _ in places if "quantization_annotation" in node.meta}
        if missing := sorted(wanted - annotated):
            raise VerificationError(f"scheme {self.scheme.name!r} names layers the graph does not have: {missing}")
