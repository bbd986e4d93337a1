"""``edge_van.quantization.scheme``: every layer of a captured VAN gets the role of its name, every tensor its grid."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import HistogramObserver

from edge_van.errors import UsageError, VerificationError
from edge_van.model.fold import FoldedBlock, FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.observers import EPS, HalfScaleRangeObserver, RangeObserver, WeightObserver
from edge_van.quantization.ptq import capture, post_training_quantize
from edge_van.quantization.quantizer import VANQuantizer
from edge_van.quantization.scheme import (
    DEPTHWISE,
    HEADS,
    LAYERS,
    SCHEMES,
    Role,
    Scheme,
    above_views,
    classify,
    get_scheme,
    module_path,
    roles,
)

Images = Callable[..., Tensor]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def b0_graph() -> GraphModule:
    return capture(fold(VAN("b0", 10), SIZE)[0])


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, SIZE)[0]


@pytest.fixture(scope="module")
def graph(folded: FoldedVAN) -> GraphModule:
    return capture(folded)


@pytest.fixture(scope="module")
def with_dead_channels(narrow_van: VAN, images: Images) -> dict[str, GraphModule]:
    """A VAN with a dead channel in every kind of layer and one dead tensor, quantised by every scheme."""
    van = copy.deepcopy(narrow_van)
    for module in van.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data[1] = 0.0
    for parameter in van.block3[0].mlp.dwconv.parameters():  # GELU(0) = 0: fc2 reads nothing but zeros
        parameter.data.zero_()
    model, _ = fold(van, SIZE)
    assert not model.block1[0].mlp.fc1.weight[1].any()
    return {name: post_training_quantize(model, [images(4, *SIZE)], s).graph for name, s in SCHEMES.items()}


def calls(graph: GraphModule, name: str) -> list[Node]:
    return [n for n in graph.graph.nodes if n.op == "call_function" and f".{name}." in f".{n.target}."]


def constant(graph: GraphModule, value: Any) -> Any:
    return operator(graph, value.target) if isinstance(value, Node) else value


def operator(graph: GraphModule, dotted: str) -> Any:
    owner: Any = graph
    for part in dotted.split("."):
        owner = getattr(owner, part)
    return owner


# --- roles ---


def test_every_layer_of_b0_has_the_role_of_its_name(b0_graph: GraphModule):
    expected: dict[str, Role] = {"head": Role.HEAD}
    for s, depth in enumerate((3, 3, 5, 2), 1):
        expected[f"patch_embed{s}.proj"] = Role.PATCH_EMBED
        for i in range(depth):
            attn, mlp = f"block{s}.{i}.attn", f"block{s}.{i}.mlp"
            expected[f"{attn}.spatial_gating_unit.conv0"] = Role.LKA_LOCAL
            expected[f"{attn}.spatial_gating_unit.conv_spatial"] = Role.LKA_DILATED
            expected[f"{mlp}.dwconv.dwconv"] = Role.FFN_DEPTHWISE
            for name in (f"{attn}.proj_1", f"{attn}.proj_2", f"{attn}.spatial_gating_unit.conv1"):
                expected[name] = Role.POINTWISE
            expected[f"{mlp}.fc1"] = expected[f"{mlp}.fc2"] = Role.POINTWISE
    found = {module_path(n): role for n, role in roles(b0_graph) if role in LAYERS}
    assert found == expected
    assert len(calls(b0_graph, "conv2d")) + len(calls(b0_graph, "linear")) == len(expected)


def test_counts_of_b0(b0_graph: GraphModule):
    assert Counter(role for _, role in roles(b0_graph)) == {
        Role.PATCH_EMBED: 4,
        Role.POINTWISE: 65,
        Role.LKA_LOCAL: 13,
        Role.LKA_DILATED: 13,
        Role.FFN_DEPTHWISE: 13,
        Role.HEAD: 1,
        Role.GATE: 13,
        Role.RESIDUAL: 39,  # in each block two additions and the residual's factor
        Role.NORM: 4,
        Role.NORM_INPUT: 4,
    }


def test_gates_and_residuals_are_told_apart(graph: GraphModule):
    by_role = {role: [n for n, r in roles(graph) if r is role] for role in (Role.GATE, Role.RESIDUAL)}
    for gate in by_role[Role.GATE]:
        assert gate.target is torch.ops.aten.mul.Tensor
        x, attention = sorted(gate.args, key=lambda n: n.target is torch.ops.aten.conv2d.default)
        assert module_path(attention).endswith("spatial_gating_unit.conv1")
        assert x.target is torch.ops.aten.gelu.default
    targets = Counter(str(n.target) for n in by_role[Role.RESIDUAL])
    assert targets == {"aten.add.Tensor": 10, "aten.mul.Tensor": 5}


def test_an_equalised_vans_output_scale_belongs_to_its_addition(folded: FoldedVAN, images: Images):
    equalized = equalize(folded, [images(2, *SIZE)])
    captured = capture(equalized)
    found = Counter(str(n.target) for n, role in roles(captured) if role is Role.RESIDUAL)
    kept = sum(m.residual_scale is not None for m in equalized.modules() if isinstance(m, FoldedBlock))
    assert found == {"aten.add.Tensor": 10} | ({"aten.mul.Tensor": kept} if kept else {})
    scales = [n for n in calls(captured, "mul") if not module_path(n).endswith("spatial_gating_unit")]
    assert len(scales) == kept + 4  # one at the end of each stage


class Stranger(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(3, 4, 3), (1, 3, 8, 8)), (nn.Linear(3, 4), (1, 3))], ids=["conv", "linear"]
)
def test_an_unknown_layer_is_refused(layer: nn.Module, shape: tuple[int, ...]):
    captured = torch.export.export(Stranger(layer), (torch.zeros(shape),)).module()
    with pytest.raises(VerificationError, match="'stem'"):
        list(roles(captured))
    with pytest.raises(VerificationError, match="'stem'"):
        VANQuantizer(SCHEMES["int8"]).annotate(captured)


def test_other_nodes_have_no_role(graph: GraphModule):
    others = {str(n.target) for n in graph.graph.nodes if n.op == "call_function" and classify(n) is None}
    assert "aten.gelu.default" in others
    assert not any("conv" in name or "linear" in name for name in others)
    assert all(classify(n) is None for n in graph.graph.nodes if n.op != "call_function")


# --- schemes ---


def test_schemes_by_name():
    assert get_scheme("int8") is SCHEMES["int8"]
    assert all(name == scheme.name for name, scheme in SCHEMES.items())
    assert {"openvino", "int8", "int8_pointwise"} <= set(SCHEMES)
    with pytest.raises(UsageError, match=r"int4.*openvino"):
        get_scheme("int4")
    with pytest.raises(UsageError, match="no convolution"):
        Scheme("gates", symmetric=True, roles=frozenset({Role.GATE}))


def test_a_layer_kind_that_is_missing_is_noticed(graph: GraphModule):
    captured = copy.deepcopy(graph)
    quantizer = VANQuantizer(SCHEMES["int8"])
    with pytest.raises(VerificationError, match="patch_embed"):
        quantizer.validate(captured)
    quantizer.validate(quantizer.annotate(captured))


def test_pointwise_scheme_leaves_depthwise_in_float(folded: FoldedVAN, images: Images):
    batches = [images(2, *SIZE)]
    layers = post_training_quantize(folded, batches, SCHEMES["int8_pointwise"]).layers
    assert set(layers.values()) == LAYERS - DEPTHWISE - HEADS
    assert len(layers) == 4 + 5 * 5


def test_arms_layers_are_int8_in_and_int8_out(folded: FoldedVAN, images: Images):
    quantized = post_training_quantize(folded, [images(2, *SIZE)], SCHEMES["openvino_arm"])
    assert set(quantized.layers.values()) == LAYERS - DEPTHWISE - {Role.DENSE_HEAD}
    for node, role in roles(quantized.graph):
        if role in LAYERS - DEPTHWISE:
            readers = {str(reader.target) for reader in node.users}
            assert readers == {"quantized_decomposed.quantize_per_tensor.default"}, module_path(node)
    one_sided = {n.args[0] for n in calls(quantized.graph, "quantize_per_tensor") if n.args[2]}  # with a zero point
    assert {str(n.target) for n in one_sided} == {"aten.gelu.default"}


# --- grids ---


@pytest.mark.parametrize("name", SCHEMES)
def test_weights_are_int8_per_channel_and_symmetric(with_dead_channels: dict[str, GraphModule], name: str):
    graph = with_dead_channels[name]
    nodes = calls(graph, "dequantize_per_channel")
    assert len(nodes) == {"int8_pointwise": 29, "openvino_arm": 30, "int8": 44}.get(name, 45)
    for node in nodes:
        weight, scale, zero_point = (constant(graph, a) for a in node.args[:3])
        assert weight.dtype == torch.int8
        assert scale.shape == zero_point.shape == (weight.shape[0],)
        assert not zero_point.any()
        assert scale.isfinite().all()
        assert (scale >= EPS).all()
        per_channel = weight.flatten(1).int().abs().amax(1)
        assert per_channel.max() <= 127
        # a living channel uses its whole grid, a dead one is all zeros
        filled = per_channel if not SCHEMES[name].pairs else torch.maximum(per_channel, largest_pair(weight))
        assert set(filled.tolist()) <= ({0, 126, 127, 128} if SCHEMES[name].pairs else {0, 127})
        assert (scale[per_channel == 0] == EPS).all()
    dead = [n for n in nodes if not constant(graph, n.args[0])[1].any()]
    assert len(dead) == len(nodes) - (Role.HEAD in SCHEMES[name].roles)


def largest_pair(weight: Tensor) -> Tensor:
    """Of each output channel the largest sum of two neighbouring input channels' weights of one sign."""
    found = weight.flatten(1).int().abs().amax(1)
    if weight.shape[1] == 1:
        return found
    for sign in (1, -1):
        part = (sign * weight.int()).clamp_min(0)
        for i in range(0, weight.shape[1] - 1, 2):
            found = torch.maximum(found, (part[:, i] + part[:, i + 1]).reshape(len(part), -1).amax(1))
    return found


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 9), side=st.sampled_from([1, 3]), halves=st.booleans())
def test_no_pair_of_neighbours_can_overflow_16_bits(seed: int, channels: int, side: int, halves: bool):
    """Of uint8 activations at their largest, whatever the weights: neither sum is over 16 bits, signed."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, channels, side, side, generator=generator) * 10 ** torch.randn(1, generator=generator)
    options: dict[str, Any] = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0, "eps": EPS}
    observer = WeightObserver(dtype=torch.int8, quant_min=-127, quant_max=127, halves=halves, pairs=True, **options)
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    grid = torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), 0, -127, 127)
    integers = (grid / scale.view(-1, 1, 1, 1)).round()
    assert int(largest_pair(integers).max()) * 255 <= 2**15 - 1
    assert int(largest_pair(integers).max()) >= 126  # and no more of the grid is given up than that takes


@pytest.mark.parametrize("name", ["openvino", "int8"])
def test_four_bits_are_those_of_every_weight(folded: FoldedVAN, images: Images, name: str):
    quantized = post_training_quantize(folded, [images(4, *SIZE)], replace(SCHEMES[name], weight_bits=4)).graph
    weights = [t for t in quantized.state_dict().values() if t.dtype is torch.int8 and t.ndim >= 2]
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in folded.modules())
    assert len(weights) == (layers if Role.HEAD in SCHEMES[name].roles else layers - 1)
    assert all(int(weight.int().abs().max()) == 7 for weight in weights)


@pytest.mark.parametrize("kind", [RangeObserver, HalfScaleRangeObserver])
def test_a_range_is_searched_once_until_more_is_observed(kind: type[RangeObserver], monkeypatch: pytest.MonkeyPatch):
    searched: list[int] = []
    real = HistogramObserver._non_linear_param_search
    monkeypatch.setattr(HistogramObserver, "_non_linear_param_search", lambda self: (searched.append(1), real(self))[1])
    narrow, wide = torch.linspace(-1, 1, 100), torch.linspace(-9, 9, 100)
    observer, fresh = kind(), kind()
    observer(narrow)
    first = observer.calculate_qparams()
    assert copy.deepcopy(observer).calculate_qparams() == observer.calculate_qparams() == first
    assert len(searched) == 1
    observer(wide)
    for values in (narrow, wide):
        fresh(values)
    assert observer.calculate_qparams() == fresh.calculate_qparams()
    assert observer.calculate_qparams()[0] > 4 * first[0]


@pytest.mark.parametrize("bits", [0, 3, 5, 9])
def test_other_bits_are_refused(bits: int):
    with pytest.raises(UsageError, match=f"weight_bits is 4, 7 or 8, got {bits}"):
        replace(SCHEMES["int8"], weight_bits=bits)


@pytest.mark.parametrize("name", SCHEMES)
def test_activations_are_per_tensor(with_dead_channels: dict[str, GraphModule], name: str):
    graph = with_dead_channels[name]
    nodes = calls(graph, "quantize_per_tensor") + calls(graph, "dequantize_per_tensor")
    assert nodes
    scales, zero_points = [], []
    for node in nodes:
        scale, zero_point, low, high, dtype = (constant(graph, a) for a in node.args[1:6])
        scales.append(float(scale))
        zero_points.append(int(zero_point))
        if SCHEMES[name].symmetric and dtype == torch.int8:
            assert (zero_points[-1], low, high) == (0, -128, 127)
        elif dtype == torch.int8:  # what a LayerNorm reads
            assert name == "openvino_fast"
            assert (zero_points.pop(), low, high) == (0, -128, 127)
        else:
            assert (low, high, dtype) == (0, 255, torch.uint8)
            assert 0 <= zero_points[-1] <= 255
    assert all(0.0 < s < float("inf") for s in scales)
    if not SCHEMES[name].symmetric:
        assert len(set(zero_points)) > 3


@pytest.mark.parametrize("name", SCHEMES)
def test_dead_channels_give_numbers(with_dead_channels: dict[str, GraphModule], images: Images, name: str):
    with torch.no_grad():
        assert with_dead_channels[name](images(3, *SIZE)).isfinite().all()


def test_the_fast_scheme_quantises_gates_and_additions(with_dead_channels: dict[str, GraphModule]):
    def float_inputs(graph: GraphModule, role: Role) -> int:
        inputs = [a for n, r in roles(graph) if r is role for a in n.args if isinstance(a, Node)]
        return sum(a.op == "call_function" and "dequantize" not in str(a.target) for a in inputs)

    for role in (Role.GATE, Role.RESIDUAL):
        assert float_inputs(with_dead_channels["openvino_fast"], role) == 0
        assert float_inputs(with_dead_channels["int8"], role) > 0


@pytest.mark.parametrize("name", ["openvino", "openvino_fast"])
def test_layer_norms_are_quantised_on_the_maps_side_of_their_transposes(folded: FoldedVAN, name: str):
    """In, by the fast scheme: the map itself, centred on 0. Out: before the transpose back, and never a second time at
    the next conv."""
    quantized = post_training_quantize(folded, [torch.zeros(2, 3, *SIZE)], SCHEMES[name]).graph
    norms = calls(quantized, "layer_norm")
    assert len(norms) == 4
    for norm in norms:
        above = norm.args[0]
        assert above is not above_views(above)
        source = above_views(above)
        assert ("dequantize_per_tensor" in str(source.target)) == (name == "openvino_fast")
        if name == "openvino_fast":
            assert source.args[2:6] == (0, -128, 127, torch.int8)
        [reader] = norm.users
        assert "quantize_per_tensor" in str(reader.target)
    for conv in [n for n, role in roles(quantized) if role is Role.PATCH_EMBED][1:]:
        source = above_views(conv.args[0])
        assert source is not conv.args[0]
        assert source.args[0].args[0].target is torch.ops.aten.layer_norm.default
    other = post_training_quantize(folded, [torch.zeros(2, 3, *SIZE)], SCHEMES["asymmetric"]).graph
    assert all("quantize" not in str(reader.target) for norm in calls(other, "layer_norm") for reader in norm.users)


def test_a_tensor_with_several_readers_is_quantised_once(with_dead_channels: dict[str, GraphModule]):
    for graph in with_dead_channels.values():
        sources = Counter(n.args[0] for n in calls(graph, "quantize_per_tensor"))
        assert set(sources.values()) == {1}
