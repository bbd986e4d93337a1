"""A network whose roundings are far apart, and that is sound: its bundle is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from checkpoint_samples import lively
from cli_samples import CLASSES, NARROW, image_folders

import edge_van
from edge_van.checkpoint.load import save_safetensors
from edge_van.evaluation import evidence
from edge_van.images.decode import decode
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.quantization.recipe import load_recipe
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.starting_point import QuantizeOptions
from edge_van.statistics import sqnr_db
from edge_van.timing.latency import MIN_ROUNDS


@pytest.mark.parametrize("seed", [1, 2])
def test_an_unusual_kernel_of_random_weights_is_exported(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K = 7, d = 2, weights that amplify: INT8's rounding in OpenVINO and in the graph as written are far apart."""
    monkeypatch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
    monkeypatch.setattr(evidence, "LATENCY_S", 0.0)
    torch.manual_seed(seed)
    van = lively(VAN(NARROW, len(CLASSES), kernel_size=7, dilation=2))
    with torch.no_grad():
        for tensor in van.parameters():
            if tensor.ndim > 1:
                tensor *= 12
    spec = InputSpec(size=(32, 32), crop=1.0, mean=(0.5,) * 3, std=(0.25,) * 3, classes=CLASSES)
    save_safetensors(tmp_path / "v.safetensors", van.state_dict(), spec, None, half=False)
    data = image_folders(tmp_path / "data", {"train": 5, "val": 4})
    bundle = edge_van.quantize(
        tmp_path / "v.safetensors",
        data=data,
        output=tmp_path / "b",
        recipe=replace(load_recipe(), samples=9, openvino_scheme="openvino_fast"),
        options=QuantizeOptions(targets=("openvino",)),
    )
    model = openvino.Core().compile_model(bundle.file("openvino/model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with open_images(data / "val") as images:
        pixels = np.stack([decode(images.read(i), spec) for i in range(len(images))])
    normalised = torch.from_numpy(((pixels / 255.0 - 0.5) / 0.25).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        expected = van(normalised).numpy()
    int8 = np.concatenate([model(p[None])[0] for p in pixels])
    with open_image_model(exact_graph(bundle.file("onnx/model_openvino.onnx")), spec, len(CLASSES)) as graph:
        written = graph.logits(pixels)
    assert sqnr_db(written, int8) < 11.8  # two roundings far apart, of which the kernels' is no worse
    assert sqnr_db(expected, int8) > sqnr_db(expected, written) - 3.0
