"""``edge-van benchmark --device cuda``: what is timed, by which clock, and what is said where no GPU is."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.nvml import GPU, gpu_name, open_nvml
from edge_van.progress import SILENT
from edge_van.runtimes import open_model, torch_device
from edge_van.timing import run as run_module
from edge_van.timing.energy import NoMeter, NVMLMeter, open_meter
from edge_van.timing.latency import random_feed
from edge_van.timing.models import timed_models
from edge_van.timing.record import BenchmarkResult, BenchmarkSettings, encode_benchmark
from edge_van.timing.run import BenchmarkOptions, run_benchmark

SETTINGS = BenchmarkSettings(
    scenarios=("single_stream", "offline"),
    batches=(1, 4),
    warmup_runs=1,
    samples=20,
    min_duration_s=0.0,
    max_duration_s=2.0,
    offline_slices=6,
    device="cuda",
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU is here")


HELD_BYTES = 50 * 2**20
"""What all models and tensors take before one is run; while it is, three MiB more."""


class Event:
    """torch's, by the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


@pytest.fixture
def as_if_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told to compute on a GPU does so on the CPU, timed by its clock."""

    class OnCPU(torch_device.TorchDevice):
        def __init__(self, torch: Any, name: str, precision: str, *, cuda_graph: bool) -> None:
            super().__init__(torch, name, precision, cuda_graph=cuda_graph)
            self._name = "cpu"

    monkeypatch.setattr("edge_van.runtimes.torch.TorchDevice", OnCPU)
    monkeypatch.setattr(torch_device, "require_gpu", lambda torch: None)
    for name, value in {
        "Event": Event,
        "synchronize": lambda: None,
        "memory_allocated": lambda: HELD_BYTES,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: HELD_BYTES + 3 * 2**20,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def test_the_models_of_a_gpu(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "require_gpu", lambda torch: None)
    models, skipped = timed_models([timed_bundle], device="cuda")
    how = ("torch", "torch_compile", "torch_graph", "torch_compile_graph")
    assert [m.name for m in models] == [f"{h}-{p}" for h in how for p in ("fp32", "tf32", "fp16", "bf16")]
    assert not any(m.on_cpu for m in models)
    assert {m.takes for m in models} == {"float NCHW, on the GPU already"}
    assert models[-1].model_file.options == {
        "compile": True,
        "cuda_graph": True,
        "device": "cuda",
        "precision": "bf16",
    }
    assert [s.model for s in skipped] == ["tensorrt", "tensorrt_rtx"]


def test_a_device_and_a_runtime_that_contradict_each_other(timed_bundle: Bundle) -> None:
    for runtime in ("openvino", "onnxruntime"):
        with pytest.raises(UsageError, match=f"{runtime} is timed on the CPU"):
            timed_models([timed_bundle], [runtime], "cuda")
    with pytest.raises(UsageError, match="give --device cuda with --runtime torch_graph"):
        timed_models([timed_bundle], ["torch_graph"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_without_a_gpu_there_is_one_line_and_no_figure(timed_bundle: Bundle) -> None:
    options = BenchmarkOptions(SETTINGS, startup=False, layers=False)
    with pytest.raises(MissingRuntimeError, match=r"nothing can be timed here: torch: .*(without CUDA|no NVIDIA GPU)"):
        run_benchmark([timed_bundle], options, SILENT)


@pytest.mark.alone
@pytest.mark.usefixtures("as_if_cuda")
def test_times_are_the_devices_and_memory_is_told(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def meter(*, gpu: bool) -> Any:
        asked.append(gpu)
        return nullcontext(NVMLMeter(GPU(Driver())))

    monkeypatch.setattr(run_module, "open_meter", meter)
    options = BenchmarkOptions(SETTINGS, ("torch",), startup=False, layers=False)
    result = run_benchmark([timed_bundle], options, SILENT)
    names = [f"torch-{precision}" for precision in ("fp32", "tf32", "fp16", "bf16")]
    assert [row.model for row in result.single_stream] == names
    assert all(row.median_ms > 0.0 for row in result.single_stream)
    assert [(row.model, row.batch) for row in result.offline] == [(n, b) for b in (1, 4) for n in names]
    weights_mib = (timed_bundle.file(FP32_IR).with_suffix(".bin").stat().st_size) / 2**20
    for row in result.offline:
        own = weights_mib / (1 if row.model[-4:] in ("fp32", "tf32") else 2)
        assert row.device_memory_mib == pytest.approx(3.0 + own, rel=0.02)
    assert all(row.joules_per_image is not None and row.joules_per_image > 0 for row in result.offline)
    assert asked == [True]
    assert result.conditions.energy_source == "nvml"
    assert {m.threads for m in result.models} == {None}
    assert result.settings.device == "cuda"
    assert msgspec.json.decode(encode_benchmark(result), type=BenchmarkResult) == result


class Driver:
    """What NVIDIA documents of NVML, as ``pynvml`` has it."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, counts: bool = True) -> None:
        self._counts, self._mj = counts, 1000

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"gpu {index}"

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:  # noqa: N802
        return 9, 0

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return "NVIDIA H200"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "gpu 0"
        if not self._counts:
            raise self.NVMLError("Not Supported")
        self._mj += 2500
        return self._mj


