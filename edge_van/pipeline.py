"""The main job: load, fold, prepare, quantise, export, measure; each stage takes what the one before it returned.

In: a checkpoint and images. Out: a measured INT8 ``Bundle`` on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edge_van.budget.faster_in_float import faster_in_float
from edge_van.budget.ladder import Ladder
from edge_van.budget.memory import Memory
from edge_van.budget.trial import Trials, folder_of
from edge_van.bundle.budget_record import Budget, BudgetRecord
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.recipe import ARM_SCHEME_NAME, Recipe
from edge_van.bundle.records import MANIFEST_SCHEMA_VERSION, FoldRecord, Manifest
from edge_van.bundle.writer import BundleWriter
from edge_van.checkpoint.training_state import RUNGS, TRIALS, training_states
from edge_van.errors import UsageError
from edge_van.evaluation.evidence import left_out, measure
from edge_van.export.float16_range import LargestActivation
from edge_van.export.golden import write_golden
from edge_van.export.job import Exported, ExportJob, Probe, joined, take_probe
from edge_van.export.models import export_arm, export_fp32, export_int8
from edge_van.export.tensorrt_models import export_tensorrt
from edge_van.images.draw import hashes
from edge_van.machine import describe_machine, versions
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.layer_names import part_of
from edge_van.model.van import VAN
from edge_van.progress import UNWATCHED, Work
from edge_van.quantization.calibration import Calibration, load_calibration
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import (
    Graphs,
    Prepared,
    QATJob,
    device_scheme_of,
    openvino_scheme_of,
    prepare,
    quantized_graphs,
)
from edge_van.starting_point import Data, QuantizeOptions, Source, load_source, open_data
from edge_van.storage.folders import free_space_check
from edge_van.text import one_line
from edge_van.version import __version__

FREE_SPACE_FACTOR = 4
"""A bundle holds the weights twice in float32, and in int8 up to six times."""


def quantize(
    checkpoint: str | Path | None = None,
    *,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    output: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    options: QuantizeOptions | None = None,
    work: Work = UNWATCHED,
) -> Bundle:
    """Turn a VAN checkpoint into a measured INT8 bundle. Nothing that looks finished is left by a failure.

    ``checkpoint`` is a file, a Hugging Face folder, "imagenet1k", or "demo", which None is too. ``data`` are labelled
    images, ``calibration`` others of the same kind, both a folder or zip of ``<class>/<image>``; a ``data`` with train/
    beside val/ serves for both. ``output`` is the bundle's folder, by default ``van_VARIANT_int8``. ``recipe`` is a
    record or a TOML file over the packaged one.

    Raises ``UsageError`` for contradicting options, ``CheckpointError``, ``DataError``, ``VerificationError``,
    ``BundleError``. Whether the accuracy is good enough is the caller's to judge: the bundle says what was measured.
    """
    options = options or QuantizeOptions()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(None if recipe is None else Path(recipe))
    _require_openvino(recipe, options)
    options = replace(options, budget=_budget_of(recipe, options))
    torch.manual_seed(options.seed)
    with ExitStack() as stack:
        if output is not None:
            BundleWriter(Path(output), force=options.force)  # an output that is in the way is said before any work
        source = load_source(None if checkpoint is None else str(checkpoint), options, work)
        images = open_data(source, _path(data), _path(calibration), options.labels, stack)
        work.warn(images.warnings)
        folder = Path(f"van_{source.variant}_int8") if output is None else Path(output)
        writer = stack.enter_context(BundleWriter(folder, force=options.force))
        free_space_check(writer.output, FREE_SPACE_FACTOR * _weight_bytes(source.van))

        with work.reporter.stage("Looking for images in both sets"):
            excluded = hashes(images.held_out)
        with work.reporter.stage("Folding BatchNorm away"):
            folded, check = fold(source.van, images.spec.size)
        states: Path | None = None
        budgets: list[BudgetRecord] = []
        if recipe.training is not None or options.budget is not None:
            # what was tried for a limit that nothing keeps serves a wider one
            kept = training_states(writer.output, keep_rungs=lambda: any(record.missed for record in budgets))
            states = stack.enter_context(kept)
        preparing = Preparing(source, images, folded, excluded, options.seed, states, work)
        probe = take_probe(images.held_out, images.spec, folded, work)
        if recipe.is_mixed:
            recipe = _mixed(recipe, preparing, probe)
        if options.budget is not None and states is not None:
            recipe, tried = _within(options.budget, recipe, preparing, probe, states / RUNGS)
            budgets.append(tried)
        drawn, range_warnings = preparing.calibration(recipe)
        prepared = preparing.prepared(recipe)
        job = ExportJob(writer.path, images.spec, folded, prepared.images, probe, work, source.head)
        exported = export_files(job, prepared, recipe, options.targets)
        golden = write_golden(job, exported.schemes)
        budget = budgets[0] if budgets else None
        evidence = measure(job, exported, images.held_out, recipe, options.targets, budget)
        warnings = (*source.loaded.warnings, *images.warnings, *range_warnings, *exported.warnings, *evidence.warnings)
        manifest = Manifest(
            schema_version=MANIFEST_SCHEMA_VERSION,
            edge_van_version=__version__,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            variant=source.variant,
            num_classes=folded.num_classes,
            checkpoint=one_line(source.loaded.name),
            checkpoint_sha256=source.loaded.sha256,
            checkpoint_layout=source.loaded.layout,
            input_spec=images.spec,
            method=recipe.method,
            recipe=recipe,
            fold=FoldRecord(check.batch_norms_folded, check.kernels_cropped, check.max_relative_error),
            calibration=drawn.record,
            schemes=evidence.schemes,
            versions=versions(),
            files=(),
            machine=describe_machine(),
            accuracy=evidence.accuracy,
            latency=evidence.latency,
            warnings=warnings,
            golden=golden,
            head=source.head,
            rounded=evidence.rounded,
            budget=budget,
            precisions=evidence.precisions,
            cpu=evidence.cpu,
        )
        return writer.finish(manifest)


def _require_openvino(recipe: Recipe, options: QuantizeOptions) -> None:
    if "openvino" in options.targets:
        return
    if recipe.activation == "auto":
        raise UsageError(
            "the activation is chosen by the latency of OpenVINO's model, which --target leaves out: name one, "
            "--activation gelu or hardswish"
        )
    if recipe.float_layers:
        raise UsageError("float_layers are OpenVINO's, which --target leaves out: leave one of the two out")


def _budget_of(recipe: Recipe, options: QuantizeOptions) -> Budget | None:
    """The one that is asked for; or the gate of a recipe whose activation is to be chosen, which takes a limit."""
    if recipe.activation == "auto" and options.budget is None:
        return Budget(recipe.max_drop_points)
    return options.budget


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _weight_bytes(van: VAN) -> int:
    return sum(p.numel() * p.element_size() for p in van.parameters())


@dataclass
class Preparing:
    """What every recipe starts from, and what each of them makes of it; the same is made once."""

    source: Source
    data: Data
    folded: FoldedVAN
    excluded: frozenset[str]  # sha256 of the images that accuracy is measured on
    seed: int
    states: Path | None
    work: Work
    _drawn: dict[tuple[int, bool], tuple[Calibration, tuple[str, ...]]] = field(default_factory=dict)
    _plain: dict[tuple[object, ...], Prepared] = field(default_factory=dict)

    def calibration(self, recipe: Recipe) -> tuple[Calibration, tuple[str, ...]]:
        """The images that set the ranges, none of them among those that accuracy is measured on; and warnings."""
        wanted, is_trained = recipe.images, recipe.training is not None
        if (known := (wanted, is_trained)) in self._drawn:
            return self._drawn[known]
        calibration = load_calibration(
            self.data.training,
            self.data.spec,
            samples=wanted,
            seed=self.seed,
            batch=recipe.batch,
            exclude_hashes=self.excluded,
            work=self.work,
        )
        warnings = left_out(calibration.broken, "calibration", self.work)
        if calibration.record.images < wanted:
            used = "trained" if is_trained else "calibrated"
            warnings = (f"{used} on {calibration.record.images} images, {wanted} were asked for", *warnings)
        self._drawn[known] = calibration, warnings
        return calibration, warnings

    def prepared(self, recipe: Recipe) -> Prepared:
        """Equalised and captured, with what its training takes."""
        drawn, _ = self.calibration(recipe)
        key = (recipe.samples, recipe.equalize_strength, recipe.activation, recipe.activation_places)
        # of the places that were tried none comes again
        self._plain = {k: v for k, v in self._plain.items() if k[-2:] in (key[-2:], ("gelu", ()))}
        if key not in self._plain:
            self._plain[key] = prepare(self.folded, drawn.images.first(recipe.samples), recipe, self.work)
        settings = recipe.training
        if settings is None:
            return self._plain[key]
        images = drawn.images.first(settings.images)
        places = recipe.activation_places
        activation = (recipe.activation, *places) if places else recipe.activation
        made_by = (recipe.samples, recipe.batch, recipe.equalize_strength, activation, recipe.ranges, settings)
        whole = f"{self.key} {drawn.record} {made_by}"
        changed = () if recipe.activation == "gelu" else (recipe.activation, *places)
        start = "-".join((str(recipe.samples), recipe.ranges, *changed))
        job = QATJob(images, settings, self.seed, self.states, whole, recipe.method, start)
        return replace(self._plain[key], qat=job)

    @property
    def key(self) -> str:
        """All that what is made depends on, but for the recipe."""
        loaded = self.source.loaded
        return f"{(loaded.sha256, loaded.entry)} {self.data.spec} {self.seed} torch {torch.__version__}"


def _within(
    budget: Budget, recipe: Recipe, preparing: Preparing, probe: Probe, kept: Path
) -> tuple[Recipe, BudgetRecord]:
    """The recipe that keeps the budget, or the best there is; candidates are made in a folder of their own."""
    work, data = preparing.work, preparing.data
    machine = describe_machine()
    # the rungs are the same for any limit, and for any graphs of other devices
    start = [(f.name, getattr(recipe, f.name)) for f in fields(recipe) if not f.name.startswith(("max_", "tensorrt_"))]
    calibration = preparing.calibration(replace(recipe, method="qat"))[0].record
    used = [(name, machine.versions.get(name)) for name in ("edge-van", "openvino", "torchao")]
    key = f"{preparing.key} {calibration} {data.held_out.truth_sha256} {preparing.source.head} {start} {used} "
    key += f"{machine.cpu} {machine.logical_cores}"
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix=TRIALS, dir=kept.parent))
        trials = _trials(recipe, preparing, probe, Path(folder), stack)
        found = Ladder(trials, budget, Memory(kept, key), work).climb(recipe)
    work.reporter.note(found.record.reason)
    return replace(found.recipe, max_drop_points=budget.max_drop_points), found.record


def _mixed(recipe: Recipe, preparing: Preparing, probe: Probe) -> Recipe:
    """With the layers in float that this CPU runs sooner so."""
    plain = replace(recipe.unchanged, method="ptq", float_layers=())
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix=TRIALS))
        layers = faster_in_float(_trials(plain, preparing, probe, Path(folder), stack), plain)
    kinds = ", ".join(sorted({str(part_of(layer)) for layer in layers})) or "nothing"
    preparing.work.reporter.note(f"shown to be faster in float than in INT8 on this CPU: {kinds}")
    return replace(recipe, float_layers=layers)


def _trials(recipe: Recipe, preparing: Preparing, probe: Probe, folder: Path, stack: ExitStack) -> Trials:
    """What makes and measures candidates in a folder of their own."""
    images = preparing.prepared(replace(recipe.unchanged, method="ptq")).images
    source, data = preparing.source, preparing.data
    job = ExportJob(folder_of(folder), data.spec, preparing.folded, images, probe, preparing.work, source.head)
    return Trials(job, data.held_out, preparing.prepared, stack)


def export_files(job: ExportJob, prepared: Prepared, recipe: Recipe, targets: Sequence[str]) -> Exported:
    """Every file of the targets: the FP32 network, then one scheme after the other."""
    parts = [export_fp32(job, prepared.float_network, with_openvino=bool({"openvino", "openvino_arm"} & set(targets)))]
    here = openvino_scheme_of(recipe)
    arm = device_scheme_of(recipe, ARM_SCHEME_NAME)
    tensorrt = tuple(device_scheme_of(recipe, name) for name in recipe.tensorrt_schemes)
    of_target = {"openvino": (here,), "openvino_arm": (arm,), "tensorrt": tensorrt}
    in_half = "tensorrt" in targets and recipe.tensorrt_float == "float16"
    Graphs(prepared, job.work).observe([s for target in targets for s in of_target[target]], largest=in_half)
    if "openvino" in targets:
        [quantized] = quantized_graphs(prepared, (here,), job.work)
        parts.append(export_int8(job, quantized))
    if "openvino_arm" in targets:
        [quantized] = quantized_graphs(prepared, (arm,), job.work)
        parts.append(export_arm(job, quantized))
    if "tensorrt" in targets:
        graphs = quantized_graphs(prepared, tensorrt, job.work)
        largest = prepared.histograms.largest
        known = {} if largest is None else {prepared.equalized: LargestActivation(*largest)}
        parts.append(export_tensorrt(job, recipe, graphs, prepared.equalized, prepared.float_network, known))
    return joined(parts)
