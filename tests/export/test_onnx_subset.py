"""``edge_van.export.onnx_subset``: a pointwise graph made of the full one is the one torch would have exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.errors import UsageError
from edge_van.export.onnx_subset import export_subset
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization.ptq import Calibrated, calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import open_model

SIZE = (64, 64)


@pytest.fixture(scope="module")
def batch(images: Callable[..., Tensor]) -> Tensor:
    return images(4, *SIZE)


@pytest.fixture(scope="module")
def model(narrow_variant: Variant) -> FoldedVAN:
    torch.manual_seed(0)
    return fold(VAN(narrow_variant, 7).eval(), SIZE)[0]


@pytest.fixture(scope="module")
def calibrated(model: FoldedVAN, batch: Tensor) -> Calibrated:
    return calibrate(model, [batch], SCHEMES["int8"])


@pytest.fixture(scope="module")
def exported(graphs: dict[str, Path]) -> Path:
    """The pointwise graph as torch exports it: of the same network, calibrated on the same images."""
    return graphs["int8_pointwise"]


def test_the_file_is_that_of_an_export_of_its_own(
    calibrated: Calibrated,
    batch: Tensor,
    graphs: dict[str, Path],
    exported: Path,
    tmp_path: Path,
) -> None:
    pointwise = convert(calibrated, SCHEMES["int8_pointwise"])
    derived = export_subset(graphs["int8"], pointwise, tmp_path / "derived.onnx", batch)
    found, expected = (onnx.load(path) for path in (derived, exported))
    assert check_qdq_rules(found) == check_qdq_rules(expected)
    assert sorted(n.op_type for n in found.graph.node) == sorted(n.op_type for n in expected.graph.node)
    logits = []
    for path in (derived, exported):
        with open_model("onnxruntime", path) as session:
            logits.append(session.run({"images": batch.numpy()})["logits"])
    assert np.array_equal(*logits)


def test_a_layer_that_is_not_there_is_an_error(
    calibrated: Calibrated, batch: Tensor, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"does not quantise 15 of the layers.*conv0"):
        export_subset(exported, convert(calibrated), tmp_path / "wide.onnx", batch)


def test_ranges_that_were_not_recorded(model: FoldedVAN, batch: Tensor) -> None:
    calibrated = calibrate(model, [batch], SCHEMES["int8_pointwise"])
    assert calibrated.serves(SCHEMES["int8_pointwise"])
    for name in ("int8", "asymmetric", "openvino"):
        assert not calibrated.serves(SCHEMES[name])
    with pytest.raises(UsageError, match="'int8_pointwise', which does not cover 'int8'"):
        convert(calibrated, SCHEMES["int8"])


def test_one_calibration_serves_both(model: FoldedVAN, calibrated: Calibrated, batch: Tensor) -> None:
    """The same graph, to the last bit, as one calibrated for it alone."""
    shared = convert(calibrated, SCHEMES["int8_pointwise"])
    own = convert(calibrate(model, [batch], SCHEMES["int8_pointwise"]))
    assert shared.layers == own.layers
    with torch.no_grad():
        assert torch.equal(shared.graph(batch), own.graph(batch))
