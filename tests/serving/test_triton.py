"""A repository for Triton, its ``config.pbtxt`` parsed by Triton's own protobuf."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from bundle_samples import one_line
from serving.conftest import CLASSES, TARGET
from serving.outside import composed, logits, newest_version

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import FP32_ONNX, INT8_IR, plan_path
from edge_van.errors import BundleError, UsageError
from edge_van.statistics import relative_error

ENGINE = edge_van.ServerOptions(engine=TARGET)


def config_of(folder: Path, name: str = "van_b0") -> Any:
    """``ModelConfig`` of the server's protobuf; a field that it has not, or of another type, is an error there."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="pip install 'tritonclient[grpc]'")
    from google.protobuf import text_format

    text = (folder / "models" / name / "config.pbtxt").read_text()
    return text_format.Parse(text, schema.ModelConfig())


def tensors(ports: Any) -> list[tuple[str, str, list[int]]]:
    """(name, data type, dimensions), of the protobuf."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return [(port.name, schema.DataType.Name(port.data_type), list(port.dims)) for port in ports]


@pytest.fixture(scope="module")
def exported(golden_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "server"
    edge_van.export_server(golden_bundle, "triton", folder)
    return folder


def test_the_configuration_is_of_the_file_beside_it(exported: Path) -> None:
    config = config_of(exported)
    model = ov.Core().read_model(newest_version(exported / "models" / "van_b0") / config.default_model_filename)
    assert (config.name, config.backend, config.platform, config.max_batch_size) == ("van_b0", "openvino", "", 0)
    types = {ov.Type.u8: "TYPE_UINT8", ov.Type.f32: "TYPE_FP32"}
    for listed, ports in ((config.input, model.inputs), (config.output, model.outputs)):
        assert tensors(listed) == [(p.any_name, types[p.element_type], list(p.shape)) for p in ports]
    assert [group.kind for group in config.instance_group] == [config.instance_group[0].KIND_CPU]


def test_through_the_servers_path_come_the_bundles_logits(exported: Path, golden_bundle: Bundle) -> None:
    config, golden = config_of(exported), read_golden(golden_bundle)
    xml = newest_version(exported / "models" / config.name) / config.default_model_filename
    settings = {key: value.string_value for key, value in config.parameters.items()}
    assert settings == {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    answered = logits(xml, golden.pixels, settings)
    expected = logits(golden_bundle.file(INT8_IR), golden.pixels, settings)
    assert relative_error(answered, expected) < 1e-6
    assert np.argmax(answered, 1).tolist() == np.argmax(golden.logits[INT8_IR], 1).tolist()


def test_labels_are_one_line_each(exported: Path) -> None:
    [output] = config_of(exported).output
    lines = (exported / "models" / "van_b0" / output.label_filename).read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(CLASSES) == output.dims[1]
    assert lines == ["ant", "bee", 'cow "moo"', r"dog\nnewline", "eel", "füchsin", "gnu"]


def test_without_names_of_classes_there_are_no_labels(timed_bundle: Bundle, tmp_path: Path) -> None:
    """Nor golden images: an older bundle."""
    record = edge_van.export_server(timed_bundle, "triton", tmp_path / "server")
    [output] = config_of(tmp_path / "server").output
    assert output.label_filename == ""
    assert record.golden_sqnr_db is None


def test_bf16_is_a_parameter_and_the_other_order_is_inside(golden_bundle: Bundle, tmp_path: Path) -> None:
    options = edge_van.ServerOptions(precision="bf16", source_order="bgr")
    record = edge_van.export_server(golden_bundle, "triton", tmp_path / "server", options=options)
    config = config_of(tmp_path / "server")
    assert config.parameters["HINT_BF16"].string_value == "YES"
    assert (record.precision, record.source_order) == ("bf16", "bgr")
    pixels = read_golden(golden_bundle).pixels
    xml = newest_version(tmp_path / "server" / "models" / "van_b0") / "model.xml"
    expected = logits(golden_bundle.file(record.file), pixels, {})
    assert relative_error(logits(xml, pixels[..., ::-1], {}), expected) < 1e-6


def test_an_engine_has_the_tensors_of_its_graph(engine_bundle: Bundle, tmp_path: Path) -> None:
    record = edge_van.export_server(engine_bundle, "triton", tmp_path / "server", options=ENGINE)
    config = config_of(tmp_path / "server")
    assert (config.platform, config.backend, config.default_model_filename) == ("tensorrt_plan", "", "model.plan")
    plan = newest_version(tmp_path / "server" / "models" / "van_b0") / "model.plan"
    assert plan.read_bytes() == engine_bundle.file(plan_path(TARGET, "fp32")).read_bytes()
    graph = onnx.load(engine_bundle.file(FP32_ONNX)).graph
    for listed, values in ((config.input, graph.input), (config.output, graph.output)):
        shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim][1:] for value in values]
        names = [value.name for value in values]
        assert tensors(listed) == [(n, "TYPE_FP32", s) for n, s in zip(names, shapes, strict=True)]
    assert record.inputs[0].shape[0] == -1, "an engine takes one image or more"
    assert config.max_batch_size == 1, "the record does not say how many"
    assert not config.HasField("dynamic_batching")
    assert any("10.3.0" in note and "8.7" in note for note in record.notes)
    with pytest.raises(AssertionError, match=r"give the Triton image that has TensorRT 10\.3\.0"):
        composed(tmp_path / "server")
    service = composed(tmp_path / "server", TRITON_IMAGE="tritonserver:24.08")["services"]["triton"]
    assert service["image"] == "tritonserver:24.08"
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_an_engine_of_many_images_gathers_requests(engine_bundle: Bundle, tmp_path: Path) -> None:
    engines = engine_bundle.manifest.engines[TARGET]
    several = replace(engines, engines=(replace(engines.engines[0], max_batch=8),))
    bundle = Bundle(engine_bundle.path, replace(engine_bundle.manifest, engines={TARGET: several}))
    edge_van.export_server(bundle, "triton", tmp_path / "server", options=ENGINE)
    config = config_of(tmp_path / "server")
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")


def test_an_engine_of_another_graph_is_refused(engine_bundle: Bundle, tmp_path: Path) -> None:
    engines = engine_bundle.manifest.engines[TARGET]
    changed = replace(engines, engines=(replace(engines.engines[0], onnx_sha256="0" * 64),))
    manifest = replace(engine_bundle.manifest, engines={TARGET: changed})
    with pytest.raises(BundleError) as caught:
        edge_van.export_server(Bundle(engine_bundle.path, manifest), "triton", tmp_path / "server", options=ENGINE)
    one_line(caught, "was not built of", FP32_ONNX, "edge-van build")
    assert not (tmp_path / "server").exists()


def test_an_engine_of_tensorrt_for_rtx_is_refused(engine_bundle: Bundle, tmp_path: Path) -> None:
    engines = engine_bundle.manifest.engines[TARGET]
    changed = replace(engines, engines=(replace(engines.engines[0], runtime="tensorrt_rtx"),))
    bundle = Bundle(engine_bundle.path, replace(engine_bundle.manifest, engines={TARGET: changed}))
    with pytest.raises(UsageError, match="TensorRT for RTX, which Triton does not run"):
        edge_van.export_server(bundle, "triton", tmp_path / "server", options=ENGINE)


def test_compose_starts_triton_on_the_models(exported: Path) -> None:
    service = composed(exported)["services"]["triton"]
    [mount] = service["volumes"]
    assert (mount["source"], mount["read_only"]) == (str(exported / "models"), True)
    assert f"--model-repository={mount['target']}" in service["command"]
    assert "--disable-auto-complete-config" in service["command"], "what was checked is what is loaded"
    assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}
    assert "deploy" not in service
