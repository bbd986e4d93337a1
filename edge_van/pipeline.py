"""The main job: a checkpoint in, a measured INT8 bundle out.

In: ``QuantizeOptions``. Out: a ``Bundle`` on disk. Each stage takes what the stage before returned; nothing is shared.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from edge_van import __version__
from edge_van.assets import DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.benchmark import Candidate, measure_latency
from edge_van.bundle import Bundle, BundleWriter
from edge_van.checkpoint import LoadedCheckpoint, load_checkpoint
from edge_van.data import BrokenImage, ImageSet, hashes, open_images, stream
from edge_van.errors import DataError, UsageError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import check_openvino, export_openvino
from edge_van.fold import FoldedVAN, fold
from edge_van.input_spec import InputSpec
from edge_van.machine import describe_machine, has_vnni, versions
from edge_van.measure import agreement_percent, sqnr_db
from edge_van.progress import Reporter, Silent
from edge_van.quantize.calibration import CalibrationImages, load_calibration
from edge_van.quantize.equalize import equalize
from edge_van.quantize.ptq import QuantizedVAN, post_training_quantize
from edge_van.quantize.recipe import Recipe
from edge_van.quantize.scheme import get_scheme
from edge_van.records import MANIFEST_SCHEMA_VERSION, Accuracy, CalibrationRecord, Latency, Manifest, SchemeResult
from edge_van.runtimes import open_model
from edge_van.runtimes.openvino import has_bf16
from edge_van.validate import validate

TARGETS = ("openvino", "tensorrt")
CHECK_IMAGES = 8
SQNR_IMAGES = 256
VALIDATE_BATCH = 32
FP32_IR, INT8_IR = "openvino_fp32/model.xml", "openvino/model.xml"
FP32_ONNX, OPENVINO_ONNX = "onnx/model.onnx", "onnx/model_openvino.onnx"


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
    strict: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if unknown := [t for t in self.targets if t not in TARGETS] or not self.targets:
            raise UsageError(f"--target is one or more of {', '.join(TARGETS)}; got {unknown or 'none'}")

    @property
    def is_demo(self) -> bool:
        return self.checkpoint in (None, "demo")


@dataclass(frozen=True)
class _Exported:
    schemes: tuple[SchemeResult, ...]
    candidates: tuple[Candidate, ...]


def quantize(options: QuantizeOptions, reporter: Reporter | None = None) -> Bundle:
    """Run the whole job and return the finished bundle. Nothing that looks finished is left by a failure.

    Raises the package's errors: ``UsageError`` for contradicting options, ``CheckpointError``, ``DataError``,
    ``VerificationError``, ``BundleError``. The accuracy gate is the caller's: the bundle says what was measured.
    """
    reporter = reporter or Silent()
    torch.manual_seed(options.seed)
    with ExitStack() as stack:
        loaded, spec = _load(options)
        if options.is_demo:
            reporter.note("No --checkpoint: using the embedded demo, VAN-B0 trained on CIFAR-10 at 64 px.")
        warnings = list(loaded.warnings)
        for warning in warnings:
            reporter.note(f"warning: {warning}")
        held_out, training = _open_data(options, spec, loaded.van.num_classes, stack)
        if spec.classes is None:
            spec = replace(spec, classes=held_out.classes)
        name = loaded.variant or loaded.van.variant.name
        writer = stack.enter_context(BundleWriter(options.output or Path(f"van_{name}_int8"), force=options.force))

        calibration, record = _calibration(options, spec, held_out, training, reporter, warnings)
        with reporter.stage("Folding BatchNorm away"):
            folded, folding = fold(loaded.van, spec.size)
        exported = _export(options, writer, folded, calibration, spec, held_out, reporter)
        accuracy = latency = None
        if "openvino" in options.targets:
            accuracy = _validate(writer, held_out, spec, folded.num_classes, options.strict, reporter, warnings)
            latency = _latency(exported, reporter)
            if not has_vnni():
                warnings.append("this CPU has no VNNI: INT8 gains less here than on one that has it")
        manifest = Manifest(
            schema_version=MANIFEST_SCHEMA_VERSION,
            edge_van_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            variant=name,
            num_classes=folded.num_classes,
            checkpoint=Path(loaded.source).name,
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
            schemes=exported.schemes,
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
        loaded = load_checkpoint(str(options.checkpoint), variant=options.variant)
    spec = loaded.spec.with_overrides(**options.spec_overrides)
    if spec.classes is not None and len(spec.classes) != loaded.van.num_classes:
        raise UsageError(f"{len(spec.classes)} class names for a head of {loaded.van.num_classes} classes")
    return loaded, spec


def _open_data(
    options: QuantizeOptions, spec: InputSpec, num_classes: int, stack: ExitStack
) -> tuple[ImageSet, ImageSet]:
    """(held out for validation, to calibrate on). ``--data`` may hold train/ and val/ (or test/) side by side."""
    data, calibration = options.data, options.calibration
    if options.is_demo:
        data = data or asset(DEMO_VALIDATION)
        calibration = calibration or asset(DEMO_CALIBRATION)
    if data is None:
        raise UsageError("accuracy is measured on labelled images: give them with --data DIR|ZIP, one folder a class")
    if data.is_dir() and (train := data / "train").is_dir():
        splits = [data / name for name in ("val", "validation", "test") if (data / name).is_dir()]
        if splits:
            data, calibration = splits[0], calibration or train
    if calibration is None:
        raise UsageError(
            f"calibration takes other images than accuracy is measured on, and {data} has no train/ beside a val/: "
            f"give training images with --calibration DIR|ZIP"
        )
    held_out = stack.enter_context(open_images(data, classes=spec.classes, num_classes=num_classes))
    training = stack.enter_context(open_images(calibration, classes=spec.classes, labelled=False))
    return held_out, training


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


def _export(
    options: QuantizeOptions,
    writer: BundleWriter,
    folded: FoldedVAN,
    calibration: CalibrationImages,
    spec: InputSpec,
    held_out: ImageSet,
    reporter: Reporter,
) -> _Exported:
    """Write every model file of the targets; each was run once and agreed with what it was made of."""
    recipe = options.recipe
    check_pixels = calibration.pixels[:CHECK_IMAGES]
    check_images = calibration.normalized(check_pixels)
    candidates: list[Candidate] = []
    with reporter.stage("Exporting FP32"):
        export_onnx(folded, writer.path(FP32_ONNX), check_images)
    if "openvino" in options.targets:
        with reporter.stage("Exporting FP32 to OpenVINO"):
            path = export_openvino(writer.path(FP32_ONNX), spec, writer.path(FP32_IR))
            _check_ir(path, spec, check_pixels, folded, check_images, quantized=False)
        candidates.append(Candidate("fp32", "openvino", path))
        if has_bf16():
            candidates.append(Candidate("bf16", "openvino", path, {"precision": "bf16"}))
    with reporter.stage("Equalising channels"):
        equalized = equalize(folded, calibration, strength=recipe.equalize_strength)
    probe = _probe(held_out, spec, calibration)
    jobs = [(recipe.openvino_scheme, OPENVINO_ONNX)] if "openvino" in options.targets else []
    if "tensorrt" in options.targets:
        jobs += [(name, f"onnx/model_{name}.onnx") for name in recipe.tensorrt_schemes]
    results = []
    for name, file in jobs:
        with reporter.stage(f"Calibrating {name}", len(calibration.pixels)) as advance:
            quantized = post_training_quantize(equalized, calibration, get_scheme(name), progress=advance)
        with reporter.stage(f"Exporting {name}"):
            export_onnx(quantized, writer.path(file), check_images)
            if file == OPENVINO_ONNX:
                path = export_openvino(writer.path(file), spec, writer.path(INT8_IR))
                _check_ir(path, spec, check_pixels, quantized.graph, check_images, quantized=True)
                candidates.append(Candidate("int8", "openvino", path))
        results.append(_scheme_result(quantized, folded, probe, file))
    return _Exported(tuple(results), tuple(candidates))


@torch.no_grad()
def _check_ir(
    path: Path,
    spec: InputSpec,
    pixels: np.ndarray,
    model: torch.nn.Module,
    images: torch.Tensor,
    *,
    quantized: bool,
) -> None:
    if spec.source_size is None:  # with a resize inside, the check would compare two resizes, not two networks
        check_openvino(path, pixels, model(images).numpy(), quantized=quantized)


def _probe(held_out: ImageSet, spec: InputSpec, calibration: CalibrationImages) -> list[torch.Tensor]:
    """Up to 256 held-out images, evenly spread over the classes, as float batches: what a scheme's SQNR is taken on."""
    indices = np.unique(np.linspace(0, len(held_out) - 1, min(SQNR_IMAGES, len(held_out))).round().astype(int)).tolist()
    host_spec = replace(spec, source_size=None)
    batches = [b.images for b in stream(held_out, host_spec, batch_size=16, indices=indices)]
    if not batches:
        raise DataError(f"{held_out.source}: none of {len(indices)} images could be read")
    return [calibration.normalized(b) for b in batches]


