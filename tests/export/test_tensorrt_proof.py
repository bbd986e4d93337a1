"""The proof of precision on the real networks: b0 as trained in all four schemes, b1 and b2 with random weights in
INT8, each built for three generations of cards, and every convolution in the datatype its scheme says.

b1 and b2 are slow; ``benchmarks/tensorrt_engines.py`` builds and counts them too, and publishes what it found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from edge_van.assets import DEMO_CHECKPOINT, asset
from edge_van.bundle.records import SchemeResult
from edge_van.checkpoint.load import load_checkpoint
from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.export.job import ExportJob, take_probe
from edge_van.images.sets import open_images
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.model.variants import get_variant
from edge_van.pipeline import export_files
from edge_van.progress import UNWATCHED
from edge_van.quantization.calibration import load_calibration
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import prepare

pytest.importorskip("tensorrt_rtx")
CARDS = ("8.6", "8.9", "12.0")
Made = tuple[Path, dict[str, SchemeResult]]


SLOW = [pytest.param(variant, marks=pytest.mark.slow) for variant in ("b1", "b2")]


@pytest.fixture(scope="module", params=["b0", *SLOW])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    """A variant's TensorRT graphs, calibrated on a few images: what they are worth does not matter here."""
    root = tmp_path_factory.mktemp(request.param)
    noise = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(root / f"{i}.png")
    demo = load_checkpoint(asset(DEMO_CHECKPOINT))
    torch.manual_seed(0)
    van = demo.van if request.param == "b0" else VAN(request.param, 10).eval()
    folded, _ = fold(van, demo.spec.size)

    def place(relative: str) -> Path:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        return root / relative

    with open_images(root, labelled=False) as images:
        calibration = load_calibration(images, demo.spec, samples=4, seed=0, batch=4).images
        recipe = replace(load_recipe(), samples=4)
        probe = take_probe(images, demo.spec, folded, UNWATCHED)
        prepared = prepare(folded, calibration, recipe, UNWATCHED)
        job = ExportJob(place, demo.spec, folded, calibration, probe, UNWATCHED)
        found = export_files(job, prepared, recipe, ("tensorrt",))
    assert found.warnings == ()
    return request.param, (root, {s.name: s for s in found.schemes})


def test_every_graph_keeps_the_rules(made: tuple[str, Made]) -> None:
    variant, (root, schemes) = made
    blocks = sum(get_variant(variant).depths)
    layers = {"int8": 4 + 8 * blocks, "int8_pointwise": 4 + 5 * blocks, "fp16": 0, "fp32": 0}
    for name, scheme in schemes.items():
        model = onnx.load(root / scheme.file)
        onnx.checker.check_model(model, full_check=True)
        assert len(check_qdq_rules(model).int8_layers) == layers[name]
    assert blocks != 13 or layers["int8"] == 108


@pytest.mark.parametrize("card", CARDS)
def test_every_convolution_runs_as_its_scheme_says(made: tuple[str, Made], tmp_path: Path, card: str) -> None:
    variant, (root, schemes) = made
    blocks = sum(get_variant(variant).depths)
    full, pointwise = 4 + 8 * blocks + 1, 4 + 5 * blocks
    expected = {
        "int8": {("int8", "int8"): full - 1, ("fp16", "fp16"): 1},
        "int8_pointwise": {("int8", "int8"): pointwise, ("fp16", "fp16"): 3 * blocks + 1},
        "fp16": {("fp16", "fp16"): full},
        "fp32": {("fp32", "fp32"): full},
    }
    for name in expected if variant == "b0" else ("int8", "int8_pointwise"):
        record = build_engine(root / schemes[name].file, tmp_path, name, BuildOptions("tensorrt_rtx", (card,)))
        assert Counter((row.scheme, row.runs_in) for row in record.layers) == expected[name]
        assert record.warnings == ()
