"""A repository for OpenVINO Model Server, read the way the server reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from bundle_samples import one_line
from narrow import NARROW, normal_images
from PIL import Image
from serving.outside import composed, decoded_to_bgr, logits, newest_version

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import UsageError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.statistics import relative_error, sqnr_db

RULES = {
    "type": "object",
    "required": ["model_config_list"],
    "properties": {"model_config_list": {"type": "array", "items": {"$ref": "#/$defs/entry"}}},
    "additionalProperties": False,
    "$defs": {
        "entry": {
            "type": "object",
            "required": ["config"],
            "maxProperties": 1,
            "properties": {
                "config": {
                    "type": "object",
                    "required": ["name", "base_path"],
                    "properties": {
                        **{key: {"type": "string"} for key in ("name", "base_path", "target_device")},
                        "plugin_config": {"additionalProperties": {"type": ["string", "boolean", "number"]}},
                    },
                    "additionalProperties": False,
                }
            },
        }
    },
}
"""Of the server's own schema (``src/schema.cpp`` of openvinotoolkit/model_server) the part that an export uses."""


@pytest.fixture(scope="module")
def exported(golden_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, edge_van.ExportedServer]:
    folder = tmp_path_factory.mktemp("ovms") / "server"
    return folder, edge_van.export_server(golden_bundle, "ovms", folder)


def config_of(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "config.json").read_text())
    jsonschema.validate(content, RULES)
    [entry] = content["model_config_list"]
    config: dict[str, Any] = entry["config"]
    return config


