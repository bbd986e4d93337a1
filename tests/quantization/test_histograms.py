"""``quantization.histograms``: one pass for all schemes gives the ranges that a pass of each one's own gives."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from edge_van.errors import UsageError
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization.histograms import Histograms
from edge_van.quantization.observers import RangeObserver, WeightObserver
from edge_van.quantization.ptq import calibrate, capture, quiet_capture
from edge_van.quantization.quantizer import VANQuantizer
from edge_van.quantization.scheme import SCHEMES, Scheme

SIZE = (64, 64)


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, SIZE)[0]


@pytest.fixture(scope="module")
def captured(folded: FoldedVAN) -> GraphModule:
    return capture(folded)


@pytest.fixture(scope="module")
def batches(images: Callable[..., Tensor]) -> list[Tensor]:
    return [images(n, *SIZE, seed=n) for n in (4, 3)]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_ranges_are_those_that_the_observers_would_have_found_themselves(
    folded: FoldedVAN, captured: GraphModule, batches: list[Tensor], scheme: Scheme
):
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    with quiet_capture():
        own = prepare_pt2e(capture(folded), VANQuantizer(scheme))
        for batch in batches:
            own(batch)
    shared = Histograms(captured, batches)
    shared.see({name for other in SCHEMES.values() for name in VANQuantizer(other).tensors(captured)})
    taken = calibrate(folded, batches, scheme, captured=captured, histograms=shared).observed
    found = {name: m for name, m in taken.named_modules() if isinstance(m, RangeObserver | WeightObserver)}
    expected = {name: m for name, m in own.named_modules() if isinstance(m, RangeObserver | WeightObserver)}
    assert found.keys() == expected.keys()
    for name, observer in expected.items():
        for mine, other in zip(found[name].calculate_qparams(), observer.calculate_qparams(), strict=True):
            assert torch.equal(mine, other), name


def test_a_second_scheme_runs_no_image_again(captured: GraphModule, batches: list[Tensor]):
    seen: list[int] = []
    histograms = Histograms(captured, batches)
    names = VANQuantizer(SCHEMES["openvino"]).tensors(captured)
    histograms.see(names, seen.append)
    assert seen == [4, 3]
    histograms.see(names, seen.append)
    assert seen == [4, 3]
    histograms.see(VANQuantizer(SCHEMES["openvino_arm"]).tensors(captured), seen.append)  # outputs as well
    assert seen == [4, 3, 4, 3]


def test_the_largest_activation_is_that_of_the_written_graph(
    folded: FoldedVAN, captured: GraphModule, batches: list[Tensor], tmp_path: Path
):
    from edge_van.export.float16_range import largest_in_file
    from edge_van.export.onnx import export_onnx

    path = export_onnx(folded, tmp_path / "model.onnx", batches[0])
    batches = [batch * 0.1 for batch in batches]  # over float16's end the other names the first, not the largest
    histograms = Histograms(captured, batches)
    histograms.see((), largest=True)
    assert histograms.largest is not None
    module, value = histograms.largest
    assert value == pytest.approx(largest_in_file(path, [batch.numpy() for batch in batches]).value, rel=1e-4)
    assert module.startswith("block")


def test_one_that_is_no_number_stays_the_largest(captured: GraphModule, images: Callable[..., Tensor]):
    histograms = Histograms(captured, [torch.full((1, 3, *SIZE), math.nan), images(1, *SIZE)])
    histograms.see((), largest=True)
    assert histograms.largest is not None
    assert math.isnan(histograms.largest[1])


def test_no_images_are_refused(captured: GraphModule):
    with pytest.raises(UsageError, match="needs calibration images"):
        Histograms(captured, [])
