"""The TensorRT runtimes where no GPU is: each thing that is missing or does not fit has its own clear line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edge_van.bundle.engine_record import ENGINE_SCHEMA_VERSION, EngineRecord
from edge_van.bundle.layout import RECORD_NAME
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.runtimes import cuda, open_model
from edge_van.runtimes import tensorrt as trt_runtime
from edge_van.runtimes.cuda import Device, checked, device
from edge_van.runtimes.tensorrt import check_fits, load_tensorrt
from edge_van.runtimes.tensorrt_rtx import TensorRTRTXSession
from edge_van.storage.json_format import encode

RECORD = EngineRecord(
    schema_version=ENGINE_SCHEMA_VERSION,
    scheme="int8",
    runtime="tensorrt_rtx",
    version="1.7.1.116",
    compute_capabilities=("8.6", "8.9"),
    gpu=None,
    onnx="m.onnx",
    onnx_sha256="0" * 64,
    plan_sha256="0" * 64,
    plan_bytes=4,
    build_s=1.0,
    timing_cache="none",
    layers=(),
)
ADA = Device("NVIDIA GeForce RTX 4090", "8.9")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"plan")
    (tmp_path / RECORD_NAME).write_bytes(encode(RECORD))
    return path


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt_rtx"])
def test_a_plan_that_is_not_there(tmp_path: Path, runtime: str) -> None:
    with pytest.raises(BundleError, match="is not there: build the engine"):
        open_model(runtime, tmp_path / "model.engine")
    with pytest.raises(UsageError, match="no number of threads"):
        open_model(runtime, tmp_path / "model.engine", threads=2)


def test_the_library_is_missing(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingRuntimeError, match=r"tensorrt is not installed.*JetPack"):
        open_model("tensorrt", plan)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingRuntimeError, match=r"edge-van\[tensorrt-rtx\]|does not load"):
        open_model("tensorrt_rtx", plan)


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingRuntimeError, match="tensorrt is not installed"):
        load_tensorrt("tensorrt")


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> ModuleType:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(trt_runtime, "import_module", broken)
    with pytest.raises(MissingRuntimeError, match=r"installed but does not load: libnvinfer"):
        load_tensorrt("tensorrt")


def test_no_driver(plan: Path) -> None:
    """The real library and the real CUDA runtime, on a machine without a GPU."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings.runtime")
    try:
        device()
    except MissingRuntimeError as error:
        assert "no NVIDIA GPU with a driver" in str(error)  # noqa: PT017  (a machine with a GPU has none to raise)
    else:
        pytest.skip("a GPU is here")
    with pytest.raises(MissingRuntimeError, match="no NVIDIA GPU with a driver"):
        open_model("tensorrt_rtx", plan)


def test_another_version(plan: Path) -> None:
    check_fits(RECORD, plan, "1.7.1.116", ADA)
    with pytest.raises(BundleError, match=r"built by tensorrt_rtx 1\.7\.1\.116, here is 1\.8\.0.*build it again"):
        check_fits(RECORD, plan, "1.8.0", ADA)


@pytest.mark.parametrize(
    ("built_by", "here", "fits"),
    [
        ("10.3.0", "10.3.0.30", True),  # trtexec prints three parts, the library four
        ("10.3.0.26", "10.3.0.30", False),
        ("10.3.0", "10.3.1.30", False),
        ("8.6.2", "8.6.2.3", True),
        ("8.6.2", "8.6.1.6", False),
    ],
)
def test_as_much_of_a_version_as_both_say(plan: Path, built_by: str, here: str, fits: bool) -> None:
    record = replace(RECORD, version=built_by)
    if fits:
        check_fits(record, plan, here, ADA)
    else:
        with pytest.raises(BundleError, match="build it again"):
            check_fits(record, plan, here, ADA)


def test_another_gpu(plan: Path) -> None:
    with pytest.raises(BundleError, match=r"capability 8\.6, 8\.9, this GPU \(Orin\) has 8\.7"):
        check_fits(RECORD, plan, "1.7.1.116", Device("Orin", "8.7"))
    check_fits(replace(RECORD, compute_capabilities=()), plan, "1.7.1.116", Device("Orin", "8.7"))


def test_a_plan_the_library_refuses(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library deserialises rubbish; only the GPU's name stands in."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(trt_runtime, "device", lambda: ADA)
    version = load_tensorrt("tensorrt_rtx").__version__
    (plan.parent / RECORD_NAME).write_bytes(encode(replace(RECORD, version=version)))
    with pytest.raises(BundleError, match=r"cannot open model\.engine on this GPU \(NVIDIA GeForce RTX 4090\)"):
        open_model("tensorrt_rtx", plan)


def test_a_failing_call_is_named() -> None:

    class Status(int):
        name = "cudaErrorMemoryAllocation"

    with pytest.raises(MissingRuntimeError, match="allocating 5 bytes failed with cudaErrorMemoryAllocation"):
        checked(cuda.load_cuda(), "allocating 5 bytes", (Status(2),))
    assert checked(cuda.load_cuda(), "x", (Status(0), 7)) == 7
    assert checked(cuda.load_cuda(), "x", (Status(0), 7, 8)) == (7, 8)


def test_cuda_python_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingRuntimeError, match="cuda-python is not installed"):
        device()


def test_rtx_specialises_its_kernels_before_it_runs() -> None:
    """The names are the real library's; the engine, which needs a GPU, stands in."""
    trt = pytest.importorskip("tensorrt_rtx")
    config, asked = SimpleNamespace(), []
    session = object.__new__(TensorRTRTXSession)
    session._engine = SimpleNamespace(create_runtime_config=lambda: config, create_execution_context=asked.append)
    session._make_context(trt)
    assert asked == [config]
    assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    assert isinstance(trt.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy, property)
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
