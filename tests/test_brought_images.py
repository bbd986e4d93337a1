"""The images that people's networks were trained on: squashed, padded, blue first, grey, with a fourth band.

Each bundle's files are run by their own engines on bytes that Pillow and NumPy prepared, and their logits compared with
the plain PyTorch network that the checkpoint came from.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from checkpoint_samples import lively
from cli_samples import CLASSES, NARROW
from PIL import Image, ImageOps

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.checkpoint.load import save_safetensors
from edge_van.evaluation import evidence
from edge_van.images.decode import as_rgb, decode
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.prediction.predict import PredictOptions
from edge_van.quantization.recipe import load_recipe
from edge_van.starting_point import QuantizeOptions
from edge_van.timing.latency import MIN_ROUNDS

SIZE = (32, 48)  # height, width
CAMERA = (40, 90)
GREY, COLOUR, FOUR = (0.4,), (0.2, 0.4, 0.6), (0.2, 0.4, 0.6, 0.5)
SPREAD = (0.2, 0.25, 0.3, 0.35)
PAD = (200, 100, 20)


@dataclass(frozen=True)
class Case:
    """What the flags say, and for a camera that its size is fixed."""

    mean: tuple[float, ...] = COLOUR
    resize: str = "crop"
    pad_color: tuple[int, ...] | None = None
    channel_order: str = "rgb"
    source_order: str = "rgb"
    source_size: tuple[int, int] | None = None
    uint8: bool = False  # TensorRT's graphs take bytes

    @property
    def channels(self) -> int:
        return len(self.mean)


CASES = {
    "squash": Case(resize="squash"),
    "pad": Case(resize="pad", pad_color=PAD),
    "squash in the graph": Case(resize="squash", source_size=CAMERA),
    "pad in the graph": Case(resize="pad", pad_color=PAD, source_size=CAMERA, source_order="bgr"),
    "pad in the graph, trained on blue first": Case(
        resize="pad", pad_color=PAD, source_size=CAMERA, channel_order="bgr"
    ),
    "pad in the graph, trained and sent blue first": Case(
        resize="pad", pad_color=PAD, source_size=CAMERA, channel_order="bgr", source_order="bgr"
    ),
    "crop of a camera that sends blue first": Case(source_size=CAMERA, source_order="bgr"),
    "trained on blue first": Case(channel_order="bgr", uint8=True),
    "trained and sent blue first": Case(channel_order="bgr", source_order="bgr", uint8=True),
    "sent blue first": Case(source_order="bgr", uint8=True),
    "grey": Case(mean=GREY, uint8=True),
    "grey in the graph": Case(mean=GREY, resize="pad", pad_color=(90,), source_size=CAMERA),
    "four bands": Case(mean=FOUR, source_order="bgr", uint8=True),
}


def photo(case: Case, seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours, so that a pixel's place is what counts and no resize's rounding."""
    bands = 4 if case.channels == 4 else 3
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, bands), np.uint8)
    layers = [Image.fromarray(small[..., i]).resize(size[::-1], Image.Resampling.BICUBIC) for i in range(bands)]
    return Image.merge("RGBA" if bands == 4 else "RGB", layers)


