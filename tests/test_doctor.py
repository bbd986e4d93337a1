"""The doctor: real engines run, broken and missing libraries told apart, bundles looked through."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from bundle_samples import make
from packaging.specifiers import SpecifierSet

from edge_van import __version__, doctor
from edge_van.doctor import Check, cpu_check, inspect_bundle, inspect_install, quantize_needs
from edge_van.machine import has_vnni, parse_cpu_info

FLAGS_VNNI = "model name\t: A CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n"


def check(name: str) -> Check:
    """The check of one library alone."""
    (row,) = [row for row in doctor._libraries(quantize_needs()) if row[0] == name]
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
    assert {"pillow", "torch", "torchao", "onnx", "onnxruntime", "openvino", "tensorrt"} <= set(checks)
    assert {"tensorrt_rtx", "cuda-python", "safetensors", "huggingface-hub"} <= set(checks)
    assert len(checks) == len(set(checks))
    assert checks["edge-van"].version == __version__
    assert checks["torch"].status == "ok"
    assert all((c.fix is None) == (c.status == "ok") for c in checks.values())
    assert not any("\n" in c.detail for c in checks.values())
    assert capsys.readouterr().out == ""


def test_all_that_quantize_needs_is_looked_at() -> None:
    needed = set(quantize_needs())
    assert {"torch", "torchao", "onnx", "psutil", "py-cpuinfo"} <= needed
    assert not {"numpy", "pytest", "ruff", "edge-van"} & needed
    assert needed <= {row[0] for row in doctor._libraries(quantize_needs())}
    assert check("py-cpuinfo").status == "ok"


@pytest.mark.parametrize("name", ["torchao", "psutil", "py-cpuinfo"])
def test_each_of_them_is_imported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "cpuinfo" if name == "py-cpuinfo" else name, None)
    found = check(name)
    assert found.status == "broken"  # there by its metadata, and not to be imported
    assert found.fix == "reinstall it: pip install 'edge-van[quantize]'"


def test_requirements_are_read_whatever_they_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["click>=8", 'A_b.c [x] (>=1) ; (python_version > "3") and extra == "quantize"', "d; extra == 'quantize-x'"]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert quantize_needs() == {"a-b-c": SpecifierSet(">=1")}


@pytest.mark.parametrize(("wanted", "status"), [(">=1", "ok"), ("==0.0.1", "broken"), (">=1,<1.1", "broken")])
def test_a_version_that_edge_van_does_not_take_is_broken(
    monkeypatch: pytest.MonkeyPatch, wanted: str, status: str
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: [f'numpy{wanted}; extra == "quantize"'])
    [found] = [c for c in inspect_install() if c.name == "numpy"]
    assert found.status == status
    if status == "broken":
        assert found.detail == f"edge-van needs {SpecifierSet(wanted)}"
        assert found.fix == "pip install 'edge-van[quantize]'"


def test_without_metadata_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    monkeypatch.setattr(doctor, "_LIBRARIES", ())
    assert [(c.name, c.status) for c in inspect_install()][3:] == [("quantize", "missing")]


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
    def said(text: str) -> str:
        return cpu_check(*parse_cpu_info(text)).detail

    assert said(FLAGS_VNNI) == "A CPU: VNNI yes, AVX-512 yes, AMX INT8 no, bf16 yes"
    assert "VNNI no" in said("flags : fpu avx2\n")
    assert said("flags : fpu avx2\n").endswith("; INT8 gains less here than on a CPU with VNNI")
    assert "dot product yes, i8mm no, bf16 no" in said("Features\t: fp asimd asimddp\n")
    assert said("Features\t: fp asimd\n").endswith("on a CPU with dot product")
    assert "not known" in said("")


@pytest.mark.parametrize(
    "flags", ["avx2", "avx512_vnni", "avx_vnni", "avx512vnni", "avx_vnni_int8", "amx_int8", "asimd", "asimd i8mm"]
)
def test_the_cpu_line_and_the_bundles_warning_agree(flags: str) -> None:
    model, found = parse_cpu_info(f"flags : {flags}\n")
    assert ("gains less" in cpu_check(model, found).detail) is not has_vnni(found)


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
    assert "upgrade with pip install" in found.detail