def test_joules_are_a_difference_of_the_counter() -> None:
    meter = NVMLMeter(GPU(Driver()))
    assert meter.joules() == 2.5
    assert meter.joules() == 5.0
    meter.start()
    assert meter.joules() == 2.5
    assert NVMLMeter(GPU(Driver(counts=False))).joules() is None
    assert GPU(Driver()).describe() == "NVIDIA H200 (compute capability 9.0, driver 580.65.06)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="an NVIDIA GPU is here")
def test_the_real_library_says_that_there_is_none() -> None:
    with open_nvml() as gpu:
        assert str(gpu).startswith("no NVIDIA GPU with a driver is here (")
    assert gpu_name() is None
    with open_meter(gpu=True) as meter:
        assert isinstance(meter, NoMeter)


@pytest.mark.usefixtures("as_if_cuda")
def test_images_are_copied_once_for_all_that_is_timed(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []
    fill = torch_device.TorchDevice.fill
    monkeypatch.setattr(
        torch_device.TorchDevice, "fill", lambda self, tensor, images: (filled.append(1), fill(self, tensor, images))
    )
    with open_model("torch", timed_bundle.file(FP32_ONNX), device="cuda", precision="bf16") as session:
        feed, other = (random_feed(session, np.random.default_rng(seed), 2) for seed in (0, 1))
        session.run_many(feed, 5)
        turn = session.device_turn(feed)
        assert turn is not None
        assert turn() > 0.0
        session.run_many(feed, 5)
        assert len(filled) == 1
        session.run_many(other, 1)
        assert len(filled) == 2
        first = session.run(feed)["logits"]
        feed["images"][:] = other["images"]
        assert not np.array_equal(session.run(feed)["logits"], first)


@pytest.mark.usefixtures("as_if_cuda")
def test_what_could_not_be_captured_is_not_replayed(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    step = torch_device.TorchDevice.step

    def fails_for_eight(self: Any, forward: Any, tensor: Any) -> Any:
        if len(tensor) == 8:
            raise torch.OutOfMemoryError
        return step(self, forward, tensor)

    monkeypatch.setattr(torch_device.TorchDevice, "step", fails_for_eight)
    with open_model("torch", timed_bundle.file(FP32_ONNX), device="cuda") as session:
        one, eight = (random_feed(session, np.random.default_rng(0), count) for count in (1, 8))
        session.run(one)
        for _ in range(2):
            with pytest.raises(torch.OutOfMemoryError):
                session.run(eight)
        assert session.run(one)["logits"].shape[0] == 1


def test_a_driver_that_does_not_tell_costs_no_result() -> None:
    class Silent(Driver):
        def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:  # noqa: N802
            raise self.NVMLError("Not Supported")

    assert GPU(Silent()).describe() is None


@needs_gpu
@pytest.mark.alone
def test_on_a_real_gpu(timed_bundle: Bundle) -> None:
    options = BenchmarkOptions(SETTINGS, ("torch", "torch_graph"), startup=False, layers=False)
    result = run_benchmark([timed_bundle], options, SILENT)
    assert len(result.single_stream) == 8
    assert result.machine.gpu is not None
    assert json.loads(encode_benchmark(result))["conditions"]["energy_source"] == "nvml"
