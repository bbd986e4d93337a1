"""``cli.tables_predict``: which heat map is whose, what they are made with, and a next command that can be run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import MANIFEST

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.records import FileEntry
from edge_van.cli.tables_predict import show_predictions
from edge_van.prediction.answers import HeatMap, Prediction
from edge_van.prediction.predict import PredictOptions
from edge_van.prediction.scores import ClassScore

TENSORRT = "onnx/model_int8.onnx"
IMAGE = Path("my images/a.png")
[_SCHEME] = MANIFEST.schemes


def bundle(*, openvino: bool = True, activation: str = "gelu") -> Bundle:
    """A bundle's manifest; the files are not looked at."""
    files = (FP32_ONNX, TENSORRT, *((FP32_IR, INT8_IR, OPENVINO_ONNX) if openvino else ()))
    scheme = replace(_SCHEME, name="int8", file=TENSORRT, target="tensorrt")
    plain = replace(scheme, name="fp16", file="onnx/model_fp16.onnx", quantized_layers=0)
    content = replace(
        MANIFEST,
        files=tuple(FileEntry(name, 1, "ab" * 32) for name in files),
        schemes=(*((_SCHEME,) if openvino else ()), scheme, plain),
        recipe=replace(MANIFEST.recipe, activation=activation),
    )
    return Bundle(Path("the bundle"), content)


def prediction(model: str = INT8_IR, heat_map: HeatMap | None = None, image: str = "a.png") -> Prediction:
    scores = (ClassScore(0, "cat", 0.75, 2.0), ClassScore(1, "dog", 0.25, 1.0))
    return Prediction(image, scores, heat_map, model, "openvino")


def shown(
    capsys: pytest.CaptureFixture[str], found: list[Prediction], at: Bundle | None = None, **options: object
) -> list[str]:
    show_predictions(found, bundle() if at is None else at, [IMAGE], PredictOptions(**options))  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ""),
        ({"runtime": "onnxruntime", "scheme": "int8", "top_k": 3}, "--runtime onnxruntime --scheme int8 --top-k 3 "),
        ({"precision": "fp32"}, "--precision fp32 "),
    ],
)
def test_the_same_model_is_suggested_for_grad_cam(
    capsys: pytest.CaptureFixture[str], options: dict[str, object], said: str
) -> None:
    last = shown(capsys, [prediction()], **options)[-1]
    assert last == f"Next:   edge-van predict 'the bundle' 'my images/a.png' {said}--grad-cam heat_maps"


@pytest.mark.parametrize(
    ("model", "openvino", "options", "said"),
    [
        ("tensorrt/orin/fp16/model.engine", True, {"engine": "orin"}, " --engine orin"),
        ("tensorrt/orin/fp16/model.engine", True, {"engine": "orin", "scheme": "fp16"}, " --engine orin --scheme fp16"),
        (INT8_IR, True, {"grad_cam": Path("heat")}, ""),
        (FP32_ONNX, True, {"grad_cam": Path("heat"), "runtime": "torch"}, ""),
        (TENSORRT, True, {"grad_cam": Path("heat"), "scheme": "int8"}, " --scheme int8"),
        (FP32_ONNX, False, {"grad_cam": Path("heat"), "runtime": "torch"}, " --scheme int8"),
    ],
)
def test_the_accuracy_of_the_same_model_is_suggested_where_grad_cam_is_done_or_cannot_be(
    capsys: pytest.CaptureFixture[str], model: str, openvino: bool, options: dict[str, object], said: str
) -> None:
    last = shown(capsys, [prediction(model)], bundle(openvino=openvino), **options)[-1]
    assert last == f"Next:   edge-van validate 'the bundle' --data YOUR_IMAGES{said}"


@pytest.mark.parametrize("answered", ["b.png", "folder/b.png", "all.zip/x/b.png"])
def test_the_next_command_names_no_image_that_failed(capsys: pytest.CaptureFixture[str], answered: str) -> None:
    given = Path(answered.split("/")[0])
    images = [Path("broken.png"), Path("fold"), given, Path("c.png")]
    show_predictions([prediction(image=answered), prediction(image="c.png")], bundle(), images, PredictOptions())
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next:   edge-van predict 'the bundle' {given} --grad-cam heat_maps"


def test_a_column_says_whose_heat_map_is_whose(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        prediction(heat_map=HeatMap("heat/a_grad_cam.png", 4, OPENVINO_ONNX)),
        prediction(heat_map=HeatMap("heat/a_2_grad_cam.png", 4, OPENVINO_ONNX), image="b/a.png"),
        prediction(image="c.png"),
    ]
    lines = shown(capsys, found, grad_cam=Path("heat"))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [(row[0], row[-1]) for row in rows if row[1] == "1"] == [
        ("a.png", "a_grad_cam.png"), ("b/a.png", "a_2_grad_cam.png"), ("c.png", "-"),
    ]  # fmt: skip
    assert {row[-1] for row in rows if row[1] == "2"} == {""}
    assert "Heat maps of the first class, at stage 4: heat" in lines
    assert not [line for line in lines if "straight-through" in line]


@pytest.mark.parametrize(
    ("model", "activation", "said"),
    [
        (INT8_IR, "gelu", f"FP32 network behind it ({FP32_ONNX}): a straight-through estimate"),
        (TENSORRT, "gelu", f"FP32 network behind it ({FP32_ONNX}): a straight-through estimate"),
        (INT8_IR, "hardswish", f"({FP32_ONNX}, with GELU, not hard-swish): a straight-through estimate"),
        (FP32_IR, "hardswish", None),
        ("onnx/model_fp16.onnx", "gelu", None),
    ],
)
def test_a_gradient_of_another_network_is_said(
    capsys: pytest.CaptureFixture[str], model: str, activation: str, said: str | None
) -> None:
    found = [prediction(model, HeatMap("heat/a_grad_cam.png", 2, FP32_ONNX))]
    lines = shown(capsys, found, bundle(activation=activation), grad_cam=Path("heat"))
    told = [line for line in lines if "straight-through" in line]
    if said is None:
        assert told == []
    else:
        assert [line.endswith(said) for line in told] == [True]


def test_no_path_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    long = HeatMap(f"heat/{'ю' * 220}_grad_cam.png", 4, OPENVINO_ONNX)
    text = "".join(shown(capsys, [prediction(heat_map=long, image="ж" * 600)], grad_cam=Path("heat")))
    assert (text.count("ж"), text.count("ю")) == (600, 220)


def test_no_answer_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, []) == []