@torch.no_grad()
def _scheme_result(
    quantized: QuantizedVAN, folded: FoldedVAN, probe: list[torch.Tensor], file: str
) -> SchemeResult:
    reference = torch.cat([folded(batch) for batch in probe]).numpy()
    logits = torch.cat([quantized.graph(batch) for batch in probe]).numpy()
    scheme = quantized.scheme
    return SchemeResult(
        name=scheme.name,
        file=file,
        symmetric=scheme.symmetric,
        roles=tuple(sorted(scheme.roles)),
        quantized_layers=len(quantized.layers),
        logit_sqnr_db=sqnr_db(reference, logits),
        agreement_percent=agreement_percent(reference, logits),
        images=len(reference),
    )


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
    with (
        reporter.stage("Measuring accuracy", len(held_out)) as advance,
        open_model("openvino", writer.path(FP32_IR), batch=VALIDATE_BATCH) as fp32,
        open_model("openvino", writer.path(INT8_IR), batch=VALIDATE_BATCH) as int8,
    ):
        accuracy = validate(
            fp32,
            int8,
            held_out,
            spec,
            num_classes=num_classes,
            batch_size=VALIDATE_BATCH,
            strict=strict,
            progress=advance,
            on_broken=broken.append,
        )
    _note_broken(broken, "accuracy", reporter, warnings)
    return accuracy


def _latency(exported: _Exported, reporter: Reporter) -> Latency:
    with reporter.stage("Measuring latency", 300) as advance:
        return measure_latency(exported.candidates, baseline="fp32", rounds=300, progress=advance)