def prepared(image: Image.Image, case: Case) -> np.ndarray:
    """(H, W, C) in 0..255 as the network was trained on, by Pillow and NumPy alone."""
    bands = image.convert("L").split() if case.channels == 1 else image.split()
    height, width = SIZE
    done = []
    for i, band in enumerate(bands):  # each by itself: Pillow multiplies colours by alpha
        if case.resize == "squash":
            band = band.resize((width, height), Image.Resampling.BICUBIC)
        elif case.resize == "pad":
            color = (case.pad_color or (0,) * 4)[i]
            band = ImageOps.pad(band, (width, height), Image.Resampling.BICUBIC, color=color)
        else:
            scale = max(height / band.height, width / band.width)  # torchvision's Resize, then CenterCrop
            sides = (max(int(band.width * scale), width), max(int(band.height * scale), height))
            left, top = round((sides[0] - width) / 2), round((sides[1] - height) / 2)
            band = band.resize(sides, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
        done.append(np.asarray(band))
    array = np.stack(done, 2)
    return array[..., [2, 1, 0, *range(3, case.channels)]] if case.channel_order == "bgr" else array


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
    monkeypatch.setattr(evidence, "LATENCY_S", 0.0)


@dataclass(frozen=True)
class Made:
    bundle: Bundle
    van: VAN
    photos: list[Image.Image]


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, quickly: None) -> Made:
    case: Case = request.param
    torch.manual_seed(0)
    van = lively(VAN(NARROW, len(CLASSES), in_channels=case.channels))
    with torch.no_grad():
        for name, tensor in van.named_parameters():
            if name.endswith((".proj.weight", "head.weight")):
                tensor *= 6  # an untrained network's logits hang on its biases more than on the image
    save_safetensors(
        tmp_path / "v.safetensors",
        van.state_dict(),
        InputSpec(size=SIZE, crop=1.0, mean=case.mean, std=SPREAD[: case.channels], classes=CLASSES),
        None,
        half=False,
    )
    size = case.source_size or (50, 61)
    photos = [photo(case, seed, size) for seed in range(18)]
    for i, image in enumerate(photos):
        folder = tmp_path / "data" / ("val" if i < 9 else "train") / CLASSES[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{i}.png")
    flags = {
        name: getattr(case, name)
        for name in ("resize", "pad_color", "channel_order", "source_order", "source_size")
        if getattr(case, name) != getattr(InputSpec(), name)
    }
    if case.channel_order == "bgr":  # the file's own mean and std are red first
        flags |= {"mean": case.mean, "std": SPREAD[: case.channels]}
    bundle = edge_van.quantize(
        tmp_path / "v.safetensors",
        data=tmp_path / "data",
        output=tmp_path / "b",
        recipe=replace(load_recipe(), samples=9, tensorrt_input="uint8" if case.uint8 else "float32"),
        options=QuantizeOptions(
            spec_overrides=flags, targets=("openvino", "tensorrt") if case.uint8 else ("openvino",)
        ),
    )
    return Made(bundle, van, photos)


def sent(image: Image.Image, case: Case) -> np.ndarray:
    """The bytes that a device sends: as the camera has them, or prepared by the host."""
    trained = prepared(image, case)
    if case.source_size is None:
        swaps = case.channel_order != case.source_order
        return trained[..., [2, 1, 0, *range(3, case.channels)]] if swaps else trained
    array = np.asarray(image.convert("L"))[..., None] if case.channels == 1 else np.asarray(image)
    return array[..., ::-1] if case.source_order == "bgr" else array


@pytest.mark.parametrize(
    ("made", "case"), [(case, case) for case in CASES.values()], ids=list(CASES), indirect=["made"]
)
@torch.no_grad()
def test_a_bundle_computes_what_the_network_was_trained_for(made: Made, case: Case) -> None:
    manifest = made.bundle.manifest
    images = made.photos[:4]
    floats = np.stack([prepared(image, case) for image in images]) / 255.0
    normalised = (floats - np.array(case.mean)) / np.array(SPREAD[: case.channels])
    expected = made.van(torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()).numpy()
    spread = np.abs(expected - expected.mean(0)).max()
    assert spread > 0.05  # else the images would make no difference
    pixels = [np.ascontiguousarray(sent(image, case)) for image in images]
    # two resizes round apart by a step of 255 here and there
    tolerance = 1e-3 if case.source_size is None else 0.05

    model = openvino.Core().compile_model(
        made.bundle.file("openvino_fp32/model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    actual = np.concatenate([model(p[None])[0] for p in pixels])
    assert np.abs(actual - expected).max() < tolerance * spread

    if case.uint8:
        session = onnxruntime.InferenceSession(made.bundle.file("onnx/model_fp16.onnx"))
        [taken] = session.get_inputs()
        assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [*SIZE, case.channels])
        half = session.run(None, {taken.name: np.stack(pixels)})[0]
        assert np.abs(half - expected).max() < 0.05 * spread

    for image, spec in [(image, manifest.input_spec) for image in images[:2]]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        np.testing.assert_array_equal(decode(buffer.getvalue(), spec), sent(image, case))
        seen = as_rgb(decode(buffer.getvalue(), replace(spec, source_size=None)), spec)
        assert seen.shape == (*SIZE, 3)
    with edge_van.open_classifier(made.bundle, runtime="openvino", precision="fp32") as classify:
        logits = np.stack([classify(p).logits for p in pixels])
    np.testing.assert_allclose(logits, actual, atol=1e-5)


@pytest.mark.parametrize("made", [CASES["four bands"]], indirect=True)
def test_an_image_without_the_fourth_band_is_named(made: Made, tmp_path: Path) -> None:
    made.photos[0].convert("RGB").save(tmp_path / "three.png")
    with (
        edge_van.open_classifier(made.bundle) as classify,
        pytest.raises(edge_van.DataError, match="the network takes 4"),
    ):
        classify(tmp_path / "three.png")


@pytest.mark.parametrize("made", [CASES["grey"]], indirect=True)
def test_heat_maps_of_grey_images(made: Made, tmp_path: Path) -> None:
    made.photos[0].save(tmp_path / "one.png")
    cams = tmp_path / "cams"
    [prediction] = edge_van.predict(made.bundle, tmp_path / "one.png", options=PredictOptions(grad_cam=cams))
    assert prediction.grad_cam is not None
    [cam] = cams.glob("*.png")
    assert Image.open(cam).size == SIZE[::-1]
