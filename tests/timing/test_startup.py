"""``edge_van.timing.startup``: real processes that load a model, once and again with what the first compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX
from edge_van.errors import BundleError, EdgeVanError, MissingRuntimeError
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.startup import CACHE_VARIABLE, compile_cache, measure_startup


def test_openvino_loads_twice_and_leaves_its_cache(timed_bundle: Bundle, tmp_path: Path) -> None:
    found = measure_startup(ModelFile("fp32", "openvino", timed_bundle.file(FP32_IR)), tmp_path / "c", threads=1)
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
    model_file = ModelFile("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX), {"exact": False})
    found = measure_startup(model_file, tmp_path / "c", threads=None)
    assert len(ballast) / 2**20 > found.peak_memory_mib
    assert found.cached_load_ms is None
    assert found.cached_first_inference_ms is None


def test_a_model_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"cannot load junk\.onnx"):
        measure_startup(ModelFile("junk-model", "onnxruntime", tmp_path / "junk.onnx"), tmp_path / "c", threads=None)


@pytest.mark.parametrize(
    ("runtime", "missing", "message"),
    [
        ("tensorrt", "tensorrt", "tensorrt is not installed"),
        ("tensorrt_rtx", "tensorrt_rtx", r"tensorrt_rtx is not installed: pip install 'edge-van\[tensorrt-rtx\]'"),
        ("torch", "onnx", "needs the package onnx, which is not installed: pip install onnx"),
        ("torch", "torch", r"PyTorch is not installed: pip install 'edge-van\[quantize\]'"),
        ("openvino", "openvino", "OpenVINO is not installed"),
        ("onnxruntime", "onnxruntime", "ONNX Runtime is not installed"),
    ],
)
def test_a_library_that_is_not_here_keeps_its_exit_code(
    timed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, missing: str, message: str
) -> None:
    hide(missing, tmp_path, monkeypatch)
    model_file = ModelFile("engine", runtime, timed_bundle.file(FP32_ONNX))
    with pytest.raises(MissingRuntimeError, match=message):
        measure_startup(model_file, tmp_path / "c", threads=None)


def hide(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the processes that are started."""
    code = f"import sys\nsys.modules[{module!r}] = None\n"
    at_start(code, folder, monkeypatch)


def at_start(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process does that is started from here, before anything else."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)


def test_an_engine_that_talks_at_the_end_is_not_listened_to(
    timed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that has begun a line, or says what is no text."""
    code = (
        "import atexit, os, sys\n"
        "sys.stdout.write('loading ... ')\n"
        "atexit.register(os.write, 1, b'freed 3 buffers \\xff\\n')\n"
    )
    at_start(code, tmp_path, monkeypatch)
    model_file = ModelFile("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX))
    assert measure_startup(model_file, tmp_path / "c", threads=1).load_ms > 0


def test_a_process_that_ends_without_an_answer_is_an_error_of_ours(
    timed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_start("import os\nprint('{}', flush=True)\nos._exit(0)\n", tmp_path, monkeypatch)
    model_file = ModelFile("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX))
    with pytest.raises(EdgeVanError, match="fp32 cannot be loaded in a process of its own: no message"):
        measure_startup(model_file, tmp_path / "c", threads=1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch"])
def test_what_is_imported_is_imported_before_the_clock_runs(timed_bundle: Bundle, runtime: str) -> None:
    """No library and no module of ours comes in while a model is opened and run."""
    file = timed_bundle.file(FP32_IR if runtime == "openvino" else FP32_ONNX)
    code = (
        "import sys, pathlib, numpy\n"
        "from edge_van.timing.latency import random_feed\n"
        "from edge_van.runtimes import open_model, session_class\n"
        f"session_class({runtime!r}).preload()\n"
        "before = set(sys.modules)\n"
        f"with open_model({runtime!r}, pathlib.Path({str(file)!r})) as session:\n"
        "    session.run(random_feed(session, numpy.random.default_rng(0)))\n"
        "print('late:', sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    late = done.stdout.split("late: ")[1]
    assert not any(f"'{package}'" in late for package in ("edge_van", "torch", "onnx", "onnxruntime", "openvino"))


def test_a_module_in_the_folder_one_works_in_is_not_imported(
    timed_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("from pathlib import Path; Path('was_run').write_text('')")
    monkeypatch.chdir(tmp_path)
    model_file = ModelFile("fp32", "onnxruntime", timed_bundle.file(FP32_ONNX))
    assert measure_startup(model_file, tmp_path / "c", threads=1).load_ms > 0
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
