"""``runtimes.image_model``: images are split among requests, and come back in their order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR
from edge_van.errors import UsageError
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.image_model import LARGEST_PART, ImageModel, open_image_model
from edge_van.runtimes.model_file import ModelFile, exact_graph
from edge_van.statistics import sqnr_db

SPEC = InputSpec(size=(64, 64))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3 * LARGEST_PART + 5, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def one_by_one(timed_bundle: Bundle, pixels: np.ndarray) -> np.ndarray:
    with open_image_model(ModelFile("fp32", "openvino", timed_bundle.file(FP32_IR)), SPEC, 7, batch=1) as model:
        return model.logits(pixels)


@pytest.mark.parametrize("requests", [1, 3])
def test_requests_change_nothing_but_the_time(
    timed_bundle: Bundle, pixels: np.ndarray, one_by_one: np.ndarray, requests: int
):
    session = open_model("openvino", timed_bundle.file(FP32_IR), batch=4, streams=requests)
    with ImageModel(session, SPEC, 7, requests=requests) as model:
        for images in (pixels, pixels[:1], pixels[7:10]):
            start = 7 if len(images) == 3 else 0
            expected = one_by_one[start : start + len(images)]
            np.testing.assert_allclose(model.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_without_a_batch_a_few_are_under_way_at_a_time(
    timed_bundle: Bundle, pixels: np.ndarray, one_by_one: np.ndarray
):
    file = ModelFile("fp32", "openvino", timed_bundle.file(FP32_IR))
    with open_image_model(file, SPEC, 7) as model:
        np.testing.assert_allclose(model.logits(pixels), one_by_one, rtol=1e-4, atol=1e-4)
        assert model.session.inputs[0].shape[0] == LARGEST_PART
        assert model.batch >= LARGEST_PART


def test_an_engine_without_siblings_has_one_request(graphs: dict[str, Path]):
    session = exact_graph(graphs["fp32"]).open()
    with pytest.raises(UsageError, match="only OpenVINO runs several requests"):
        ImageModel(session, SPEC, 7, requests=2)
    session.close()


def test_an_error_of_a_request_reaches_the_caller(timed_bundle: Bundle, pixels: np.ndarray):
    session = open_model("openvino", timed_bundle.file(FP32_IR), batch=4, streams=2)
    with (
        ImageModel(session, SPEC, 7, requests=2) as model,
        pytest.raises(UsageError, match=r"takes uint8 \(4, 64, 64, 3\)"),
    ):
        model.logits(pixels[:, :32])
    # closed in spite of it, with no thread left


@pytest.mark.parametrize("options", [{"streams": 2}, {"throughput": True}])
def test_a_graph_is_computed_exactly_by_one_stream(graphs: dict[str, Path], options: dict[str, Any]):
    """With two, one compilation in five computed other logits."""
    with pytest.raises(UsageError, match="by one stream"):
        open_model("openvino", graphs["int8"], exact=True, **options)


def test_exact_graphs_agree_in_every_compilation(graphs: dict[str, Path], pixels: np.ndarray):
    file = ModelFile("int8", "openvino", graphs["int8"], {"exact": True})
    with open_image_model(file, SPEC, 7, batch=1) as model:
        expected = model.logits(pixels)
    for _ in range(10):
        with open_image_model(file, SPEC, 7) as model:
            assert sqnr_db(expected, model.logits(pixels)) > 15.0  # the wrong ones are under 5
