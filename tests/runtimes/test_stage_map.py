"""``stage_map``: every engine shows the map at the end of a stage, and its logits stay what they were."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.statistics import sqnr_db

STAGES = (1, 2, 3, 4)


def opened(bundle: Bundle, runtime: str, file: str, stage: int | None) -> Session:
    session = open_model(runtime, bundle.file(file), stage_map=stage)
    return session if runtime == "openvino" else NormalizedSession(session, bundle.manifest.input_spec)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def maps(narrow_variant: Variant, timed_bundle: Bundle, pixels: np.ndarray) -> list[np.ndarray]:
    """The four maps of the VAN that ``timed_bundle`` holds, by the network itself before it was folded."""
    torch.manual_seed(0)  # as in the fixture ``graphs``
    van = VAN(narrow_variant, 7).eval()
    spec = timed_bundle.manifest.input_spec
    x = ((pixels / 255.0 - np.array(spec.mean)) / np.array(spec.std)).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        return [m.numpy() for m in van.forward_features(torch.from_numpy(x))]


@pytest.mark.parametrize(
    ("runtime", "file", "least_db"),
    [
        ("openvino", FP32_IR, 90.0),
        ("onnxruntime", FP32_ONNX, 90.0),
        ("torch", FP32_ONNX, 90.0),
        ("openvino", INT8_IR, 18.0),
        ("onnxruntime", "onnx/model_openvino.onnx", 18.0),
    ],
)
def test_the_map_is_the_networks_and_the_logits_stay(
    runtime: str, file: str, least_db: float, timed_bundle: Bundle, pixels: np.ndarray, maps: list[np.ndarray]
) -> None:
    with opened(timed_bundle, runtime, file, None) as plain:
        assert [o.name for o in plain.outputs] == ["logits"]
        logits = plain.run({"images": pixels})["logits"]
    for stage, expected in zip(STAGES, maps, strict=True):
        with opened(timed_bundle, runtime, file, stage) as session:
            assert [o.name for o in session.outputs] == ["logits", "stage_map"]
            assert session.outputs[1].shape[1:] == expected.shape[1:]
            found = session.run({"images": pixels})
        # bit-equal here; another CPU's kernels may be fused otherwise when an inner tensor must be kept
        assert np.abs(found["logits"] - logits).max() <= 1e-5 * np.abs(logits).max()
        assert sqnr_db(expected, found["stage_map"]) >= least_db
        gain = (expected * found["stage_map"]).sum() / (expected**2).sum()
        assert gain == pytest.approx(1.0, abs=0.03)  # equalisation ends with the stage: nothing is rescaled


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch", "tensorrt", "tensorrt_rtx"])
def test_what_is_no_stage_and_what_shows_none(runtime: str, graphs: dict[str, Path]) -> None:
    said = "shows no inner maps" if runtime.startswith("tensorrt") else "a VAN has the stages 1 to 4, got 5"
    with pytest.raises(UsageError, match=said):
        open_model(runtime, graphs["fp32"], stage_map=5)


def test_files_of_other_tools_have_no_stage(graphs: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(graphs["fp32"])
    for node in model.graph.node:
        node.name = ""
    path = tmp_path / "nameless.onnx"
    path.write_bytes(model.SerializeToString())
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(BundleError, match=r"has no patch_embed2\.proj"):
            open_model(runtime, path, stage_map=1)
    for name, said in ((b"", "holds no ONNX graph"), (b"garbage", "cannot be read as ONNX")):
        path.write_bytes(name)
        with pytest.raises(BundleError, match=said):
            open_model("onnxruntime", path, stage_map=1)


def test_onnx_is_needed_for_it_and_named(graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingRuntimeError, match="needs the package onnx"):
        open_model("onnxruntime", graphs["fp32"], stage_map=1)


_MULTIPLYING = ("Convolution", "GroupConvolution", "FullyConnected")


def test_a_quantised_graph_keeps_its_integer_kernels(timed_bundle: Bundle, pixels: np.ndarray) -> None:
    from edge_van.runtimes.openvino import OpenVINOSession

    kernels = []
    for stage in (None, 2):
        with OpenVINOSession(timed_bundle.file(INT8_IR), profile=True, stage_map=stage) as session:
            session.run({"images": pixels})
            layers = [row for row in session.layer_times() if row[1] in _MULTIPLYING]  # the output may move bytes, too
            kernels.append(sum("i8" in row[2].lower() for row in layers))
    assert kernels[0] == kernels[1] > 0


def test_tensors_that_share_their_values_come_back(narrow_variant: Variant, timed_bundle: Bundle) -> None:
    from edge_van.runtimes.torch_network import read_folded

    torch.manual_seed(0)
    folded, _ = fold(VAN(narrow_variant, 7).eval(), (64, 64))
    read = read_folded(timed_bundle.file(FP32_ONNX)).state_dict()
    assert all(torch.equal(read[k], v) for k, v in folded.state_dict().items())
