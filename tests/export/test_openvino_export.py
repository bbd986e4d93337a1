"""``edge_van.export.openvino``: images as bytes in, one MVN a stage, integer kernels, and Pillow's resize."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edge_van.errors import BundleError, UsageError, VerificationError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import (
    INPUT,
    KERNELS_MARGIN_DB,
    OUTPUT,
    RESIZE_FLOOR_DB,
    check_kernels,
    check_openvino,
    export_openvino,
    layers_in_float,
)
from edge_van.images.decode import decode
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN, Block
from edge_van.model.variants import Variant
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import QuantizedVAN, post_training_quantize
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import open_model
from edge_van.runtimes.openvino import OpenVINOSession
from edge_van.statistics import relative_error, sqnr_db

SPEC = InputSpec(size=(64, 48), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CLASSES = 6


def smooth_pixels(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blurred noise, as a photograph is smooth: uint8 (n, height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse])


@dataclass(frozen=True)
class Exported:
    """Both networks, their ONNX files and their IRs."""

    folded: FoldedVAN
    quantized: QuantizedVAN
    calibration: CalibrationImages
    float_onnx: Path
    int8_onnx: Path
    float_ir: Path
    int8_ir: Path


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, randomize_bn_: Callable[[nn.Module, int], nn.Module]
) -> Exported:
    """A shallow VAN, as FP32 and INT8, written once. LayerScales are as small as trained ones, so that the rounding of
    one kernel does not drown in that of all."""
    torch.manual_seed(0)
    van = VAN(Variant("shallow", (4, 8, 8, 12), (1, 1, 1, 1), 0.0, 0.0, None), CLASSES)
    randomize_bn_(van, 1)
    with torch.no_grad():
        for block in (m for m in van.modules() if isinstance(m, Block)):
            block.layer_scale_1.mul_(0.2)
            block.layer_scale_2.mul_(0.2)
    folded, _ = fold(van.eval(), SPEC.size)
    calibration = CalibrationImages(smooth_pixels(8, *SPEC.size), SPEC, 4)
    quantized = post_training_quantize(equalize(folded, calibration), calibration, SCHEMES["openvino"])
    folder = tmp_path_factory.mktemp("ir")
    float_onnx = export_onnx(folded, folder / "float.onnx", calibration[0])
    int8_onnx = export_onnx(quantized, folder / "int8.onnx", calibration[0])
    float_ir = export_openvino(float_onnx, SPEC, folder / "fp32" / "model.xml")
    int8_ir = export_openvino(int8_onnx, SPEC, folder / "int8" / "model.xml")
    return Exported(folded, quantized, calibration, float_onnx, int8_onnx, float_ir, int8_ir)


@torch.no_grad()
def logits_of(model: Callable[[Tensor], Tensor], exported: Exported, pixels: np.ndarray) -> np.ndarray:
    logits: np.ndarray = model(exported.calibration.normalized(pixels)).numpy()
    return logits


def run_each(path: Path, pixels: np.ndarray) -> np.ndarray:
    with open_model("openvino", path, threads=1) as session:
        return np.concatenate([session.run({INPUT: image[None]})[OUTPUT] for image in pixels])


def operators(path: Path) -> Counter[str]:
    return Counter(op.get_type_name() for op in ov.Core().read_model(path).get_ops())


def test_a_scheme_of_another_cpu_is_computed_as_it_is_written(exported: Exported, tmp_path: Path) -> None:
    quantized = post_training_quantize(exported.quantized.model, exported.calibration, SCHEMES["openvino_arm"])
    onnx = export_onnx(quantized, tmp_path / "arm.onnx", exported.calibration[0])
    path = export_openvino(onnx, SPEC, tmp_path / "model.xml")
    pixels = exported.calibration.pixels
    check_openvino(path, pixels, logits_of(quantized.graph, exported, pixels), floor_db=30.0, exact=True)
    with OpenVINOSession(path, profile=True, exact=True) as session:
        session.run({INPUT: pixels[:1]})
        kernels = session.layer_times()
    assert not [kernel for kernel in kernels if "i8" in kernel.kernel.lower() and "onv" in kernel.operator]


@pytest.mark.parametrize("kind", ["float_ir", "int8_ir"])
def test_images_are_bytes_in_and_logits_out(exported: Exported, kind: str) -> None:
    path: Path = getattr(exported, kind)
    assert path.with_suffix(".bin").stat().st_size > 0
    with open_model("openvino", path) as session:
        (images,), (logits,) = session.inputs, session.outputs
    assert (images.name, images.shape, images.dtype) == (INPUT, (1, *SPEC.size, 3), np.uint8)
    assert (logits.name, logits.shape, logits.dtype) == (OUTPUT, (1, CLASSES), np.float32)


def test_float_ir_agrees_with_torch(exported: Exported) -> None:
    pixels = smooth_pixels(4, *SPEC.size, seed=5)
    expected = logits_of(exported.folded, exported, pixels)
    assert relative_error(run_each(exported.float_ir, pixels), expected) <= 1e-3
    assert check_openvino(exported.float_ir, pixels, expected) > 60


def test_channels_come_in_rgb_order_and_are_normalised_apart(exported: Exported) -> None:
    pixels = np.zeros((1, *SPEC.size, 3), np.uint8)
    pixels[..., 0] = 200
    right = run_each(exported.float_ir, pixels)
    assert relative_error(right, logits_of(exported.folded, exported, pixels)) <= 1e-3
    swapped = logits_of(exported.folded, exported, pixels[..., ::-1].copy())
    assert relative_error(right, swapped) > 1e-2


def test_weights_stay_float32(exported: Exported) -> None:
    model = ov.Core().read_model(exported.float_ir)
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    assert not any(op.get_element_type() in (ov.Type.f16, ov.Type.bf16) for op in constants)


@pytest.mark.parametrize("kind", ["float_ir", "int8_ir"])
def test_each_stages_layer_norm_is_one_mvn(exported: Exported, kind: str) -> None:
    found = operators(getattr(exported, kind))
    assert found["MVN"] == 4
    assert found["ReduceMean"] == 1  # the pooling before the head, and no LayerNorm in pieces
    assert not {"Power", "Sqrt", "Divide", "BatchNormInference"} & set(found)


def test_int8_ir_runs_in_integer_kernels(exported: Exported) -> None:
    with OpenVINOSession(exported.int8_ir, profile=True) as session:
        rows = []
        for image in smooth_pixels(3, *SPEC.size):  # a layer too quick for the clock is left out of one run's list
            session.run({INPUT: image[None]})
            rows += session.layer_times()
    kernels = {
        name.removesuffix("/WithoutBiases"): kernel
        for name, kind, kernel, _ in rows
        if kind in ("Convolution", "GroupConvolution", "FullyConnected")
    }
    convolutions = {n for n, m in exported.folded.named_modules() if isinstance(m, nn.Conv2d)}
    assert convolutions <= set(kernels)
    assert {name: kernel for name, kernel in kernels.items() if "i8" not in kernel.lower()} == {}
    gating = [name for name in kernels if name.endswith((".conv0", ".conv_spatial"))]
    assert len(gating) == 8
    assert any(kind == "FullyConnected" for _, kind, _, _ in rows)


def test_which_quantised_layers_a_cpu_computes_in_float(exported: Exported) -> None:
    pixels, layers = smooth_pixels(1, *SPEC.size), exported.quantized.layers
    assert "head" in layers
    assert layers_in_float(exported.int8_ir, layers, pixels) == ()
    assert layers_in_float(exported.int8_ir, [*layers, "block9.0.mlp.fc1"], pixels) == ("block9.0.mlp.fc1",)
    with pytest.raises(VerificationError, match=rf"none of the {len(layers)} quantised layers of model\.xml"):
        layers_in_float(exported.float_ir, layers, pixels)


def test_float_ir_runs_in_float_kernels(exported: Exported) -> None:
    with OpenVINOSession(exported.float_ir, profile=True) as session:
        session.run({INPUT: smooth_pixels(1, *SPEC.size)})
        rows = session.layer_times()
    kernels = [kernel for _, kind, kernel, _ in rows if "Convolution" in kind or kind == "FullyConnected"]
    assert kernels
    assert all("f32" in kernel.lower() for kernel in kernels)


def test_int8_ir_agrees_with_its_graph(exported: Exported) -> None:
    pixels = smooth_pixels(4, *SPEC.size, seed=5)
    expected = logits_of(exported.quantized.graph, exported, pixels)
    assert check_openvino(exported.int8_ir, pixels, expected, floor_db=20.0) >= 20
    assert sqnr_db(logits_of(exported.folded, exported, pixels), run_each(exported.int8_ir, pixels)) > 15


def test_kernels_are_judged_by_the_float_network(exported: Exported) -> None:
    """Not by whether two roundings agree: the graph may be no nearer to float than they are to each other."""
    pixels = smooth_pixels(8, *SPEC.size, seed=5)
    exact, graph = (logits_of(model, exported, pixels) for model in (exported.folded, exported.quantized.graph))
    measured = check_kernels(exported.int8_ir, pixels, exact, sqnr_db(exact, graph))
    assert measured == pytest.approx(sqnr_db(exact, run_each(exported.int8_ir, pixels)))
    check_kernels(exported.int8_ir, pixels, exact, measured - 10.0)  # the graph may be the worse of the two
    with pytest.raises(VerificationError, match=r"from the float network, at least \d+\.\d were expected"):
        check_kernels(exported.int8_ir, pixels, exact, measured + KERNELS_MARGIN_DB + 0.1)


def test_other_logits_than_expected_are_caught(exported: Exported) -> None:
    pixels = smooth_pixels(2, *SPEC.size)
    expected = logits_of(exported.folded, exported, pixels)
    shifted = expected + np.abs(expected).max() * np.float32(0.01)
    with pytest.raises(VerificationError, match=r"model\.xml run by OpenVINO computes other logits .* relative"):
        check_openvino(exported.float_ir, pixels, shifted)
    for wrong in (-expected, expected * np.float32("nan")):
        for floor, path in ((None, exported.float_ir), (18.0, exported.int8_ir)):
            with pytest.raises(VerificationError, match="dB SQNR"):
                check_openvino(path, pixels, wrong, floor_db=floor)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_a_second_ir_has_the_same_bytes(exported: Exported, kind: str, tmp_path: Path) -> None:
    first: Path = getattr(exported, f"{kind}_ir")
    second = export_openvino(getattr(exported, f"{kind}_onnx"), SPEC, tmp_path / "model.xml")
    for name in ("model.xml", "model.bin"):
        assert (second.parent / name).read_bytes() == (first.parent / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["float_ir", "int8_ir"])
def test_ir_tells_nothing_of_the_machine(exported: Exported, kind: str) -> None:
    path: Path = getattr(exported, kind)
    for part in (path, path.with_suffix(".bin")):
        content = part.read_bytes()
        for word in (b"site-packages", b"/home/", b".onnx", str(path.parent.parent).encode(), str(Path.cwd()).encode()):
            assert word not in content, (part.name, word)


# ── with a fixed source size, resize and crop are in the graph ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("interpolation", "source_size"), [("bicubic", (150, 200)), ("bilinear", (130, 90)), ("bicubic", (60, 40))]
)
def test_the_resize_inside_is_the_hosts(
    exported: Exported, interpolation: str, source_size: tuple[int, int], tmp_path: Path
) -> None:
    inside = replace(SPEC, interpolation=interpolation, source_size=source_size)
    path = export_openvino(exported.float_onnx, inside, tmp_path / "model.xml")
    with open_model("openvino", path) as session:
        assert session.inputs[0].shape == (1, *source_size, 3)
        assert session.inputs[0].dtype == np.uint8
    raw = smooth_pixels(3, *source_size, seed=8)
    from_device = run_each(path, raw)
    decoded = []
    for image in raw:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        assert np.array_equal(decode(buffer.getvalue(), inside), image)  # the host sends it as it is
        decoded.append(decode(buffer.getvalue(), replace(inside, source_size=None)))
    from_host = run_each(exported.float_ir, np.stack(decoded))
    measured = sqnr_db(from_host, from_device)
    assert measured >= RESIZE_FLOOR_DB[interpolation]
    # what is nearly right is told from what is
    other = "bilinear" if interpolation == "bicubic" else "bicubic"
    wrong = export_openvino(exported.float_onnx, replace(inside, interpolation=other), tmp_path / "wrong.xml")
    assert sqnr_db(from_host, run_each(wrong, raw)) < measured - 6
    assert (from_host.argmax(1) == from_device.argmax(1)).all()


@pytest.mark.parametrize(
    ("source_size", "floor_db"),
    [
        ((130, 90), 100),
        ((480, 640), 100),
        # a scale of exactly 2: every new pixel lies between two old ones, of which Pillow takes the right and lower
        # one and OpenVINO the other; on noise, where neighbours have nothing in common, that is 31 dB
        ((142, 106), 25),
    ],
)
def test_nearest_inside_is_pillows_but_between_two_pixels(
    exported: Exported, source_size: tuple[int, int], floor_db: float, tmp_path: Path
) -> None:
    inside = replace(SPEC, interpolation="nearest", source_size=source_size)
    path = export_openvino(exported.float_onnx, inside, tmp_path / "model.xml")
    raw = np.random.default_rng(8).integers(0, 256, (3, *source_size, 3), np.uint8)
    height, width = inside.resized(*source_size)
    resized = [Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST) for image in raw]
    from_host = run_each(
        exported.float_ir, np.stack([np.asarray(image.crop(inside.crop_box(height, width))) for image in resized])
    )
    assert sqnr_db(from_host, run_each(path, raw)) >= floor_db


def test_lanczos_cannot_go_inside(exported: Exported, tmp_path: Path) -> None:
    inside = replace(SPEC, interpolation="lanczos", source_size=(150, 200))
    with pytest.raises(UsageError, match=r"bicubic, bilinear, nearest, not lanczos: leave source_size out"):
        export_openvino(exported.float_onnx, inside, tmp_path / "model.xml")
    assert not (tmp_path / "model.xml").exists()


def test_an_ir_that_cannot_be_written_is_a_bundle_error(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "model.xml").mkdir()
    with pytest.raises(BundleError, match=r"OpenVINO could not write \S*model\.xml"):
        export_openvino(exported.float_onnx, SPEC, tmp_path / "model.xml")
