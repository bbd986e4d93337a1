"""Predictions as a table on standard output.

In: ``Prediction`` records. Out: one row a class, the image's name at its first; the next command last.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.bundle.recipe import ACTIVATION_WORDS
from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.prediction.answers import HeatMap, Prediction
from edge_van.prediction.predict import PredictOptions
from edge_van.prediction.scores import ClassScore
from edge_van.runtimes.stage_map import STAGES
from edge_van.text import precision_words, shown


def show_predictions(
    predictions: Sequence[Prediction], bundle: Bundle, images: Sequence[Path], options: PredictOptions
) -> None:
    """All in order, then what the heat maps show.

    Without them, how to get that by the same model, of the first of ``images`` that has an answer.
    """
    if not predictions:
        return
    console = console_for_results()
    scored = ("logit",) if predictions[0].predictions[0].probability is None else ("probability",)
    said = () if predictions[0].labels is None else ("label",)
    columns = ("image", "rank", "class", *scored, *said, *(() if options.grad_cam is None else ("heat map",)))
    in_precision = f" in {precision_words(predictions[0].precision)}" if predictions[0].precision else ""
    title = f"{predictions[0].model} by {predictions[0].runtime}{in_precision}"
    table = table_for_results(title, columns, left=("image", "class", "label", "heat map"))
    for column in table.columns:
        column.overflow = "fold"  # a path that is cut off is none
    for prediction in predictions:
        heat_map = "-" if prediction.grad_cam is None else Path(prediction.grad_cam.file).name
        for rank, score in enumerate(prediction.predictions, 1):
            first = rank == 1
            cells = (prediction.image if first else "", str(rank), score.name, *_likely(score, prediction.labels))
            table.add_row(*cells, *(() if options.grad_cam is None else (heat_map if first else "",)))
    console.print(table)
    drawn = next((prediction.grad_cam for prediction in predictions if prediction.grad_cam is not None), None)
    if drawn is not None:
        console.print(f"Heat maps of the first class, at stage {drawn.stage}: {options.grad_cam}", soft_wrap=True)
        if text := _straight_through(drawn, predictions[0].model, bundle):
            console.print(text, soft_wrap=True)
    image = next((path for path in images if _has_answer(path, predictions)), images[0])
    console.print(f"Next:   {shlex.join(_next_command(bundle, predictions[0], image, options))}", soft_wrap=True)


def _likely(score: ClassScore, labels: Sequence[str] | None) -> tuple[str, ...]:
    """The probability, or the logit of a head that gives none; of several labels an image, whether it has this one."""
    likely = f"{score.logit:.3f}" if score.probability is None else f"{100.0 * score.probability:.2f} %"
    return (likely,) if labels is None else (likely, "yes" if score.name in labels else "")


def _has_answer(path: Path, predictions: Sequence[Prediction]) -> bool:
    """Itself, or an image in the folder or archive that it is."""
    inside = shown(path / "_").removesuffix("_")
    return any(prediction.image == shown(path) or prediction.image.startswith(inside) for prediction in predictions)


def _straight_through(drawn: HeatMap, model: str, bundle: Bundle) -> str:
    """What the heat maps of an INT8 model are made with before the last stage; nothing for the others."""
    if drawn.stage == STAGES[-1] or model not in {m.file for m in bundle.models() if m.precision == "int8"}:
        return ""
    other = bundle.manifest.recipe.activation
    activation = "" if other == "gelu" else f", with GELU, not {ACTIVATION_WORDS[other]}"
    return (
        f"The map is {model}'s, the gradient that of the FP32 network behind it ({drawn.gradient_file}{activation}): "
        f"a straight-through estimate"
    )


def _next_command(bundle: Bundle, found: Prediction, image: Path, options: PredictOptions) -> list[str]:
    """Grad-CAM of the same model; its accuracy, where the heat maps are there or its engine shows no maps."""
    flags = {"--runtime": options.runtime, "--precision": options.precision, "--scheme": options.scheme}
    if options.engine is None and options.grad_cam is None:
        flags["--top-k"] = None if options.top_k == PredictOptions().top_k else str(options.top_k)
        flags["--threshold"] = None if options.threshold is None else str(options.threshold)
        words = ["edge-van", "predict", str(bundle.path), str(image), *_given(flags)]
        return [*words, "--grad-cam", "heat_maps"]
    threshold = {"--threshold": None if options.threshold is None else str(options.threshold)}
    words = ["edge-van", "validate", str(bundle.path), "--data", "YOUR_IMAGES", *_given(threshold)]
    if options.engine is not None:
        return [*words, *_given({"--engine": options.engine, "--scheme": options.scheme})]
    return [
        *words,
        *_given({"--scheme": _scheme_to_validate(bundle, found.model), "--precision": found.precision or None}),
    ]


def _scheme_to_validate(bundle: Bundle, model: str) -> str | None:
    """None where ``validate`` measures OpenVINO's models: of the others it wants to know which."""
    names = {scheme.file: scheme.name for scheme in bundle.manifest.schemes if scheme.target != "openvino"}
    if model not in (FP32_IR, FP32_ONNX) and model in names:
        return names[model]
    has_openvino = {entry.path for entry in bundle.manifest.files}.issuperset((FP32_IR, INT8_IR))
    return None if has_openvino else next(iter(names.values()), None)


def _given(flags: dict[str, str | None]) -> list[str]:
    return [word for flag, value in flags.items() if value is not None for word in (flag, value)]
