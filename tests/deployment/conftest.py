"""A bundle that a device can be given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_samples import ACCURACY, MANIFEST
from deployment.jetsons import DROPS, FILES

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import PIXELS
from edge_van.bundle.layout import FP32_IR, GOLDEN, INT8_IR
from edge_van.bundle.records import GoldenRecord, SchemeResult
from edge_van.bundle.writer import BundleWriter
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import exact_graph


@pytest.fixture(scope="module")
def device_bundle(timed_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The narrow VAN's IRs with golden logits, computed as the files are written; read-only."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    logits = {}
    for file in (FP32_IR, INT8_IR):
        with open_model("openvino", timed_bundle.file(file), exact=True) as session:
            name = session.outputs[0].name
            logits[file] = np.concatenate([session.run({"images": image[None]})[name] for image in pixels])
    two = np.sort(logits[INT8_IR], axis=1)[:, -2:]
    surest = np.argsort(two[:, 0] - two[:, 1])[:4]  # an untrained network is sure of little
    pixels, logits = pixels[surest], {file: values[surest] for file, values in logits.items()}
    with BundleWriter(tmp_path_factory.mktemp("device") / "narrow_int8") as writer:
        for entry in timed_bundle.manifest.files:
            writer.path(entry.path).write_bytes(Path(timed_bundle.file(entry.path)).read_bytes())
        np.savez(writer.path(GOLDEN), **{PIXELS: pixels, **logits})
        golden = GoldenRecord(len(pixels), {FP32_IR: 40.0, INT8_IR: 10.0})
        manifest = replace(timed_bundle.manifest, golden=golden, accuracy=replace(ACCURACY, drop_points=0.5))
        return writer.finish(replace(manifest, recipe=MANIFEST.recipe))


@pytest.fixture(scope="module")
def jetson_bundle(timed_bundle: Bundle, graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The narrow VAN's graphs for TensorRT with golden logits of two images."""
    spec = InputSpec(size=(64, 64))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    logits = {}
    with BundleWriter(tmp_path_factory.mktemp("jetson") / "narrow_int8") as writer:
        for name, file in FILES.items():
            writer.path(file).write_bytes(graphs[name].read_bytes())
            with open_image_model(exact_graph(graphs[name]), spec, 7, batch=1) as model:
                logits[file] = model.logits(pixels).astype(np.float32)
        np.savez(writer.path(GOLDEN), **{PIXELS: pixels, **logits})
        schemes = tuple(
            SchemeResult(
                name=name,
                file=file,
                symmetric=True,
                roles=(),
                quantized_layers=0 if name == "fp32" else 9,
                logit_sqnr_db=30.0,
                agreement_percent=99.0,
                images=64,
                target="tensorrt",
                accuracy=replace(ACCURACY, model=name, drop_points=DROPS[name]),
            )
            for name, file in FILES.items()
        )
        golden = GoldenRecord(2, dict.fromkeys(FILES.values(), 20.0))
        return writer.finish(replace(timed_bundle.manifest, input_spec=spec, schemes=schemes, golden=golden))


@pytest.fixture
def graph_files(graphs: dict[str, Path]) -> dict[str, Path]:
    return {name: graphs[name] for name in FILES}
