"""``edge_van.runtimes.normalized``: bytes in, whatever the model takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_van.errors import BundleError, UsageError
from edge_van.export.precision import with_uint8_input
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.normalized import NormalizedSession

SPEC = InputSpec((64, 64), 1.0, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def test_a_float_model_gets_normalised_images(graphs: dict[str, Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    floats = ((pixels / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)).transpose(0, 3, 1, 2).astype(np.float32)
    with open_model("onnxruntime", graphs["fp32"]) as plain:
        expected = plain.run({"images": floats})["logits"]
    with NormalizedSession(open_model("onnxruntime", graphs["fp32"]), SPEC) as session:
        assert session.inputs[0].shape == (None, 64, 64, 3)
        assert session.runtime == "onnxruntime"
        found = session.run({"images": pixels})["logits"]
        with pytest.raises(UsageError, match="uint8"):
            session.run({"images": floats})
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("changed", [{"size": (96, 64)}, {"mean": (0.5,), "std": (0.5,)}])
def test_a_model_that_is_not_the_manifests_is_a_damaged_bundle(
    graphs: dict[str, Path], tmp_path: Path, changed: dict[str, tuple[float, ...]]
) -> None:
    path = tmp_path / "bytes.onnx"
    path.write_bytes(with_uint8_input(onnx.load(graphs["fp32"]), SPEC).SerializeToString())
    for file in (graphs["fp32"], path):
        with open_model("onnxruntime", file) as session:
            with pytest.raises(BundleError, match=r"takes images \(.*its manifest says \(.*: make the bundle again"):
                NormalizedSession(session, replace(SPEC, **changed))
            NormalizedSession(session, replace(SPEC, source_size=(100, 200)))


def test_a_model_that_takes_bytes_is_passed_through(graphs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "bytes.onnx"
    path.write_bytes(with_uint8_input(onnx.load(graphs["fp32"]), SPEC).SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with open_model("onnxruntime", path) as plain, NormalizedSession(open_model("onnxruntime", path), SPEC) as session:
        assert session.inputs == plain.inputs
        assert np.array_equal(plain.run({"images": pixels})["logits"], session.run({"images": pixels})["logits"])
