"""Small real bundles for the tests, and what their messages must look like."""

from pathlib import Path
from typing import Any

import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.recipe import Recipe
from edge_van.bundle.records import (
    MANIFEST_SCHEMA_VERSION,
    Accuracy,
    CalibrationRecord,
    FoldRecord,
    Interval,
    Manifest,
    SchemeResult,
)
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import EdgeVanError
from edge_van.input_spec import InputSpec
from edge_van.machine import Machine

RECIPE = Recipe(
    samples=300,
    equalize_strength=0.5,
    activation="gelu",
    openvino_scheme="openvino",
    tensorrt_schemes=("int8", "int8_pointwise"),
    tensorrt_float="float16",
    tensorrt_input="float32",
    tensorrt_images=1000,
    max_drop_points=1.0,
    batch=25,
)
MANIFEST = Manifest(
    schema_version=MANIFEST_SCHEMA_VERSION,
    edge_van_version="0.1.0",
    created="2026-01-02T03:04:05Z",
    variant="b0",
    num_classes=2,
    checkpoint="van_b0.safetensors",
    checkpoint_sha256="ab" * 32,
    checkpoint_layout="official",
    input_spec=InputSpec(classes=("cat", "dog")),
    method="ptq",
    recipe=RECIPE,
    fold=FoldRecord(12, 3, 7e-6),
    calibration=CalibrationRecord("folder", 300, 2, 0),
    schemes=(SchemeResult("openvino", "openvino/model.xml", False, ("conv",), 74, 31.5, 99.0, 64),),
    versions={"openvino": "2026.4.1"},
    files=(),
    machine=Machine("a cpu", "x86_64", 2, 4, 7.5, ("avx2",), "Linux", "3.11.7", {"numpy": "2.4"}, 0.5),
)
ACCURACY = Accuracy("folder", 50, 0, 80.0, 79.0, None, None, 1.0, Interval(-1.0, 3.0), 98.0, 30.0)


def make(output: Path, content: bytes = b"weights", **options: Any) -> Bundle:
    with BundleWriter(output, **options) as writer:
        writer.path("openvino/model.bin").write_bytes(content)
        writer.path("model.xml").write_bytes(b"<net/>")
        return writer.finish(MANIFEST)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def one_line(caught: pytest.ExceptionInfo[EdgeVanError], *words: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


UNSAFE = [
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "",
    ".",
    "./a",
    "a/",
    "C:/x",
    "c:x",
    "a\\b",
    "a\nb",
    "a\x00",
    "\ud800",
]
