"""``edge_van.timing.startup``: real processes that load a model, once and again with what the first compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_van.benchmark import Candidate
from edge_van.bundle import Bundle
from edge_van.errors import BundleError, MissingRuntimeError
from edge_van.layout import FP32_IR, FP32_ONNX
from edge_van.timing.startup import CACHE_VARIABLE, compile_cache, measure_startup


def test_openvino_loads_twice_and_leaves_its_cache(timed_bundle: Bundle, tmp_path: Path) -> None:
    found = measure_startup(Candidate("fp32", "openvino", timed_bundle.file(FP32_IR)), tmp_path / "c", threads=1)
    assert found.model == "fp32"
    assert found.load_ms > 1
    assert found.first_inference_ms > 0
    assert found.cached_load_ms is not None
    assert found.cached_first_inference_ms is not None
    assert any(path.suffix == ".blob" for path in tmp_path.rglob("*"))
    assert 10 < found.before_load_mib < found.peak_memory_mib < 4096


def test_the_peak_is_the_childs_own(timed_bundle: Bundle, tmp_path: Path) -> None:
    """A parent that holds a lot of memory does not show in it."""
    ballast = b"x" * (600 * 2**20)
    candidate = Candidate("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX), {"exact": False})
    found = measure_startup(candidate, tmp_path / "c", threads=None)
    assert len(ballast) / 2**20 > found.peak_memory_mib
    assert found.cached_load_ms is None
    assert found.cached_first_inference_ms is None


def test_a_model_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"cannot load junk\.onnx"):
        measure_startup(Candidate("junk-model", "onnxruntime", tmp_path / "junk.onnx"), tmp_path / "c", threads=None)


def test_a_runtime_that_is_not_here_keeps_its_exit_code(timed_bundle: Bundle, tmp_path: Path) -> None:
    candidate = Candidate("engine", "tensorrt", timed_bundle.file(FP32_ONNX))
    with pytest.raises(MissingRuntimeError, match="tensorrt is not installed"):
        measure_startup(candidate, tmp_path / "c", threads=None)


def test_a_module_in_the_folder_one_works_in_is_not_imported(
    timed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("from pathlib import Path; Path('was_run').write_text('')")
    monkeypatch.chdir(tmp_path)
    candidate = Candidate("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX))
    assert measure_startup(candidate, tmp_path / "c", threads=1).load_ms > 0
    assert not (tmp_path / "was_run").exists()


def test_the_environment_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = CACHE_VARIABLE
    monkeypatch.delenv(variable, raising=False)
    with compile_cache(tmp_path):
        assert os.environ[variable] == str(tmp_path)
    assert variable not in os.environ
    monkeypatch.setenv(variable, "mine")
    with pytest.raises(ZeroDivisionError), compile_cache(tmp_path):
        raise ZeroDivisionError
    assert os.environ[variable] == "mine"
