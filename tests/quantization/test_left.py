"""Places that a scheme leaves in float, and ranges of all that was seen: what a recipe may ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from narrow import NARROW, normal_images, spread_norms_
from torch import Tensor

from edge_van.errors import UsageError
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization.observers import (
    HalfScaleMinMaxRangeObserver,
    MinMaxRangeObserver,
    half_scale,
    range_observer,
)
from edge_van.quantization.ptq import Calibrated, calibrate, convert
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import Graphs, Prepared, device_scheme_of, openvino_scheme_of, prepare
from edge_van.quantization.scheme import SCHEMES, Role, Scheme
from edge_van.statistics import sqnr_db

LEFT = frozenset({"block2.0.attn.proj_2", "head"})


@pytest.fixture(scope="module")
def folded() -> FoldedVAN:
    torch.manual_seed(0)
    return fold(spread_norms_(VAN(NARROW, 7).eval(), 0), (32, 32))[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return [normal_images(4, 32, 32, seed=i) for i in range(2)]


@pytest.fixture(scope="module")
def calibrated(folded: FoldedVAN, batches: list[Tensor]) -> Calibrated:
    return calibrate(folded, batches, SCHEMES["openvino_fast"])


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(normal_images(8, 32, 32, seed=9))
    return result


def test_what_is_left_is_float_and_the_rest_is_as_before(calibrated: Calibrated, folded: FoldedVAN) -> None:
    scheme = replace(calibrated.scheme, left=LEFT)
    whole, without = convert(calibrated), convert(calibrated, scheme)
    assert set(whole.layers) - set(without.layers) == LEFT
    reference = logits(folded).numpy()
    assert sqnr_db(reference, logits(without.graph).numpy()) > sqnr_db(reference, logits(whole.graph).numpy())


def test_left_from_the_start_is_the_same_as_left_afterwards(
    calibrated: Calibrated, folded: FoldedVAN, batches: list[Tensor]
) -> None:
    scheme = replace(calibrated.scheme, left=LEFT)
    anew = convert(calibrate(folded, batches, scheme))
    assert torch.equal(logits(anew.graph), logits(convert(calibrated, scheme).graph))


@pytest.mark.parametrize("place", ["norm2", "norm2.input", "block2.1.attn.spatial_gating_unit"])
def test_what_has_no_weights_can_be_left_too(
    place: str, calibrated: Calibrated, folded: FoldedVAN, batches: list[Tensor]
) -> None:
    scheme = replace(calibrated.scheme, left=frozenset({place}))
    ready = calibrated if calibrated.serves(scheme) else calibrate(folded, batches, scheme)
    assert calibrated.serves(scheme) == (place != "norm2")  # what reads that has ranges of its own then
    quantized = convert(ready, scheme)
    assert set(quantized.layers) == set(convert(calibrated).layers)
    # a LayerNorm's quantiser moves to what reads it, behind a transpose
    assert torch.equal(logits(quantized.graph), logits(convert(calibrated).graph)) == (place == "norm2")


@pytest.mark.parametrize("place", ["nothing", "block9.0.attn.proj_1", "", "block1.0"])
def test_an_unknown_place_is_refused(place: str, folded: FoldedVAN, batches: list[Tensor]) -> None:
    scheme = replace(SCHEMES["openvino"], left=frozenset({place}))
    with pytest.raises(UsageError, match="the network has no"):
        convert(calibrate(folded, batches, scheme))


def test_ranges_are_not_shared_between_grids(calibrated: Calibrated) -> None:
    assert not calibrated.serves(replace(calibrated.scheme, ranges="minmax"))
    assert not calibrated.serves(replace(SCHEMES["int8"]))
    less = replace(calibrated.scheme, roles=calibrated.scheme.roles - {Role.GATE})
    assert calibrated.serves(less)
    assert not calibrated.serves(replace(calibrated.scheme, roles=calibrated.scheme.roles - {Role.NORM}))
    assert not less.is_part_of(replace(less, left=LEFT))


def test_the_range_of_all_that_was_seen() -> None:
    values = torch.cat(
        [torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)), torch.tensor([-31.0, 44.0])]
    )
    options = {"dtype": torch.uint8, "quant_min": 0, "quant_max": 255, "qscheme": torch.per_tensor_affine}
    scales = {}
    for ranges, halves in (("minmax", False), ("minmax", True), ("squared_error", False)):
        observer = range_observer(ranges, halves=halves)(**options)
        observer(values)
        scales[ranges, halves] = observer.calculate_qparams()[0]
    assert float(scales["minmax", False]) == pytest.approx(75.0 / 255.0)
    assert float(scales["minmax", True]) == float(half_scale(scales["minmax", False]))
    assert float(scales["squared_error", False]) < 0.5 * float(scales["minmax", False])
    assert range_observer("minmax", halves=False) is MinMaxRangeObserver
    assert range_observer("minmax", halves=True) is HalfScaleMinMaxRangeObserver


def test_a_recipe_makes_its_schemes() -> None:
    recipe = replace(load_recipe(), ranges="minmax", float_layers=("head",))
    assert openvino_scheme_of(recipe) == replace(
        SCHEMES["openvino"], pairs=True, ranges="minmax", left=frozenset({"head"})
    )
    assert device_scheme_of(recipe, "int8") == replace(SCHEMES["int8"], ranges="minmax")


class _Images(list[Tensor]):
    """As ``CalibrationImages``, of batches that are there."""

    @property
    def pixels(self) -> list[int]:
        return [0] * sum(map(len, self))


def test_schemes_that_share_ranges_are_calibrated_once(
    folded: FoldedVAN, batches: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_van.progress import UNWATCHED
    from edge_van.quantization import run

    calls: list[Scheme] = []
    real = run.calibrate

    def counted(model: FoldedVAN, images: list[Tensor], scheme: Scheme, **options: Any) -> Calibrated:
        calls.append(scheme)
        return real(model, images, scheme, **options)

    monkeypatch.setattr(run, "calibrate", counted)
    prepared: Prepared = prepare(folded, _Images(batches), load_recipe(), UNWATCHED)  # type: ignore[arg-type]
    assert torch.allclose(logits(prepared.float_network), logits(folded), rtol=1e-3, atol=1e-3)
    graphs = Graphs(prepared, UNWATCHED)
    scheme = SCHEMES["openvino"]
    for left in (frozenset[str](), frozenset({"head"}), LEFT):
        graphs.of(replace(scheme, left=left))
    assert calls == [scheme]
    graphs.of(replace(scheme, left=frozenset({"norm4"})))
    assert len(calls) == 2
