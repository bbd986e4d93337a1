"""The doctor: real engines run, broken and missing libraries told apart, bundles looked through."""

import json
import sys
from pathlib import Path

import pytest
from bundle_samples import make

from edge_van import __version__, doctor
from edge_van.doctor import Check, cpu_check, inspect_bundle, inspect_install

FLAGS_VNNI = "model name\t: A CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n"


def check(name: str) -> Check:
    """The check of one library alone."""
    (row,) = [row for row in doctor._LIBRARIES if row[0] == name]
    return doctor._library(*row)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on the import path, where tensorrt has not been imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    return tmp_path


def test_the_whole_install_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    checks = {c.name: c for c in inspect_install()}
    assert list(checks)[:4] == ["python", "edge-van", "cpu", "numpy"]
    assert {"pillow", "torch", "torchao", "nncf", "onnx", "onnxruntime", "openvino", "tensorrt"} <= set(checks)
    assert {"tensorrt_rtx", "cuda-python", "safetensors", "huggingface_hub"} <= set(checks)
    assert checks["edge-van"].version == __version__
    assert checks["torch"].status == "ok"
    assert all((c.fix is None) == (c.status == "ok") for c in checks.values())
    assert not any("\n" in c.detail for c in checks.values())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_engine_is_run(engine: str) -> None:
    pytest.importorskip(engine)
    found = check(engine)
    assert (found.status, found.detail) == ("ok", "runs a small model on the CPU")
    assert found.version


def test_the_tiny_model_is_sound() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_from_string(doctor._TINY_ONNX))


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("raise ImportError('first\\nlibnvinfer.so.10: cannot open')", "ImportError: libnvinfer.so.10: cannot open"),
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("raise SystemExit", "SystemExit: no message"),
        ("class Panic(BaseException): pass\nraise Panic('at the Rust side')", "Panic: at the Rust side"),
        ("1 +", "SyntaxError: invalid syntax (tensorrt.py, line 1)"),
    ],
)
def test_a_library_that_fails_to_import_is_broken(library: Path, source: str, detail: str) -> None:
    (library / "tensorrt.py").write_text(source)
    found = check("tensorrt")
    assert (found.status, found.detail) == ("broken", detail)
    assert found.fix is not None
    assert found.fix.startswith("reinstall it: pip install tensorrt")


def test_ctrl_c_is_no_broken_library(library: Path) -> None:
    (library / "tensorrt.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        check("tensorrt")


def test_a_folder_of_a_bundle_is_no_library(library: Path) -> None:
    if check("tensorrt").status == "ok":
        pytest.skip("TensorRT is installed")
    (library / "tensorrt").mkdir()
    assert check("tensorrt").status == "missing"


def test_an_installed_library_whose_code_is_gone_is_broken(library: Path) -> None:
    info = library / "tensorrt-10.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt\nVersion: 10.3.0\n")
    found = check("tensorrt")
    assert (found.status, found.version) == ("broken", "10.3.0")
    (library / "tensorrt").mkdir()
    assert check("tensorrt").status == "broken"


def test_an_engine_that_computes_wrongly_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(doctor, "_EXPECTED", [0.0, 3.0])
    found = check("onnxruntime")
    assert (found.status, found.detail) == ("broken", "ArithmeticError: relu of [-1.0, 2.0] came out as [0.0, 2.0]")


def test_the_cpu_line() -> None:
    assert cpu_check(FLAGS_VNNI).detail == "A CPU: VNNI yes, AVX-512 yes, AMX INT8 no, bf16 yes"
    assert "VNNI no" in cpu_check("flags : fpu avx2\n").detail
    assert "without VNNI INT8 is only a little faster" in cpu_check("flags : fpu avx2\n").detail
    assert "dot product yes, i8mm no, bf16 no" in cpu_check("Features\t: fp asimd asimddp\n").detail
    assert "without dot product" in cpu_check("Features\t: fp asimd\n").detail
    assert "not known" in cpu_check("").detail


def test_a_sound_bundle(tmp_path: Path) -> None:
    checks = inspect_bundle(make(tmp_path / "out").path)
    assert [(c.name, c.status) for c in checks] == [("manifest", "ok"), ("files", "ok")]
    assert checks[1].detail == "2 files, 0.0 MiB, all sound"


def test_a_damaged_bundle(tmp_path: Path) -> None:
    path = make(tmp_path / "out").path
    (path / "model.xml").unlink()
    (path / "openvino" / "model.bin").write_bytes(b"WEIGHTS")
    checks = inspect_bundle(path)
    assert [(c.name, c.status) for c in checks] == [
        ("manifest", "ok"),
        ("model.xml", "missing"),
        ("openvino/model.bin", "broken"),
    ]
    assert all(c.fix for c in checks[1:])


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (found,) = inspect_bundle(tmp_path)
    assert (found.name, found.status) == ("manifest", "missing")
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 99}))
    (found,) = inspect_bundle(tmp_path)
    assert found.status == "broken"
    assert "newer edge-van" in found.detail
