"""Standard error holds our lines and nothing else, whatever the libraries below would say of a damaged file.

Each in a process of its own: what C and C++ write passes Python by.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_samples import start
from onnx import numpy_helper
from PIL import Image, features

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.files import file_entry
from edge_van.bundle.layout import INT8_IR, OPENVINO_ONNX
from edge_van.bundle.manifest import MANIFEST_NAME, encoded


def said(*arguments: object) -> tuple[int, str, list[str]]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.splitlines()


def picture() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((300, 300))


def file_of(kind: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def garbled(content: bytes, first: int, seed: int = 0) -> bytes:
    """Every hundredth byte or so from ``first`` on is another."""
    generator, changed = np.random.default_rng(seed), bytearray(content)
    for i in generator.integers(first, len(content), len(content) // 100 + 3):
        changed[i] = int(generator.integers(0, 256))
    return bytes(changed)


def damaged_images() -> dict[str, bytes]:
    image, files = picture(), dict[str, bytes]()
    if features.check("libtiff"):
        for name in ("group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "lzma"):
            content = file_of("TIFF", image.convert("1") if name == "group4" else image, compression=name)
            files |= {f"{name}_{seed}.tif": garbled(content, 200 * seed, seed) for seed in range(4)}
            files[f"{name}_cut.tif"] = content[: len(content) * 9 // 10]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", *(("AVIF",) if features.check("avif") else ())):
        content = file_of(kind, image)
        files[f"cut.{kind.lower()}"] = content[: len(content) // 2]
        files[f"garbled.{kind.lower()}"] = garbled(content, 30)
    return files


def test_of_damaged_images_each_has_one_line(timed_bundle: Bundle, tmp_path: Path) -> None:
    files = damaged_images()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, out, lines = said("predict", timed_bundle.path, tmp_path, "--json")
    unusable = len(files) - len(json.loads(out))  # some decode all the same, to other pixels
    assert unusable > 10
    assert code == 1
    assert lines[-1] == (
        f"edge-van: error: {unusable} of {len(files)} images could not be used: replace or leave them out (each is "
        f"named above)"
    )
    named = [line.split(" cannot be used: ")[0] for line in lines[:-1]]
    assert len(set(named)) == len(named) == unusable, lines
    assert {Path(name).name for name in named} <= set(files), lines


def no_reshape(path: Path) -> None:
    """An ONNX file that loads and fails when it is run."""
    model = onnx.load(path)
    shape = next(node for node in model.graph.node if node.op_type == "Reshape").input[1]
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == shape]
    tensor.CopyFrom(numpy_helper.from_array(np.array([-1, 8, 999983], np.int64), shape))
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        (INT8_IR, lambda path: path.write_bytes(b""), "OpenVINO cannot load model.xml: it is no OpenVINO IR"),
        (INT8_IR, lambda path: path.write_text("<net/>"), "OpenVINO cannot load model.xml: it is no OpenVINO IR"),
        (INT8_IR, cut, "OpenVINO cannot load model.xml: "),
        (INT8_IR.replace(".xml", ".bin"), cut, "OpenVINO cannot load model.xml: Incorrect weights in bin file"),
        (OPENVINO_ONNX, cut, "ONNX Runtime cannot load model_openvino.onnx: [ONNXRuntimeError] : 7"),
        (OPENVINO_ONNX, no_reshape, "ONNX Runtime cannot run model_openvino.onnx: [ONNXRuntimeError] : 1 : FAIL"),
    ],
    ids=["empty IR", "no IR", "cut IR", "cut weights", "cut ONNX", "ONNX that fails"],
)
def test_of_a_damaged_model_there_is_one_line(
    timed_bundle: Bundle, tmp_path: Path, file: str, damage: Callable[[Path], object], says: str
) -> None:
    """It was damaged before the bundle was made: its sha256 is right."""
    bundle = Path(shutil.copytree(timed_bundle.path, tmp_path / "b"))
    damage(bundle / file)
    manifest = open_bundle(bundle).manifest
    entries = tuple(file_entry(bundle, entry.path) for entry in manifest.files)
    (bundle / MANIFEST_NAME).write_bytes(encoded(replace(manifest, files=entries)))
    picture().save(tmp_path / "image.png")
    runtime = "onnxruntime" if file == OPENVINO_ONNX else "openvino"
    code, out, lines = said("predict", bundle, tmp_path / "image.png", "--runtime", runtime)
    assert (code, out, len(lines)) == (1, "", 1), lines
    assert lines[0].startswith(f"edge-van: error: {says}")
    assert lines[0].endswith("make or copy the bundle again")
