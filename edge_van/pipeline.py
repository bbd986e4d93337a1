"""The main job: a checkpoint in, a measured INT8 bundle out.

In: ``QuantizeOptions``. Out: a ``Bundle`` on disk. Each stage takes what the stage before returned; nothing is shared.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from edge_van import __version__
from edge_van.assets import DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.bundle.records import (
    MANIFEST_SCHEMA_VERSION,
    Accuracy,
    CalibrationRecord,
    Latency,
    Manifest,
    SchemeResult,
)
from edge_van.bundle.writer import BundleWriter
from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.errors import DataError, UsageError
from edge_van.evaluation.accuracy import validate
from edge_van.evaluation.gates import NO_VNNI, doubts, over_limit
from edge_van.evaluation.schemes import measure_schemes
from edge_van.export.models import ExportedModels, export_models
from edge_van.images.draw import hashes
from edge_van.images.sets import ImageSet, open_images, splits
from edge_van.images.stream import BrokenImage, stream
from edge_van.input_spec import InputSpec
from edge_van.machine import describe_machine, has_vnni, versions
from edge_van.model.fold import fold
from edge_van.progress import SILENT, Reporter
from edge_van.quantization.calibration import CalibrationImages, load_calibration
from edge_van.quantization.recipe import Recipe
from edge_van.runtimes import open_model
from edge_van.storage.folders import free_space_check
from edge_van.text import one_line
from edge_van.timing.latency import measure_latency

TARGETS = ("openvino", "tensorrt")
VALIDATE_BATCH = 32
LATENCY_ROUNDS = 300
LATENCY_S = 10.0
"""A first look, with the gate of --min-speedup; ``edge-van benchmark`` takes a minute for each scenario."""
SIZED_IMAGES = 8
NEAR_CHANCE = 0.05
"""An FP32 top-1 that is not this share of the way from chance to perfect points to a wrong class order or input."""
FREE_SPACE_FACTOR = 4
"""A bundle holds the weights twice in float32 and up to four times in int8."""


@dataclass(frozen=True)
class QuantizeOptions:
    """What ``edge-van quantize`` was asked for. Paths are as given; None means the default the README names."""

    recipe: Recipe
    variant: str | None = None
    checkpoint: str | None = None  # a path, "imagenet1k" or "demo"; None is "demo"
    data: Path | None = None
    calibration: Path | None = None
    output: Path | None = None
    targets: tuple[str, ...] = TARGETS
    spec_overrides: dict[str, object] = field(default_factory=dict)
    seed: int = 0
    use_ema: bool = True
    strict: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        unknown = [t for t in self.targets if t not in TARGETS]
        if unknown or not self.targets:
            raise UsageError(f"--target is one or more of {', '.join(TARGETS)}; got {', '.join(unknown) or 'none'}")

    @property
    def is_demo(self) -> bool:
        return self.checkpoint in (None, "demo")


def quantize(options: QuantizeOptions, reporter: Reporter = SILENT) -> Bundle:
    """Run the whole job and return the finished bundle. Nothing that looks finished is left by a failure.

    Raises the package's errors: ``UsageError`` for contradicting options, ``CheckpointError``, ``DataError``,
    ``VerificationError``, ``BundleError``. The accuracy gate is the caller's: the bundle says what was measured.
    """
    torch.manual_seed(options.seed)
    with ExitStack() as stack:
        if options.output is not None:
            BundleWriter(options.output, force=options.force)  # an output that is in the way is said before any work
        loaded, spec = _load(options)
        if options.is_demo:
            why = "No --checkpoint: using" if options.checkpoint is None else "Using"
            reporter.note(f"{why} the embedded demo, VAN-B0 trained on CIFAR-10 at 64 px.")
        warnings = list(loaded.warnings)
        for warning in warnings:
            reporter.note(f"warning: {warning}")
        held_out, training = _open_data(options, spec, loaded.van.num_classes, stack)
        if spec.source_size is not None:
            _require_source_size(held_out, spec)
        if spec.classes is None:
            spec = replace(spec, classes=held_out.classes)
            names = ", ".join((held_out.classes or ())[:3])
            warnings.append(
                f"the checkpoint names no classes: its logits were taken to be in the order of the folders' names "
                f"({names}, ...); give --classes FILE if they are not"
            )
            reporter.note(f"warning: {warnings[-1]}")
        name = loaded.variant or loaded.van.variant.name
        writer = stack.enter_context(BundleWriter(options.output or Path(f"van_{name}_int8"), force=options.force))
        weight_bytes = sum(p.numel() * p.element_size() for p in loaded.van.parameters())
        free_space_check(writer.output, FREE_SPACE_FACTOR * weight_bytes)

        calibration, record = _calibration(options, spec, held_out, training, reporter, warnings)
        with reporter.stage("Folding BatchNorm away"):
            folded, folding = fold(loaded.van, spec.size)
        probed: list[BrokenImage] = []
        exported = export_models(
            writer.path,
            folded,
            calibration,
            spec,
            held_out,
            options.recipe,
            options.targets,
            reporter,
            strict=options.strict,
            on_broken=probed.append,
        )
        warnings += exported.warnings
        accuracy = latency = None
        if "openvino" not in options.targets:
            _note_broken(probed, "the schemes' SQNR", reporter, warnings)
        else:
            accuracy = _validate(writer, held_out, spec, folded.num_classes, options.strict, reporter, warnings)
            latency = _latency(exported, reporter)
            if not has_vnni():
                warnings.append(NO_VNNI)
        broken: list[BrokenImage] = []
        schemes = measure_schemes(
            writer.path,
            exported.schemes,
            FP32_ONNX,
            held_out,
            spec,
            num_classes=folded.num_classes,
            limit=options.recipe.tensorrt_images,
            reporter=reporter,
            strict=options.strict,
            on_broken=broken.append,
        )
        if accuracy is None:  # else they are named already
            _note_broken(broken, "the schemes' accuracy", reporter, warnings)
        warnings += _accuracy_warnings(accuracy, schemes, folded.num_classes, options.recipe.max_drop_points)
        manifest = Manifest(
            schema_version=MANIFEST_SCHEMA_VERSION,
            edge_van_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            variant=name,
            num_classes=folded.num_classes,
            checkpoint=one_line(loaded.name),
            checkpoint_sha256=loaded.sha256,
            checkpoint_layout=loaded.layout,
            input_spec=spec,
            method="ptq",
            recipe=options.recipe.to_dict()
            | {
                "batch_norms_folded": folding.batch_norms_folded,
                "kernels_cropped": folding.kernels_cropped,
                "fold_max_relative_error": folding.max_relative_error,
            },
            calibration=record,
            schemes=schemes,
            versions=versions(),
            files=(),
            machine=describe_machine(),
            accuracy=accuracy,
            latency=latency,
            warnings=tuple(warnings),
        )
        return writer.finish(manifest)


def _load(options: QuantizeOptions) -> tuple[LoadedCheckpoint, InputSpec]:
    if options.is_demo:
        if options.variant not in (None, "b0"):
            raise UsageError(
                f"the embedded demo is a b0, not {options.variant}: give your own weights with --checkpoint FILE, or "
                f"the official ones with --checkpoint imagenet1k"
            )
        loaded = load_checkpoint(asset(DEMO_CHECKPOINT))
    else:
        by_hand = [name for name, value in options.spec_overrides.items() if value is not None]
        loaded = load_checkpoint(
            str(options.checkpoint), variant=options.variant, use_ema=options.use_ema, by_hand=by_hand
        )
    spec = loaded.spec.with_overrides(**options.spec_overrides)
    if spec.classes is not None and len(spec.classes) != loaded.van.num_classes:
        raise UsageError(f"{len(spec.classes)} class names for a head of {loaded.van.num_classes} classes")
    return loaded, spec


def _open_data(
    options: QuantizeOptions, spec: InputSpec, num_classes: int, stack: ExitStack
) -> tuple[ImageSet, ImageSet]:
    """(held out for validation, to calibrate on). ``--data`` may hold train/ and val/ (or test/) side by side."""
    data, calibration = options.data, options.calibration
    if data is not None:
        data, train = splits(data)
        calibration = calibration or train
    if options.is_demo:
        data = data or asset(DEMO_VALIDATION)
        calibration = calibration or asset(DEMO_CALIBRATION)
    if data is None:
        raise UsageError("accuracy is measured on labelled images: give them with --data DIR|ZIP, one folder a class")
    if calibration is None:
        raise UsageError(
            f"calibration takes other images than accuracy is measured on, and {data} has no train/ beside a val/: "
            f"give training images with --calibration DIR|ZIP"
        )
    held_out = stack.enter_context(open_images(data, classes=spec.classes, num_classes=num_classes))
    training = stack.enter_context(open_images(calibration, classes=spec.classes, labelled=False))
    return held_out, training


def _require_source_size(images: ImageSet, spec: InputSpec) -> None:
    """Images of another size than a camera's are said before any work: the first few tell."""
    broken: list[BrokenImage] = []
    first = range(min(SIZED_IMAGES, len(images)))
    if next(stream(images, spec, batch_size=1, indices=list(first), on_broken=broken.append), None) is None:
        raise DataError(f"{images.source}: {broken[0].name} does not do for --source-size: {broken[0].reason}")


