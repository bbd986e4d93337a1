"""``edge_van.export.metadata``: onnx and openvino themselves read what a file says, and that is enough to run it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest

from edge_van.export.metadata import described
from edge_van.export.openvino import export_openvino
from edge_van.export.tensorrt_graphs import write_tensorrt_graph
from edge_van.input_spec import InputSpec
from edge_van.statistics import relative_error

HARD_NAMES = ("a&<b>\"'", "ü\n\x01\x7f", " x ", "]]>", "猫", "-->", "plain")
"""That XML would refuse or change."""
SPEC = InputSpec(
    size=(64, 64),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    classes=HARD_NAMES,
    channel_order="bgr",
    source_order="rgb",
)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


def of_onnx(path: Path) -> dict[str, str]:
    props = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert all(key.startswith("edge_van.") for key in props)
    return {key.removeprefix("edge_van."): value for key, value in props.items()}


def of_ir(path: Path) -> dict[str, str]:
    model = ov.Core().read_model(path)
    assert not model.has_rt_info("framework")  # where the ONNX file's own would be
    return dict(model.get_rt_info("edge_van").value)


def input_of(said: dict[str, str], pixels: np.ndarray) -> np.ndarray:
    """What a stranger makes of uint8 (N, H, W, 3), red first, who has nothing but the texts."""
    if said["source_order"] == "bgr":
        pixels = pixels[..., ::-1]
    if said["input_type"] == "uint8":
        assert (said["input_layout"], said["value_range"][:22]) == ("NHWC", "pixels x from 0 to 255")
        return pixels
    assert (said["input_layout"], said["value_range"][:22]) == ("NCHW", "(x / 255 - mean) / std")
    normalized = (pixels / 255 - json.loads(said["mean"])) / json.loads(said["std"])
    return np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)).astype(np.float32)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_stranger_gets_the_same_logits_of_every_file(graphs: dict[str, Path], tmp_path: Path, order: str) -> None:
    spec = replace(SPEC, source_order=order)
    source, pixels = graphs["fp32"], PIXELS if order == "rgb" else PIXELS[..., ::-1]
    files = {
        input_type: write_tensorrt_graph(
            source, tmp_path / f"{input_type}.onnx", spec, pixels, float_type="float32", input_type=input_type
        )
        for input_type in ("float32", "uint8")
    }
    ir = export_openvino(files["float32"], spec, tmp_path / "model.xml", "FP32 for CPUs")
    said = {name: of_onnx(path) for name, path in files.items()} | {"ir": of_ir(ir)}
    found = {}
    for name, path in files.items():
        session = onnxruntime.InferenceSession(path)
        found[name] = session.run(None, {"images": input_of(said[name], PIXELS)})[0]
    compiled = ov.Core().compile_model(ir, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found["ir"] = np.concatenate([compiled(input_of(said["ir"], image[None]))[0] for image in PIXELS])
    assert relative_error(found["uint8"], found["float32"]) < 1e-3
    assert relative_error(found["ir"], found["float32"]) < 1e-3
    for name, one in said.items():
        assert tuple(json.loads(one["mean"])) == spec.pixel_mean, name
        assert tuple(json.loads(one["std"])) == spec.pixel_std, name
        assert tuple(json.loads(one["classes"])) == HARD_NAMES, name
        assert tuple(json.loads(one["input_size"])) == spec.size, name
        assert one["source_order"] == order, name
        assert one["resize"] == (
            "before the file: the upright image resized with its aspect kept to cover 71x71 px (height x width) by "
            "Pillow's bicubic, then the central 64x64 px (height x width) cropped"
        )
    assert [one["made_for"] for one in said.values()] == ["FP32 for TensorRT", "FP32 for TensorRT", "FP32 for CPUs"]


def test_a_qdq_file_says_for_which_device(graphs: dict[str, Path], tmp_path: Path) -> None:
    spec = replace(SPEC, classes=None)
    path = write_tensorrt_graph(
        graphs["int8"],
        tmp_path / "int8.onnx",
        spec,
        PIXELS,
        float_type="float16",
        input_type="float32",
        quantized_db=20.0,
    )
    said = of_onnx(path)
    assert said["made_for"] == "Q/DQ for TensorRT"
    assert "classes" not in said
    again = write_tensorrt_graph(
        path, tmp_path / "again.onnx", spec, PIXELS, float_type="float32", input_type="float32", quantized_db=20.0
    )
    assert again.read_bytes() == path.read_bytes()


def test_a_camera_file_says_that_the_resize_is_inside(graphs: dict[str, Path], tmp_path: Path) -> None:
    """Its ONNX file does not, which has none."""
    spec = replace(SPEC, source_size=(90, 120), crop=1.0, resize="pad", pad_color=(1, 2, 3), source_order="bgr")
    said = of_ir(export_openvino(graphs["fp32"], spec, tmp_path / "model.xml"))
    assert json.loads(said["input_size"]) == [90, 120]
    assert said["resize"] == (
        "inside the file: the upright image of 90x120 px (height x width) resized with its aspect kept to fit into "
        "64x64 px (height x width) by Pillow's bicubic, then centred on bars of [3, 2, 1]"
    )
    outside = described(spec, "floats", "x")
    assert json.loads(outside["input_size"]) == [64, 64]
    assert outside["resize"].startswith("before the file: the upright image resized")


@pytest.mark.parametrize(("crop", "size"), [(1.0, (48, 64)), (0.9, (224, 224)), (0.875, (224, 160))])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_the_resize_is_that_of_the_spec(resize: str, crop: float, size: tuple[int, int]) -> None:
    spec = InputSpec(size=size, crop=crop, resize=resize, interpolation="lanczos")
    height, width = (int(side / crop) for side in size)
    text = described(spec, "pixels", "x")["resize"]
    assert f"{height}x{width} px (height x width) by Pillow's lanczos" in text
    assert (f"the central {size[0]}x{size[1]} px" in text) == (resize == "crop" or crop < 1.0)
    assert ("without its aspect" in text) == (resize == "squash")


@pytest.mark.parametrize(
    ("channels", "source_order", "expected"),
    [(1, "rgb", "grey"), (3, "bgr", "bgr"), (4, "rgb", "rgb, then the fourth band")],
)
def test_channels(channels: int, source_order: str, expected: str) -> None:
    spec = InputSpec(mean=(0.5,) * channels, std=(0.5,) * channels, source_order=source_order)
    said = described(spec, "floats", "x")
    assert said["source_order"] == expected
    assert len(json.loads(said["mean"])) == channels


def test_every_text_is_ascii_that_a_file_keeps() -> None:
    for text in described(SPEC, "floats", "x").values():
        assert text.isascii()
        assert text.isprintable() or "\x7f" in text
