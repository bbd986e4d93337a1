"""``edge_van.engines.tensorrt``: real engines, built by TensorRT for RTX without a GPU; nothing unproved is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edge_van.bundle.engine_record import PrecisionRow, read_engine_record
from edge_van.bundle.layout import LOG_NAME, PLAN_NAME, RECORD_NAME
from edge_van.engines import tensorrt
from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.errors import MissingRuntimeError, UsageError, VerificationError
from edge_van.export.precision import to_float16

pytest.importorskip("tensorrt_rtx")


def half(source: Path, folder: Path) -> Path:
    path = folder / source.name
    path.write_bytes(to_float16(onnx.load(source)).SerializeToString())
    return path


@pytest.mark.parametrize("card", ["8.6", "8.9", "12.0"])
@pytest.mark.parametrize("name", ["int8", "int8_pointwise", "fp32"])
@pytest.mark.parametrize("is_half", [False, True])
def test_every_convolution_runs_as_its_graph_says(
    graphs: dict[str, Path], tmp_path: Path, name: str, card: str, is_half: bool
) -> None:
    source = half(graphs[name], tmp_path) if is_half else graphs[name]
    phases: list[str] = []
    record = build_engine(source, tmp_path, name, BuildOptions("tensorrt_rtx", (card,)), progress=phases.append)
    float_type = "fp16" if is_half else "fp32"
    layers = Counter((row.scheme, row.runs_in) for row in record.layers)
    assert (
        layers
        == {
            "int8": {("int8", "int8"): 44, (float_type, float_type): 1},
            "int8_pointwise": {("int8", "int8"): 29, (float_type, float_type): 16},
            "fp32": {(float_type, float_type): 45},
        }[name]
    )
    if name == "int8_pointwise":
        in_float = {row.layer.rpartition(".")[2] for row in record.layers if row.scheme != "int8"}
        assert in_float == {"conv0", "conv_spatial", "dwconv", "head"}
    assert record.warnings == ()
    assert record.compute_capabilities == (card,)
    assert read_engine_record(tmp_path) == record
    assert (tmp_path / PLAN_NAME).stat().st_size == record.plan_bytes
    # what makes an INT8 plan large: the source of its kernels, compiled on the card when it is first run
    assert b"__device__" in (tmp_path / PLAN_NAME).read_bytes()
    assert "Layers:" in (tmp_path / LOG_NAME).read_text()
    assert phases


def test_one_engine_for_several_cards(graphs: dict[str, Path], tmp_path: Path) -> None:
    record = build_engine(graphs["int8"], tmp_path, "int8", BuildOptions("tensorrt_rtx", ("SM86", "sm_89", "120")))
    assert record.compute_capabilities == ("8.6", "8.9", "12.0")


def test_the_timing_cache(graphs: dict[str, Path], tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    options = BuildOptions("tensorrt_rtx", ("8.9",), timing_cache=cache)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    records = [build_engine(graphs["fp32"], folder, "fp32", options) for folder in folders]
    assert cache.is_file()
    assert records[0].timing_cache == "new"
    assert records[0].layers == records[1].layers


def test_a_graph_that_breaks_a_rule_never_reaches_the_builder(
    graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(graphs["int8"])
    [tensor] = [t for t in model.graph.initializer if t.name == "block4.0.mlp.fc2.weight_scale"]
    values = numpy_helper.to_array(tensor).copy()
    values[0] = 0.0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.SerializeToString())
    monkeypatch.setattr(tensorrt, "_build", lambda *a: pytest.fail("it reached the builder"))
    with pytest.raises(VerificationError, match=r"fc2\.weight_scale is a scale of 0\.0"):
        build_engine(broken, tmp_path, "int8", BuildOptions("tensorrt_rtx", ("8.9",)))
    assert not (tmp_path / PLAN_NAME).exists()


def test_a_graph_that_the_parser_refuses(graphs: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(graphs["fp32"])
    model.graph.node[-1].op_type = "NoSuchOperator"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.SerializeToString())
    with pytest.raises(VerificationError, match="cannot parse the graph"):
        build_engine(broken, tmp_path, "fp32", BuildOptions("tensorrt_rtx", ("8.9",)))
    assert (tmp_path / LOG_NAME).is_file()
    assert not (tmp_path / PLAN_NAME).exists()


@pytest.mark.parametrize("allow", [False, True])
def test_a_fallback(graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow: bool) -> None:
    """The builder keeps to the graph here, so a table that says otherwise stands in for one that would not."""
    rows = (PrecisionRow("head", "int8", "fp16", "k"),)
    monkeypatch.setattr(tensorrt, "precision_table", lambda *a: rows)
    options = BuildOptions("tensorrt_rtx", ("8.9",), allow_fallback=allow)
    if allow:
        record = build_engine(graphs["int8"], tmp_path, "int8", options)
        assert record.warnings == ("head is INT8 in the graph and runs in fp16 (k)",)
    else:
        with pytest.raises(VerificationError, match="head is INT8"):
            build_engine(graphs["int8"], tmp_path, "int8", options)
        assert not (tmp_path / PLAN_NAME).exists()
        assert not (tmp_path / RECORD_NAME).exists()


def test_tensorrt_itself_is_not_here(graphs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingRuntimeError, match="comes with JetPack"):
        build_engine(graphs["int8"], tmp_path, "int8", BuildOptions("tensorrt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "openvino"}, "tensorrt or tensorrt_rtx"),
        ({"runtime": "tensorrt_rtx", "compute_capabilities": ("8.7",)}, "built on the Jetson"),
        ({"runtime": "tensorrt_rtx", "compute_capabilities": ("",)}, "no compute capability"),
        ({"runtime": "tensorrt", "compute_capabilities": ("8.9",)}, "GPU that is there"),
        ({"runtime": "tensorrt_rtx", "max_batch": 0}, "at least one image"),
        ({"runtime": "tensorrt_rtx", "timing_cache": Path("/no/such/folder/cache")}, "cannot be a timing cache"),
        ({"runtime": "tensorrt_rtx", "timing_cache": Path("/")}, "cannot be a timing cache"),
    ],
)
def test_options_that_cannot_be_meant(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BuildOptions(**arguments)  # type: ignore[arg-type]
