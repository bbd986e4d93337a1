"""What is measured of a bundle's files before its manifest is written.

In: an ``ExportJob`` and what it exported, held-out images. Out: ``Evidence``: accuracy, latency, what to doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_van.bundle.budget_record import BudgetRecord
from edge_van.bundle.engine_record import EngineChoice
from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.recipe import Recipe
from edge_van.bundle.records import Accuracy, Latency, SchemeResult
from edge_van.evaluation.accuracy import Measured, measure_accuracy
from edge_van.evaluation.gates import NO_VNNI, doubts, over_limit
from edge_van.evaluation.precision import Limits, choose_precision, worth_measuring
from edge_van.evaluation.remembered import Remembered
from edge_van.evaluation.schemes import DeviceImages, measure_schemes
from edge_van.export.job import Exported, ExportJob
from edge_van.export.rounded import ROUNDED, rounded_file
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage
from edge_van.machine import has_vnni, is_arm
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel, open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.text import precision_words
from edge_van.timing.latency import RunLength, cut_short, measure_latency

GRAPH_BATCH = 16
"""Images that ONNX Runtime computes a graph on at once."""
LATENCY_ROUNDS = 300
LATENCY_S = 10.0
"""A first look, with the gate of --min-speedup; ``edge-van benchmark`` takes a minute for each scenario."""
LATENCY_BOUND_S = 120.0
"""Of the whole stage, opening and warm-up included, however busy the machine. Fewer rounds than a result should have
fit into it where one takes over a second; they are kept, with a warning. See ``RunLength`` for what it cannot bound."""


@dataclass(frozen=True)
class Evidence:
    """What was measured of the files."""

    accuracy: Accuracy | None
    latency: Latency | None
    schemes: tuple[SchemeResult, ...]
    warnings: tuple[str, ...]
    rounded: Accuracy | None = None
    precisions: dict[str, Accuracy] = field(default_factory=dict)
    cpu: EngineChoice | None = None


def left_out(broken: Sequence[BrokenImage], use: str, work: Work) -> tuple[str, ...]:
    """Each is named to whoever watches, their number is recorded."""
    work.warn(f"{image.name} is broken and left out of {use}: {image.reason}" for image in broken)
    return (f"{len(broken)} broken images left out of {use}",) if broken else ()


def measure(
    job: ExportJob,
    exported: Exported,
    held_out: ImageSet,
    recipe: Recipe,
    targets: Sequence[str],
    budget: BudgetRecord | None = None,
) -> Evidence:
    """Accuracy and latency of OpenVINO's models, accuracy of every graph for TensorRT.

    ``budget`` is how the recipe was found: what becomes active must keep it."""
    work, num_classes = job.work, job.probe.logits.shape[1]
    accuracy = latency = near_chance = cpu = None
    precisions: dict[str, Accuracy] = {}
    warnings: tuple[str, ...] = ()
    if "openvino" in targets:
        length = RunLength(LATENCY_ROUNDS, LATENCY_S, bound_seconds=LATENCY_BOUND_S)
        with work.reporter.stage(f"Measuring latency, at most {LATENCY_BOUND_S:g} s", LATENCY_ROUNDS) as advance:
            latency = measure_latency(exported.models, baseline="fp32", length=length, progress=advance)
        few = cut_short(latency.rounds, length)
        work.warn(few)
        limits = Limits(recipe.max_drop_points, budget)
        measured, precisions = _openvino_accuracy(exported, job, held_out, latency, limits)
        accuracy, near_chance = measured.accuracy["int8"], measured.near_chance
        warnings = (*left_out(measured.broken, "accuracy", work), *few)
        if not few and not is_arm():  # an ARM CPU has a scheme of its own, which is not timed
            cpu = choose_precision(latency, {"int8": accuracy, **precisions}, limits)
        if not has_vnni():
            warnings = (*warnings, NO_VNNI)
    else:
        warnings = left_out(job.probe.broken, "the schemes' SQNR", work)

    def open_graph(file: str | Path) -> ImageModel:
        path = file if isinstance(file, Path) else job.place(file)
        return open_image_model(exact_graph(path), job.spec, num_classes, batch=GRAPH_BATCH)

    with ExitStack() as stack:
        is_for_cpus, limit = "openvino" in targets, recipe.tensorrt_images
        rounded = stack.enter_context(rounded_file(job.place(FP32_ONNX), ROUNDED)) if is_for_cpus else None
        watched = DeviceImages(held_out, job.head, limit)
        graphs = measure_schemes(exported.schemes, open_graph, watched, work, rounded=rounded)
    if accuracy is None:  # else they are named already
        warnings = (*warnings, *left_out(graphs.broken, "the schemes' accuracy", work))
        near_chance = graphs.near_chance
    active = precisions.get(str(cpu.active)) if cpu is not None else None
    doubtful = _drop_warnings(accuracy, graphs.schemes, recipe.max_drop_points, active)
    warnings = (*warnings, *((near_chance,) if near_chance else ()), *doubtful)
    return Evidence(accuracy, latency, graphs.schemes, warnings, graphs.rounded, precisions, cpu)


def _openvino_accuracy(
    exported: Exported, job: ExportJob, held_out: ImageSet, latency: Latency, limits: Limits
) -> tuple[Measured, dict[str, Accuracy]]:
    """(INT8's, and those of the other precisions that might be better here, for which FP32 is not computed again)."""
    files = {model.name: model for model in exported.models}
    num_classes = job.probe.logits.shape[1]
    with ExitStack() as stack:

        def opened(name: str) -> ImageModel:
            return stack.enter_context(open_image_model(files[name], job.spec, num_classes))

        fp32 = Remembered(opened("fp32"))
        measured = measure_accuracy(fp32, {"int8": opened("int8")}, held_out, job.work, head=job.head)
        names = worth_measuring(latency, measured.accuracy["int8"], limits)
        if not names:
            return measured, {}
        title = f"Measuring accuracy in {' and '.join(map(precision_words, names))}"
        models = {name: opened(name) for name in names}
        others = measure_accuracy(fp32.again(), models, held_out, job.work, head=job.head, title=title)
    return measured, {name: _of_precision(name, found) for name, found in others.accuracy.items()}


def _of_precision(name: str, found: Accuracy) -> Accuracy:
    """Without classes, and without times: those of several models in one run say nothing of one."""
    own = replace(found, model=precision_words(name), classes=())
    return replace(own, images_per_s=0.0, decode_s=0.0, inference_s=0.0, wait_s=0.0)


def _drop_warnings(
    accuracy: Accuracy | None,
    schemes: tuple[SchemeResult, ...],
    max_drop_points: float,
    active: Accuracy | None = None,
) -> list[str]:
    """What to doubt of the figures, though they pass."""
    measured = [a for a in (accuracy, active, *(s.accuracy for s in schemes if s.quantized_layers)) if a is not None]
    said = (over_limit(a, max_drop_points) or doubts(a, max_drop_points) for a in measured)
    return [warning for warning in said if warning]
