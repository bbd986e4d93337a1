"""``bundle.golden``: what a device is checked with, read back; a damaged or hostile file is one clear line."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import MANIFEST, one_line

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import CAMERA, PIXELS, read_golden
from edge_van.bundle.layout import FP32_IR, GOLDEN
from edge_van.bundle.manifest import encoded
from edge_van.bundle.records import GoldenRecord, Manifest
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import BundleError

CLASSES = MANIFEST.num_classes
SIZE = MANIFEST.input_spec.size
RECORD = GoldenRecord(2, {FP32_IR: 40.0})


def arrays(**changes: Any) -> dict[str, Any]:
    return {PIXELS: np.zeros((2, *SIZE, 3), np.uint8), FP32_IR: np.ones((2, CLASSES), np.float32)} | changes


def bundle(folder: Path, content: dict[str, Any] | bytes, **changes: Any) -> Bundle:
    with BundleWriter(folder / "b") as writer:
        path = writer.path(GOLDEN)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)
        return writer.finish(replace(MANIFEST, **{"golden": RECORD, **changes}))


def test_it_is_read_back(tmp_path: Path) -> None:
    golden = read_golden(bundle(tmp_path, arrays()))
    assert golden.pixels.shape == (2, *SIZE, 3)
    assert golden.camera is None
    assert golden.logits[FP32_IR].sum() == 2 * CLASSES


def test_a_cameras_images_are_beside(tmp_path: Path) -> None:
    spec = replace(MANIFEST.input_spec, source_size=(80, 96))
    content = arrays(**{CAMERA: np.zeros((2, 80, 96, 3), np.uint8)})
    camera = read_golden(bundle(tmp_path, content, input_spec=spec)).camera
    assert camera is not None
    assert camera.shape == (2, 80, 96, 3)


class Evil:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays(**{PIXELS: np.array([Evil()], object)}))
    assert pickle.dumps(Evil()) is not None
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"no archive", "cannot be read"),
        (b"", "cannot be read"),
        (pickled(), "cannot be read"),
        ({PIXELS: arrays()[PIXELS]}, "cannot be read"),
        (arrays(**{FP32_IR: np.ones((2, CLASSES + 1), np.float32)}), "does not fit"),
        (arrays(**{FP32_IR: np.ones((2, CLASSES), np.int8)}), "does not fit"),
        (arrays(**{PIXELS: np.zeros((1, *SIZE, 3), np.uint8)}), "does not fit"),
        (arrays(**{PIXELS: np.zeros((2, 3, 3, 3), np.uint8)}), "does not fit"),
        (arrays(**{PIXELS: np.float32(0)}), "does not fit"),
    ],
    ids=["text", "empty", "pickle", "no logits", "classes", "integers", "images", "size", "scalar"],
)
def test_what_is_no_golden_file(tmp_path: Path, content: dict[str, Any] | bytes, word: str) -> None:
    made = bundle(tmp_path, content)
    with pytest.raises(BundleError) as caught:
        read_golden(made)
    one_line(caught, word, "make the bundle again")


def test_an_older_bundle_has_none(tmp_path: Path) -> None:
    made = bundle(tmp_path, arrays(), golden=None)
    with pytest.raises(BundleError) as caught:
        read_golden(made)
    one_line(caught, "no golden images", "edge-van quantize")


def test_a_changed_byte(tmp_path: Path) -> None:
    made = bundle(tmp_path, arrays())
    path = made.file(GOLDEN)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="damaged"):
        read_golden(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"golden": RECORD},  # lists no such file
        {"golden": replace(RECORD, images=0)},
        {"golden": replace(RECORD, floors_db={FP32_IR: float("inf")})},
    ],
)
def test_a_manifest_that_contradicts_itself(changes: dict[str, Any]) -> None:
    content: Manifest = replace(MANIFEST, **changes)
    with pytest.raises(BundleError):
        encoded(content)
