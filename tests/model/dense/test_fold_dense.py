"""A dense network without its BatchNorms computes the same, and so do its ONNX file and its quantised graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from narrow import NARROW
from torch import nn

from edge_van.errors import UsageError
from edge_van.export.onnx_graph import to_onnx
from edge_van.model.dense.fold import fold_network
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.model.fold import FoldedVAN, as_outputs
from edge_van.model.van import VAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import calibrate, capture, convert, in_rows
from edge_van.quantization.scheme import SCHEMES, Role
from edge_van.runtimes import open_model
from edge_van.statistics import relative_error, sqnr_db

SIZE = (64, 72)
"""Of a width that 32 does not divide."""


def settled(kind: str) -> nn.Module:
    """With statistics as training leaves them; "features" is the backbone alone."""
    torch.manual_seed(0)
    network = VAN(NARROW, features_only=True) if kind == "features" else DenseVAN(kind, NARROW, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, *SIZE))
    return network.eval()


@pytest.fixture(scope="module", params=[*KINDS, "features"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folded(kind: str) -> FoldedVAN:
    network, check = fold_network(settled(kind), SIZE)  # type: ignore[arg-type]
    assert check.max_relative_error < 1e-4
    return network


def test_no_batch_norm_is_left(kind: str, folded: FoldedVAN) -> None:
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    network = settled(kind)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        pairs = zip(as_outputs(folded(images)), as_outputs(network(images)), strict=True)
        for actual, expected in pairs:
            assert relative_error(actual.numpy(), expected.numpy()) < 1e-4


def names_of(folded: FoldedVAN) -> tuple[str, ...]:
    outputs = as_outputs(folded(torch.zeros(1, 3, *SIZE)))
    return ("logits",) if len(outputs) == 1 else tuple(f"map{n}" for n in range(1, len(outputs) + 1))


def test_its_onnx_file_computes_the_same(folded: FoldedVAN, tmp_path: Path) -> None:
    names = names_of(folded)
    proto = to_onnx(capture(folded), SIZE, outputs=names)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, tmp_path / "model.onnx")
    images = torch.randn(3, 3, *SIZE)
    with open_model("onnxruntime", tmp_path / "model.onnx", exact=True) as session, torch.no_grad():
        found = session.run({"images": images.numpy()})
        for name, expected in zip(names, as_outputs(folded(images)), strict=True):
            assert relative_error(found[name], expected.numpy()) < 1e-4, name


@pytest.mark.parametrize("scheme", ["openvino", "int8"])
def test_its_convolutions_are_quantised(kind: str, folded: FoldedVAN, tmp_path: Path, scheme: str) -> None:
    """Those of the head with them; not what is transposed. OpenVINO computes them in integers."""
    batches = [torch.randn(8, 3, *SIZE)]
    chosen = SCHEMES[scheme]
    quantized = convert(calibrate(equalize(folded, batches), batches, chosen))
    convolutions = {name for name, m in folded.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(quantized.layers) == convolutions
    assert (Role.DENSE_HEAD in quantized.layers.values()) == (kind != "features")
    assert quantized.logit_sqnr_db > 15

    names = names_of(folded)
    proto = to_onnx(quantized.graph, SIZE, centred=chosen.symmetric, outputs=names)
    onnx.save(proto, tmp_path / "model.onnx")
    images = torch.randn(2, 3, *SIZE)
    with open_model("onnxruntime", tmp_path / "model.onnx", exact=True) as session, torch.no_grad():
        found = session.run({"images": images.numpy()})
        rows = np.concatenate([found[name].reshape(2, -1) for name in names], 1)
        assert sqnr_db(in_rows(quantized.graph(images)), rows) > min(30, quantized.logit_sqnr_db + 1)
    if scheme == "openvino":
        model = ov.convert_model(tmp_path / "model.onnx")
        model.reshape({model.input(0): [2, 3, *SIZE]})
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        result = compiled(images.numpy())
        rows = np.concatenate([result[compiled.output(n)].reshape(2, -1) for n in range(len(names))], 1)
        with torch.no_grad():
            assert sqnr_db(in_rows(folded(images)), rows) > quantized.logit_sqnr_db - 3


def test_a_norm_that_stands_alone_is_refused() -> None:
    network = DenseVAN("simple_baseline", NARROW, 5)
    steps = network.head.deconv_layers
    assert isinstance(steps, nn.Sequential)
    steps.insert(2, nn.ReLU())
    steps.insert(3, nn.BatchNorm2d(256))
    with pytest.raises(UsageError, match="BatchNorm stands behind a ReLU"):
        fold_network(network, SIZE)
