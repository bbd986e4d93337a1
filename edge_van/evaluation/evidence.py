"""What is measured of a bundle's files before its manifest is written.

In: an ``ExportJob`` and what it exported, held-out images. Out: ``Evidence``: accuracy, latency, what to doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from edge_van.evaluation.schemes import DeviceImages, MeasuredSchemes, measure_schemes
from edge_van.export.exact import exact_file
from edge_van.export.job import Exported, ExportJob
from edge_van.export.rounded import ROUNDED, rounded_file
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage
from edge_van.machine import has_vnni, is_arm
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel, open_image_model
from edge_van.text import precision_words
from edge_van.timing.latency import RunLength, cut_short, measure_latency

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
    work = job.work
    accuracy = latency = near_chance = cpu = None
    fp32: Remembered | None = None
    precisions: dict[str, Accuracy] = {}
    warnings: tuple[str, ...] = ()
    with ExitStack() as stack:
        if "openvino" in targets:
            length = RunLength(LATENCY_ROUNDS, LATENCY_S, bound_seconds=LATENCY_BOUND_S)
            with work.reporter.stage(f"Measuring latency, at most {LATENCY_BOUND_S:g} s", LATENCY_ROUNDS) as advance:
                latency = measure_latency(exported.models, baseline="fp32", length=length, progress=advance)
            few = cut_short(latency.rounds, length)
            work.warn(few)
            limits = Limits(recipe.max_drop_points, budget)
            fp32 = Remembered(stack.enter_context(_opened(exported, job, "fp32")))
            measured, precisions = _openvino_accuracy(exported, job, held_out, fp32, latency, limits)
            accuracy, near_chance = measured.accuracy["int8"], measured.near_chance
            warnings = (*left_out(measured.broken, "accuracy", work), *few)
            if not few and not is_arm():  # an ARM CPU has a scheme of its own, which is not timed
                cpu = choose_precision(latency, {"int8": accuracy, **precisions}, limits)
            if not has_vnni():
                warnings = (*warnings, NO_VNNI)
        else:
            warnings = left_out(job.probe.broken, "the schemes' SQNR", work)
        graphs = _graphs_accuracy(exported, job, held_out, recipe, fp32)
    if accuracy is None:  # else they are named already
        warnings = (*warnings, *left_out(graphs.broken, "the schemes' accuracy", work))
        near_chance = graphs.near_chance
    active = precisions.get(str(cpu.active)) if cpu is not None else None
    doubtful = _drop_warnings(accuracy, graphs.schemes, recipe.max_drop_points, active)
    warnings = (*warnings, *((near_chance,) if near_chance else ()), *doubtful)
    return Evidence(accuracy, latency, graphs.schemes, warnings, graphs.rounded, precisions, cpu)


def _opened(exported: Exported, job: ExportJob, name: str) -> ImageModel:
    """The model that is called so."""
    [file] = [model for model in exported.models if model.name == name]
    return open_image_model(file, job.spec, job.probe.logits.shape[1])


def _openvino_accuracy(
    exported: Exported, job: ExportJob, held_out: ImageSet, fp32: Remembered, latency: Latency, limits: Limits
) -> tuple[Measured, dict[str, Accuracy]]:
    """(INT8's, and those of the other precisions that might be better here)."""
    with ExitStack() as stack:
        int8 = stack.enter_context(_opened(exported, job, "int8"))
        measured = measure_accuracy(fp32, {"int8": int8}, held_out, job.work, head=job.head)
        names = worth_measuring(latency, measured.accuracy["int8"], limits)
        if not names:
            return measured, {}
        title = f"Measuring accuracy in {' and '.join(map(precision_words, names))}"
        models = {name: stack.enter_context(_opened(exported, job, name)) for name in names}
        others = measure_accuracy(fp32, models, held_out, job.work, head=job.head, title=title)
    return measured, {name: _of_precision(name, found) for name, found in others.accuracy.items()}


def _graphs_accuracy(
    exported: Exported, job: ExportJob, held_out: ImageSet, recipe: Recipe, fp32: Remembered | None
) -> MeasuredSchemes:
    """Of every graph for another device; and with ``fp32``, what OpenVINO has computed, of the rounded network."""
    spec = replace(job.spec, source_size=None)  # no ONNX file has the resize inside
    with ExitStack() as stack:

        @contextmanager
        def open_graph(file: str | Path) -> Iterator[ImageModel]:
            place = file if isinstance(file, Path) else job.place(file)
            with exact_file(place) as exact, open_image_model(exact, spec, job.probe.logits.shape[1]) as model:
                yield model

        rounded = None if fp32 is None else stack.enter_context(rounded_file(job.place(FP32_ONNX), ROUNDED))
        known = fp32 if job.spec.source_size is None else None  # with the resize inside it saw other pixels
        watched = DeviceImages(held_out, job.head, recipe.tensorrt_images)
        return measure_schemes(exported.schemes, open_graph, watched, job.work, rounded=rounded, fp32=known)


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
