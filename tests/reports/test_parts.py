"""``edge_van.reports.parts``: every executed kernel belongs to one part, by its official name and its operator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import layers

from edge_van.model.layer_names import Part
from edge_van.reports.parts import NORM, OTHER, PARTS, by_operator, by_part, part_of
from edge_van.timing.record import LayerProfile, LayerTime

GATE = "block3.12.attn.spatial_gating_unit"


@pytest.mark.parametrize(
    ("name", "operator", "part"),
    [
        ("patch_embed2.proj/WithoutBiases", "Convolution", "patch embedding"),
        ("block1.0.attn.proj_1/WithoutBiases", "Convolution", "attention 1x1"),
        (f"{GATE}.conv0/WithoutBiases", "GroupConvolution", "LKA 5x5 depthwise"),
        (f"{GATE}.conv_spatial", "GroupConvolution", "LKA dilated depthwise"),
        (f"{GATE}.conv1/WithoutBiases", "Convolution", "LKA 1x1"),
        ("block4.1.mlp.fc2/WithoutBiases", "Convolution", "FFN 1x1"),
        ("block4.1.mlp.dwconv.dwconv/WithoutBiases", "GroupConvolution", "FFN 3x3 depthwise"),
        ("head/WithoutBiases", "FullyConnected", "head"),
        ("MVN.144", "MVN", NORM),
        ("node_layer_norm_2", "Subgraph", NORM),
        ("block1.2.mlp.fc2/WithoutBiases_acdb_abcd_node_Reshape_50", "Reorder", OTHER),
        ("x_abcd_acdb_patch_embed1.proj/WithoutBiases", "Reorder", OTHER),
        ("patch_embed1.proj/WithoutBiases", "Convert", OTHER),
        ("patch_embed1.proj/WithoutBiases", "Conv", "patch embedding"),
        ("head_norm", "Convolution", OTHER),
        ("head.weight", "DequantizeLinear", OTHER),
        ("block1.0.attn.proj_1.weight", "QuantizeLinear", OTHER),
        ("block1.0.attn.proj_1", "QLinearConv", "attention 1x1"),
        ("node_mul_15", "Subgraph", OTHER),
    ],
)
def test_part(name: str, operator: str, part: str) -> None:
    assert part_of(LayerTime(name, operator, "k", 1.0)) == part


def test_a_van_has_every_part_and_loses_no_time() -> None:
    profile = layers("m", 1.0)
    sums = by_part(profile)
    assert tuple(sums) == PARTS
    assert {part for part, value in sums.items() if not value} == {Part.DENSE_HEAD}, "which a classifier has not"
    assert sum(sums.values()) == pytest.approx(sum(layer.mean_ms for layer in profile.layers))


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=8), st.floats(0, 10)), max_size=20))
def test_any_names_are_summed_whole(rows: list[tuple[str, str, float]]) -> None:
    profile = LayerProfile("m", 1, tuple(LayerTime(name, operator, "k", t) for name, operator, t in rows))
    total = sum(t for _, _, t in rows)
    assert sum(by_part(profile).values()) == pytest.approx(total)
    assert sum(row.sum_ms for row in by_operator(profile)) == pytest.approx(total)
    assert sum(row.count for row in by_operator(profile)) == len(rows)
