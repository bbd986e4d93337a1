"""``edge_van.export.onnx_resize``: the file that quantising at the new size would write with the same ranges."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from narrow import NARROW, normal_images
from onnx import numpy_helper

from edge_van.errors import BundleError
from edge_van.export.onnx import export_onnx
from edge_van.export.onnx_resize import resized_graph
from edge_van.export.precision import to_float16, with_uint8_input
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import open_model

OLD = (64, 64)
SIZES = ((48, 48), (33, 50), (16, 16))


@pytest.fixture(scope="module")
def van() -> VAN:
    torch.manual_seed(0)
    return VAN(NARROW, 7).eval()


@pytest.fixture(scope="module", params=["openvino", "int8", "openvino_arm"])
def written(request: pytest.FixtureRequest, van: VAN, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """A scheme's file at the old size, and those at the others as torch's graph of the same ranges gives them."""
    folder, scheme = tmp_path_factory.mktemp(request.param), SCHEMES[request.param]
    before = calibrate(fold(van, OLD)[0], [normal_images(4, *OLD)], scheme)
    files: dict[Any, Path] = {}
    for size in (OLD, *SIZES):
        calibrated = calibrate(fold(van, size)[0], [normal_images(2, *size)], scheme)
        for name, observer in before.observed.named_children():
            if name.startswith("activation_post_process"):
                setattr(calibrated.observed, name, copy.deepcopy(observer))
        files[size] = folder / f"{size}.onnx"
        export_onnx(convert(calibrated), files[size], normal_images(2, *size))
    return files


def run(path: Path, images: np.ndarray) -> np.ndarray:
    with open_model("onnxruntime", path, exact=True) as session:
        return session.run({session.inputs[0].name: images})["logits"]


def tensors(model: Any) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if "shape" not in t.name}


def shapes_of(model: Any) -> dict[str, list[Any]]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_file_of_the_same_ranges_at_that_size(
    written: dict[Any, Path], tmp_path: Path, size: tuple[int, int]
) -> None:
    made, anew = resized_graph(onnx.load(written[OLD]), OLD, size), onnx.load(written[size])
    onnx.checker.check_model(made, full_check=True)
    mine, theirs = tensors(made), tensors(anew)
    assert mine.keys() == theirs.keys()
    for name, values in theirs.items():
        assert values.dtype == mine[name].dtype
        np.testing.assert_array_equal(mine[name], values, err_msg=name)
    assert shapes_of(made) == shapes_of(anew)
    onnx.save(made, tmp_path / "made.onnx")
    batch = normal_images(5, *size, seed=3).numpy()
    np.testing.assert_array_equal(run(tmp_path / "made.onnx", batch), run(written[size], batch))


@pytest.mark.parametrize(("old", "size"), [(OLD, (33, 50)), ((224, 224), (288, 240))])
def test_a_float_graph_is_the_checkpoint_at_that_size(
    van: VAN, tmp_path: Path, old: tuple[int, int], size: tuple[int, int]
) -> None:
    export_onnx(fold(van, old)[0], tmp_path / "old.onnx", normal_images(2, *old))
    onnx.save(resized_graph(onnx.load(tmp_path / "old.onnx"), old, size), tmp_path / "new.onnx")
    batch = normal_images(3, *size)
    with torch.no_grad():
        np.testing.assert_allclose(run(tmp_path / "new.onnx", batch.numpy()), van(batch).numpy(), atol=1e-4)


def test_float16_and_bytes_come_before_or_after(graphs: dict[str, Path], tmp_path: Path) -> None:
    """Typed first and resized then, as a bundle's files are, or the other way round: the same graph."""
    size = (33, 50)

    def typed(model: Any, of: tuple[int, int]) -> Any:
        return with_uint8_input(to_float16(model), InputSpec(size=of))

    source = onnx.load(graphs["int8"])
    made, other = resized_graph(typed(source, OLD), OLD, size), typed(resized_graph(source, OLD, size), size)
    onnx.checker.check_model(made, full_check=True)
    assert [made.graph.input, made.graph.node, sorted(tensors(made))] == [
        other.graph.input,
        other.graph.node,
        sorted(tensors(other)),
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    for name, model in (("made", made), ("other", other)):
        onnx.save(model, tmp_path / f"{name}.onnx")
    np.testing.assert_array_equal(run(tmp_path / "made.onnx", pixels), run(tmp_path / "other.onnx", pixels))


def test_the_source_stays_and_its_own_size_changes_nothing(graphs: dict[str, Path]) -> None:
    source = onnx.load(graphs["int8"])
    before = source.SerializeToString()
    same = resized_graph(source, OLD, OLD)
    assert source.SerializeToString() == before
    assert tensors(same).keys() == tensors(source).keys()
    assert [n.output for n in same.graph.node] == [n.output for n in source.graph.node]


def remove_a_reshape(graph: Any) -> None:
    node = next(n for n in graph.node if n.op_type == "Reshape")
    node.op_type = "Flatten"


def shape_of_another_map(graph: Any) -> None:
    node = next(n for n in graph.node if n.op_type == "Reshape")
    [tensor] = [t for t in graph.initializer if t.name == node.input[1]]
    tensor.CopyFrom(numpy_helper.from_array(np.array([-1, 8, 255], np.int64), tensor.name))


def shape_that_is_computed(graph: Any) -> None:
    next(n for n in graph.node if n.op_type == "Reshape").input[1] = "images"


def input_of_another_size(graph: Any) -> None:
    graph.input[0].type.tensor_type.shape.dim[3].dim_value = 32


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove_a_reshape, "7 Reshape nodes"),
        (shape_of_another_map, r"makes \[-1, 8, 255\] of a map of 16x16"),
        (shape_that_is_computed, "no constant shape"),
        (input_of_another_size, "not images of 64x64 px"),
    ],
)
def test_a_graph_of_another_form_is_refused(graphs: dict[str, Path], spoil: Callable[[Any], None], words: str) -> None:
    model = onnx.load(graphs["int8"])
    spoil(model.graph)
    with pytest.raises(BundleError, match=f"{words}.*make the bundle again"):
        resized_graph(model, OLD, (48, 48))
