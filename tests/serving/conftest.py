"""A small real bundle with golden images, and one that holds an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_samples import ACCURACY

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet
from edge_van.bundle.golden import PIXELS
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, GOLDEN, INT8_IR, plan_path
from edge_van.bundle.records import GoldenRecord, SchemeResult
from edge_van.bundle.writer import BundleWriter
from edge_van.runtimes import open_model
from edge_van.storage.files import sha256_of

CLASSES = ("ant", "bee", 'cow "moo"', "dog\nnewline", "eel", "füchsin", "gnu")
TARGET = "orin"


def copied(bundle: Bundle, writer: BundleWriter) -> None:
    for entry in bundle.manifest.files:
        writer.path(entry.path).write_bytes(bundle.file(entry.path).read_bytes())


@pytest.fixture(scope="module")
def golden_bundle(timed_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The narrow VAN's IRs with golden logits, computed as the files are written; with names of classes; read-only.

    The images are coloured, so that a network that sees red as blue answers otherwise.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    pixels[..., 0] //= 4
    logits = {}
    for file in (FP32_IR, INT8_IR):
        with open_model("openvino", timed_bundle.file(file), exact=True) as session:
            name = session.outputs[0].name
            logits[file] = np.concatenate([session.run({"images": image[None]})[name] for image in pixels])
    spec = replace(timed_bundle.manifest.input_spec, classes=CLASSES)
    with BundleWriter(tmp_path_factory.mktemp("golden") / "narrow_int8") as writer:
        copied(timed_bundle, writer)
        np.savez(writer.path(GOLDEN), **{PIXELS: pixels, **logits})
        golden = GoldenRecord(len(pixels), {FP32_IR: 40.0, INT8_IR: 10.0})
        return writer.finish(replace(timed_bundle.manifest, golden=golden, accuracy=ACCURACY, input_spec=spec))


@pytest.fixture(scope="module")
def engine_bundle(golden_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As if ``edge-van build`` had run on a GPU: the plan is bytes that nothing here opens."""
    scheme = SchemeResult("fp32", FP32_ONNX, True, (), 0, 90.0, 100.0, 64, target="tensorrt")
    with BundleWriter(tmp_path_factory.mktemp("engine") / "narrow_int8") as writer:
        copied(golden_bundle, writer)
        plan: Path = writer.path(plan_path(TARGET, "fp32"))
        plan.write_bytes(b"a plan of a GPU that is not here")
        record = EngineRecord(
            schema_version=1,
            scheme="fp32",
            runtime="tensorrt",
            version="10.3.0",
            compute_capabilities=("8.7",),
            gpu="Orin",
            onnx="model.onnx",
            onnx_sha256=sha256_of(golden_bundle.file(FP32_ONNX)),
            plan_sha256=sha256_of(plan),
            plan_bytes=plan.stat().st_size,
            build_s=1.0,
            timing_cache="none",
            layers=(),
        )
        engines = {TARGET: EngineSet((record,), EngineChoice("fp32", 1.0, "fastest", ()))}
        manifest = golden_bundle.manifest
        return writer.finish(replace(manifest, engines=engines, schemes=(*manifest.schemes, scheme)))
