"""``quantization.switched``: every switch does to the file what leaving that place in float does to the scheme."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from narrow import NARROW, normal_images, spread_norms_
from numpy.typing import NDArray

from edge_van.errors import VerificationError
from edge_van.export.onnx import export_onnx
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import Calibrated, calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.quantization.switched import GATE, NORM, PARTS, RESIDUAL, switched
from edge_van.quantization.switched_session import SwitchedGraph
from edge_van.statistics import sqnr_db

SPEC = InputSpec(size=(32, 32), crop=1.0)
SAME_DB = 45.0
"""Two computations of the same graph, in which a tie or two turn."""


@pytest.fixture(scope="module")
def folded() -> FoldedVAN:
    torch.manual_seed(0)
    van = spread_norms_(VAN(NARROW, 7).eval(), 0)
    plain, _ = fold(van, (32, 32))
    return equalize(plain, [normal_images(8, 32, 32)], strength=0.5)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)


def normal(pixels: NDArray[np.uint8]) -> torch.Tensor:
    mean, std = np.array(SPEC.pixel_mean), np.array(SPEC.pixel_std)
    return torch.from_numpy((((pixels / 255.0) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)).contiguous()


def calibrated_for(folded: FoldedVAN, name: str, pixels: NDArray[np.uint8]) -> Calibrated:
    return calibrate(folded, [normal(pixels[:16])], SCHEMES[name])


def opened(calibrated: Calibrated, folded: FoldedVAN, folder: Path) -> SwitchedGraph:
    check = normal_images(2, 32, 32)
    files = [folder / "int8.onnx", folder / "fp32.onnx"]
    export_onnx(convert(calibrated), files[0], check)
    export_onnx(folded, files[1], check)
    return SwitchedGraph(onnx.load(files[0]), onnx.load(files[1]), SPEC, folder)


@pytest.mark.parametrize("name", SCHEMES)
def test_all_off_is_the_float_network_and_all_on_the_quantised_one(
    name: str, folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    calibrated = calibrated_for(folded, name, pixels)
    with torch.no_grad():
        expected = folded(normal(pixels)).numpy(), convert(calibrated).graph(normal(pixels)).numpy()
    with opened(calibrated, folded, tmp_path) as graph:
        assert not any(place.kept for place in graph.places)
        off, on = (graph.logits(pixels, ~graph.none() if all_on else graph.none()) for all_on in (False, True))
        assert sqnr_db(expected[0], off) > 90.0
        assert sqnr_db(expected[0], graph.float_logits(pixels)) > 90.0
    assert sqnr_db(expected[1], on) > SAME_DB
    assert sqnr_db(expected[0], on) < SAME_DB  # the two differ


@pytest.mark.parametrize("name", ["openvino", "openvino_fast", "int8"])
def test_a_switch_is_what_the_scheme_leaves_in_float(
    name: str, folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """The other way to leave a place in float is torchao's graph without its observers."""
    calibrated = calibrated_for(folded, name, pixels)
    with opened(calibrated, folded, tmp_path) as graph:
        names = [place.name for place in graph.places]
        for place in (
            "patch_embed1.proj",
            "block2.1.attn.spatial_gating_unit.conv_spatial",
            "block2.0.mlp.fc2",
            "block4.0.attn.proj_2",
        ):
            scheme = replace(calibrated.scheme, left=frozenset({place}))
            with torch.no_grad():
                expected = convert(calibrated, scheme).graph(normal(pixels)).numpy()
            switches = ~graph.none()
            switches[names.index(place)] = False
            assert sqnr_db(expected, graph.logits(pixels, switches)) > SAME_DB, place


def test_every_place_has_a_name_and_a_part(folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    with opened(calibrated_for(folded, "openvino_fast", pixels), folded, tmp_path) as graph:
        parts = {place.name: place.part for place in graph.places}
        seen = graph.ranges(pixels)
    assert set(parts.values()) <= set(PARTS)
    gates = [name for name, part in parts.items() if part == GATE]
    assert gates == [
        f"block{s}.{j}.attn.spatial_gating_unit" for s, depth in enumerate(NARROW.depths, 1) for j in range(depth)
    ]
    assert [name for name, part in parts.items() if part == NORM] == [
        name for s in range(1, 5) for name in (f"norm{s}.input", f"norm{s}")
    ]
    assert "block1.0.attn.residual" in parts
    assert "block2.1.mlp.residual" in parts
    assert {part for name, part in parts.items() if "residual" in name} == {RESIDUAL}
    for place, ranges in zip(graph.places, seen, strict=True):
        for (low, high), (lowest, highest, share) in zip(place.grids, ranges, strict=True):
            assert lowest < highest
            assert 0.0 <= share < 0.2
            assert (share == 0.0) == (lowest >= low - (high - low) / 510 and highest <= high + (high - low) / 510)


def test_the_range_of_a_tensor_that_was_moved_is_its_own(
    folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """``onnx_centred`` subtracts a constant from what fc2 reads, a GELU's output."""
    with opened(calibrated_for(folded, "int8", pixels), folded, tmp_path) as graph:
        seen = dict(zip((place.name for place in graph.places), graph.ranges(pixels), strict=True))
        grids = {place.name: place.grids for place in graph.places}
    [(lowest, highest, _)] = seen["block1.0.mlp.fc2"]
    [(low, high)] = grids["block1.0.mlp.fc2"]
    assert -0.18 < lowest < 0.0 < highest
    assert low == pytest.approx(0.0, abs=0.3 * high)


def test_other_float_weights_stay_on_their_grid(folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    """A trained network, or another activation's."""
    calibrated = calibrated_for(folded, "int8", pixels)
    check = normal_images(2, 32, 32)
    quantized = onnx.load(export_onnx(convert(calibrated), tmp_path / "int8.onnx", check))
    torch.manual_seed(1)
    other, _ = fold(spread_norms_(VAN(NARROW, 7).eval(), 1), (32, 32))
    made = switched(quantized, onnx.load(export_onnx(other, tmp_path / "other.onnx", check)))
    assert all(place.kept for place in made.places)


def test_a_quantiser_without_a_layer_is_refused(folded: FoldedVAN, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    check = normal_images(2, 32, 32)
    files = [
        export_onnx(model, tmp_path / f"{i}.onnx", check)
        for i, model in enumerate((convert(calibrated_for(folded, "int8", pixels)), folded))
    ]
    quantized, plain = map(onnx.load, files)
    next(node for node in quantized.graph.node if node.name == "block4.0.mlp.fc2").name = "tail"
    with pytest.raises(VerificationError, match="a layer that no VAN has: 'tail'"):
        switched(quantized, plain)
