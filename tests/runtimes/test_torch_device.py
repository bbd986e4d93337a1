"""``runtimes.torch_device``: number formats on the CPU; with a GPU there, what it computes and how it is timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.export.onnx import export_onnx
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.runtimes import open_model
from edge_van.runtimes.torch_device import TorchDevice

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU is here")
FEED = {"images": np.random.default_rng(0).normal(size=(2, 3, 48, 48)).astype(np.float32)}


@pytest.fixture(scope="module")
def path(narrow_van: VAN, images: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folded, _ = fold(narrow_van, (48, 48))
    return export_onnx(folded, tmp_path_factory.mktemp("device") / "model.onnx", images(2, 48, 48))


def logits(path: Path, **options: Any) -> np.ndarray:
    with open_model("torch", path, **options) as session:
        return session.run(FEED)["logits"]


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, in the 2-norm."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("precision", "bits"), [("f16", 11), ("bf16", 8)])
def test_shorter_numbers_round_as_their_fractions_say(path: Path, precision: str, bits: int) -> None:
    found = logits(path, precision=precision)
    assert found.dtype == np.float32
    # every layer rounds once or twice: more than half a step of one, and not many of them
    assert 2.0 ** -(bits + 2) < apart(found, logits(path)) < 30 * 2.0**-bits


def test_what_contradicts_itself_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="cpu or cuda, got 'tpu'"):
        open_model("torch", path, device="tpu")
    with pytest.raises(UsageError, match="f32, tf32, f16, bf16; got 'int8'"):
        open_model("torch", path, precision="int8")
    with pytest.raises(UsageError, match="TF32 is a GPU's"):
        open_model("torch", path, precision="tf32")
    with pytest.raises(UsageError, match="CUDA graphs are a GPU's"):
        open_model("torch", path, cuda_graph=True)


def test_without_a_gpu_the_reason_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(MissingRuntimeError, match="is built without CUDA: install a build of torch with it"):
        open_model("torch", path, device="cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingRuntimeError, match=r"no NVIDIA GPU with a driver for CUDA 13\.0"):
        open_model("torch", path, device="cuda")


def test_a_cpu_has_no_clock_and_no_memory_of_its_own(path: Path) -> None:
    with open_model("torch", path) as session:
        assert session.device_turn(FEED) is None
        assert session.device_memory_mib(FEED) is None


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_a_setting_of_the_process_that_is_put_back(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    monkeypatch.setattr("edge_van.runtimes.torch_device.require_gpu", lambda torch: None)
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [each.fp32_precision for each in settings]
    for start in ("ieee", "tf32"):
        for each in settings:
            each.fp32_precision = start
        with TorchDevice(torch, "cuda", "tf32" if allowed else "f32").computing():
            assert [each.fp32_precision for each in settings] == ["tf32" if allowed else "ieee"] * 2
            assert torch.is_inference_mode_enabled()
        assert [each.fp32_precision for each in settings] == [start, start]
    for each, value in zip(settings, before, strict=True):
        each.fp32_precision = value


@needs_gpu
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("precision", ["f32", "tf32", "f16", "bf16"])
def test_a_gpu_computes_the_same_network(path: Path, precision: str, graph: bool) -> None:
    expected = logits(path)
    limit = {"f32": 1e-4, "tf32": 2e-2, "f16": 2e-2, "bf16": 0.2}[precision]
    with open_model("torch", path, device="cuda", precision=precision, cuda_graph=graph) as session:
        assert session.threads is None
        found = [session.run(FEED)["logits"] for _ in range(2)]
        one = session.run({"images": FEED["images"][:1]})["logits"]  # another shape: captured anew
    assert apart(found[0], expected) < limit
    assert np.array_equal(*found)
    assert apart(one, expected[:1]) < limit


@needs_gpu
def test_a_gpu_is_timed_by_its_own_events(path: Path) -> None:
    with open_model("torch", path, device="cuda", precision="f16", cuda_graph=True) as session:
        turn = session.device_turn(FEED)
        assert turn is not None
        assert 0.0 < min(turn() for _ in range(10)) < 100.0
        session.run_many(FEED, 3)
        memory = session.device_memory_mib(FEED)
    assert memory is not None
    assert 0.0 < memory < 100.0
