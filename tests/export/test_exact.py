"""``export.exact``: what OpenVINO computes of a file is what the file says, whatever its float type."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_van.errors import VerificationError
from edge_van.export.exact import exact_file, write_float32
from edge_van.export.precision import to_float16
from edge_van.export.rounded import write_rounded
from edge_van.input_spec import InputSpec
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import ModelFile, exact_graph
from edge_van.statistics import sqnr_db

SPEC = InputSpec(size=(64, 64))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), np.uint8)


def logits(file: ModelFile, pixels: np.ndarray) -> np.ndarray:
    with open_image_model(file, SPEC, 7) as model:
        return model.logits(pixels).astype(np.float32)


def in_float16(path: Path, folder: Path) -> Path:
    target = folder / path.name
    onnx.save(to_float16(onnx.load(path)), target)
    return target


@pytest.mark.parametrize("name", ["int8", "int8_pointwise"])
def test_a_graph_in_float16_is_computed_as_onnx_runtime_does(
    graphs: dict[str, Path], tmp_path: Path, pixels: np.ndarray, name: str
):
    half = in_float16(graphs[name], tmp_path)
    with exact_file(half) as exact:
        assert exact.path != half
        found = logits(exact, pixels)
    fp32, reference = logits(exact_graph(graphs["fp32"]), pixels), logits(exact_graph(half), pixels)
    noise_db = sqnr_db(fp32, reference)
    assert 10 < noise_db < 50  # it is quantised
    assert sqnr_db(reference, found) > noise_db + 3  # they differ by ties, not by what quantisation costs
    assert sqnr_db(fp32, found) == pytest.approx(noise_db, abs=0.7)


def test_one_without_float16_is_opened_where_it_is(graphs: dict[str, Path], tmp_path: Path):
    with exact_file(graphs["int8"]) as exact:
        assert exact.path == graphs["int8"]
    assert not write_float32(graphs["int8"], tmp_path / "copy.onnx")
    assert not (tmp_path / "copy.onnx").exists()


def test_rounding_to_bfloat16_is_kept(graphs: dict[str, Path], tmp_path: Path, pixels: np.ndarray):
    """An engine may take a cast there and back for nothing: then the rounded network would be the exact one."""
    rounded = tmp_path / "rounded.onnx"
    write_rounded(graphs["fp32"], rounded, "bf16")
    fp32 = logits(exact_graph(graphs["fp32"]), pixels)
    with exact_file(rounded) as exact:
        found = sqnr_db(fp32, logits(exact, pixels))
    assert found == pytest.approx(sqnr_db(fp32, logits(exact_graph(rounded), pixels)), abs=1.0)
    assert found < 60


def test_a_file_that_would_be_half_converted_is_refused(graphs: dict[str, Path], tmp_path: Path):
    model = onnx.load(graphs["fp32"])
    half = onnx.numpy_helper.from_array(np.zeros(1, np.float16))
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["of_a_stranger"], value=half))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float16), "a_half"))
    onnx.save(model, tmp_path / "odd.onnx")
    with (
        pytest.raises(VerificationError, match=r"odd\.onnx makes float16 of of_a_stranger"),
        exact_file(tmp_path / "odd.onnx"),
    ):
        pass