def served_ir(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The IR that the server finds, its path taken from where ``config.json`` lies, and what it is compiled with."""
    config = config_of(folder)
    assert not Path(config["base_path"]).is_absolute()
    [xml] = newest_version(folder / config["base_path"]).glob("*.xml")
    assert xml.with_suffix(".bin").is_file()
    return xml, config["plugin_config"]


def test_images_sent_as_png_get_the_golden_logits(
    exported: tuple[Path, edge_van.ExportedServer], golden_bundle: Bundle, tmp_path: Path
) -> None:
    folder, record = exported
    golden, xml = read_golden(golden_bundle), served_ir(folder)
    for number, pixels in enumerate(golden.pixels):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    sent = np.stack([decoded_to_bgr(tmp_path / f"{number}.png") for number in range(len(golden.pixels))])
    in_bundle = logits(golden_bundle.file(INT8_IR), golden.pixels, xml[1])
    answered = logits(xml[0], sent, xml[1])
    assert relative_error(answered, in_bundle) < 1e-6
    assert sqnr_db(golden.logits[INT8_IR], answered) == pytest.approx(record.golden_sqnr_db, abs=0.1)
    assert relative_error(logits(xml[0], golden.pixels, xml[1]), in_bundle) > 0.01, "red as blue must be seen"


@pytest.mark.parametrize(("precision", "file", "hint"), [("fp32", FP32_IR, "f32"), ("int8_bf16", INT8_IR, "bf16")])
def test_a_precision_is_a_file_and_a_hint(
    golden_bundle: Bundle, tmp_path: Path, precision: str, file: str, hint: str
) -> None:
    options = edge_van.ServerOptions(precision=precision, name="my.van-1")
    record = edge_van.export_server(golden_bundle, "ovms", tmp_path / "server", options=options)
    assert (record.file, record.precision) == (file, precision)
    xml, settings = served_ir(tmp_path / "server")
    assert settings == {"INFERENCE_PRECISION_HINT": hint}
    assert xml.parts[-4:] == ("models", "my.van-1", "1", "model.xml")
    assert config_of(tmp_path / "server")["name"] == "my.van-1"


def test_in_the_bundles_own_order_its_very_files_are_served(golden_bundle: Bundle, tmp_path: Path) -> None:
    options = edge_van.ServerOptions(source_order="rgb")
    record = edge_van.export_server(golden_bundle, "ovms", tmp_path / "server", options=options)
    xml, _ = served_ir(tmp_path / "server")
    for suffix in (".xml", ".bin"):
        assert xml.with_suffix(suffix).read_bytes() == golden_bundle.file(INT8_IR).with_suffix(suffix).read_bytes()
    assert any("red as blue" in note for note in record.notes)


def test_what_the_file_says_of_its_pixels_is_of_the_new_order(exported: tuple[Path, edge_van.ExportedServer]) -> None:
    import openvino as ov

    xml, _ = served_ir(exported[0])
    said = ov.Core().read_model(xml).get_rt_info(["edge_van"]).value
    assert said["source_order"] == "bgr"
    assert exported[1].source_order == "bgr"


def test_the_same_export_is_the_same_bytes(
    exported: tuple[Path, edge_van.ExportedServer], golden_bundle: Bundle, tmp_path: Path
) -> None:
    assert edge_van.export_server(golden_bundle, "ovms", tmp_path / "server").files == exported[1].files


def test_a_bundle_that_takes_bgr_is_not_turned(golden_bundle: Bundle, tmp_path: Path) -> None:
    spec = replace(golden_bundle.manifest.input_spec, source_order="bgr")
    taken = Bundle(golden_bundle.path, replace(golden_bundle.manifest, input_spec=spec))
    edge_van.export_server(taken, "ovms", tmp_path / "server")
    xml, _ = served_ir(tmp_path / "server")
    assert xml.read_bytes() == golden_bundle.file(INT8_IR).read_bytes()


def test_an_engine_is_refused(engine_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        edge_van.export_server(
            engine_bundle, "ovms", tmp_path / "server", options=edge_van.ServerOptions(engine="orin")
        )
    one_line(caught, "runs no TensorRT engine", "--to triton")


def test_compose_starts_the_server_on_this_folder(exported: tuple[Path, edge_van.ExportedServer]) -> None:
    folder, _ = exported
    service = composed(folder)["services"]["ovms"]
    [mount] = service["volumes"]
    assert (mount["source"], mount["read_only"]) == (str(folder), True)
    command = service["command"]
    config = command[command.index("--config_path") + 1]
    assert (folder / Path(config).relative_to(mount["target"])).is_file()
    ports = {command[command.index(flag) + 1] for flag in ("--port", "--rest_port")}
    assert {str(port["target"]) for port in service["ports"]} == ports
    assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}


def test_a_camera_bundle_is_turned_before_its_resize(
    golden_bundle: Bundle, graphs: dict[str, Path], tmp_path: Path
) -> None:
    """Of an older version, too, which has no golden images: both graphs are run on noise."""
    spec = InputSpec(size=(64, 64), source_size=(90, 120), interpolation="bilinear")
    with BundleWriter(tmp_path / "bundle") as writer:
        export_openvino(graphs["int8"], spec, writer.path(INT8_IR))
        bundle = writer.finish(replace(golden_bundle.manifest, input_spec=spec, golden=None))
    record = edge_van.export_server(bundle, "ovms", tmp_path / "server")
    assert record.inputs[0].shape == (1, 90, 120, 3)
    assert not any("squashes" in note for note in record.notes)
    images = np.random.default_rng(5).integers(0, 256, (2, 90, 120, 3), np.uint8)
    xml, settings = served_ir(tmp_path / "server")
    expected = logits(bundle.file(INT8_IR), images, settings)
    assert relative_error(logits(xml, images[..., ::-1], settings), expected) < 1e-6


@pytest.mark.parametrize(("channels", "said"), [(1, ""), (4, "send arrays")])
def test_bundles_of_other_channels_are_served_as_they_are(
    golden_bundle: Bundle, tmp_path: Path, channels: int, said: str
) -> None:
    """There is no red and blue to exchange in a grey image, and the server's PNG of four is not the bundle's."""
    torch.manual_seed(0)
    folded, _ = fold(VAN(NARROW, 7, in_channels=channels).eval(), (64, 64))
    export_onnx(folded, tmp_path / "model.onnx", normal_images(1, 64, 64, channels=channels))
    spec = InputSpec(size=(64, 64), mean=(0.5,) * channels, std=(0.25,) * channels)
    with BundleWriter(tmp_path / "bundle") as writer:
        export_openvino(tmp_path / "model.onnx", spec, writer.path(INT8_IR))
        bundle = writer.finish(replace(golden_bundle.manifest, input_spec=spec, golden=None))
    record = edge_van.export_server(bundle, "ovms", tmp_path / "server")
    assert record.inputs[0].shape == (1, 64, 64, channels)
    assert record.source_order == spec.source_order
    assert not any("BGR" in note for note in record.notes)
    assert said in " ".join(record.notes)
    xml, _ = served_ir(tmp_path / "server")
    assert xml.read_bytes() == bundle.file(INT8_IR).read_bytes()
    with pytest.raises(UsageError, match=f"an image of {channels} channels is sent as the bundle takes it"):
        edge_van.export_server(bundle, "ovms", tmp_path / "other", options=edge_van.ServerOptions(source_order="bgr"))