def _calibration(
    options: QuantizeOptions,
    spec: InputSpec,
    held_out: ImageSet,
    training: ImageSet,
    reporter: Reporter,
    warnings: list[str],
) -> tuple[CalibrationImages, CalibrationRecord]:
    recipe = options.recipe
    with reporter.stage("Looking for images in both sets"):
        excluded = hashes(held_out)
    broken: list[BrokenImage] = []
    with reporter.stage("Reading calibration images", recipe.samples) as advance:
        images, record = load_calibration(
            training,
            spec,
            samples=recipe.samples,
            seed=options.seed,
            batch=recipe.batch,
            exclude_hashes=excluded,
            strict=options.strict,
            on_broken=broken,
            progress=advance,
        )
    if record.images < recipe.samples:
        warnings.append(f"calibrated on {record.images} images, {recipe.samples} were asked for")
    _note_broken(broken, "calibration", reporter, warnings)
    return images, record


def _note_broken(broken: list[BrokenImage], use: str, reporter: Reporter, warnings: list[str]) -> None:
    for image in broken:
        reporter.note(f"warning: {image.name} is broken and left out of {use}: {image.reason}")
    if broken:
        warnings.append(f"{len(broken)} broken images left out of {use}")


def _validate(
    writer: BundleWriter,
    held_out: ImageSet,
    spec: InputSpec,
    num_classes: int,
    strict: bool,
    reporter: Reporter,
    warnings: list[str],
) -> Accuracy:
    broken: list[BrokenImage] = []
    batch = VALIDATE_BATCH if spec.source_size is None else 1  # the crop inside the graph is written for one image
    with (
        reporter.stage("Measuring accuracy", len(held_out)) as advance,
        open_model("openvino", writer.path(FP32_IR), batch=batch) as fp32,
        open_model("openvino", writer.path(INT8_IR), batch=batch) as int8,
    ):
        accuracy = validate(
            fp32,
            int8,
            held_out,
            spec,
            num_classes=num_classes,
            batch_size=batch,
            strict=strict,
            progress=advance,
            on_broken=broken.append,
        )
    _note_broken(broken, "accuracy", reporter, warnings)
    return accuracy


def _accuracy_warnings(
    accuracy: Accuracy | None, schemes: tuple[SchemeResult, ...], num_classes: int, max_drop_points: float
) -> list[str]:
    """What to doubt of the figures, though they pass."""
    measured = [a for a in (accuracy, *(s.accuracy for s in schemes if s.quantized_layers)) if a is not None]
    found = []
    chance = 1.0 / num_classes
    if measured and measured[0].top1_fp32_percent < 100 * (chance + NEAR_CHANCE * (1.0 - chance)):
        found.append(
            f"FP32's top-1 of {measured[0].top1_fp32_percent:.2f} % is near chance for {num_classes} classes: check "
            f"the order of the classes (--classes) and the preprocessing (--mean, --std, --crop)"
        )
    said = (over_limit(a, max_drop_points) or doubts(a, max_drop_points) for a in measured)
    return [*found, *(warning for warning in said if warning)]


def _latency(exported: ExportedModels, reporter: Reporter) -> Latency:
    with reporter.stage("Measuring latency", LATENCY_ROUNDS) as advance:
        return measure_latency(
            exported.candidates, baseline="fp32", rounds=LATENCY_ROUNDS, min_seconds=LATENCY_S, progress=advance
        )
