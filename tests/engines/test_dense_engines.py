"""TensorRT for RTX takes the Q/DQ graphs of dense networks, and computes every convolution in INT8; ahead of time."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from narrow import NARROW

from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.export.onnx_graph import to_onnx
from edge_van.model.dense.fold import fold_network
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.model.fold import as_outputs
from edge_van.model.van import VAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.scheme import SCHEMES

pytest.importorskip("tensorrt_rtx", reason="no TensorRT for RTX here: pip install 'edge-van[tensorrt-rtx]'")
SIZE = (64, 96)


@pytest.mark.parametrize("kind", [*KINDS, "features"])
def test_every_convolution_runs_in_int8(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VAN(NARROW, features_only=True) if kind == "features" else DenseVAN(kind, NARROW, 5)
    folded, _ = fold_network(network.eval(), SIZE)
    batches = [torch.randn(4, 3, *SIZE)]
    quantized = convert(calibrate(equalize(folded, batches), batches, SCHEMES["int8"]))
    count = len(as_outputs(folded(batches[0])))
    proto = to_onnx(quantized.graph, SIZE, centred=True, outputs=[f"output{n}" for n in range(count)])
    onnx.save(proto, tmp_path / "model.onnx")
    record = build_engine(tmp_path / "model.onnx", tmp_path, "int8", BuildOptions("tensorrt_rtx", ("8.9",)))
    found = {row.layer.partition("/")[0]: row.runs_in for row in record.layers if row.scheme == "int8"}
    assert found.keys() == quantized.layers.keys()
    assert set(found.values()) == {"int8"}
    assert {row.scheme for row in record.layers} <= {"int8", "fp32"}
