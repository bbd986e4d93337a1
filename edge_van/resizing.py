"""A bundle for another input size, made of one that is there: the same integers, scales and zero points.

In: a bundle, a size, labelled images where accuracy is to be measured. Out: another ``Bundle`` on disk.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.records import MANIFEST_SCHEMA_VERSION, CalibrationRecord, Manifest
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import UsageError
from edge_van.evaluation.evidence import Evidence, measure
from edge_van.evaluation.gates import NO_VNNI
from edge_van.export.golden import write_golden
from edge_van.export.job import Exported, ExportJob, Probe, probe_of, take_probe
from edge_van.export.models import as_file
from edge_van.export.resized import export_resized
from edge_van.images.decode import decode
from edge_van.images.draw import fingerprint, hashes
from edge_van.images.labelled import Wanted, open_labelled
from edge_van.images.sets import ImageSet, splits
from edge_van.images.stream import require_source_size
from edge_van.input_spec import InputSpec
from edge_van.machine import describe_machine, versions
from edge_van.model.fold import FoldedVAN
from edge_van.model.resize import resized
from edge_van.model.variants import VARIANTS
from edge_van.progress import UNWATCHED, Work
from edge_van.quantization.calibration import CalibrationImages
from edge_van.runtimes.torch_network import read_folded
from edge_van.storage.folders import free_space_check
from edge_van.text import one_line
from edge_van.version import __version__


class _Images(NamedTuple):
    """What the files are checked with, and what is measured on it: nothing where no images were given."""

    probe: Probe
    held_out: ImageSet | None
    calibration: CalibrationRecord
    warnings: tuple[str, ...]


def resize(
    bundle: Bundle | str | Path,
    input_size: tuple[int, int],
    *,
    data: str | Path | None = None,
    labels: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
    work: Work = UNWATCHED,
) -> Bundle:
    """Make a new bundle for images of ``input_size`` (height, width); ``bundle`` stays as it is.

    Weights and ranges are those of ``bundle``: no image is needed. ``data`` are labelled images, a folder or zip of
    ``<class>/<image>`` or one with a file of ``labels``, on which accuracy and latency are measured as ``quantize``
    does; without, the new bundle has neither. ``output`` is by default the old folder's name and the size, beside it.
    Engines are not taken along.

    A larger size needs kernels that were not cropped for the old one. Raises ``UsageError`` with the sizes there are
    for one that is not, ``BundleError`` for a damaged bundle or one without its ONNX files, ``DataError``,
    ``VerificationError`` where a file's logits are another network's.
    """
    if labels is not None and data is None:
        raise UsageError("--labels says what is true of the images of --data: give them, too")
    bundle = as_bundle(bundle)
    manifest = bundle.manifest
    spec = manifest.input_spec.with_overrides(size=input_size)
    name = f"{bundle.path.resolve().name}_{_px(spec)}"
    folder = bundle.path.resolve().with_name(name) if output is None else Path(output)
    with ExitStack() as stack:
        writer = BundleWriter(folder, force=force)  # an output that is in the way is said before any work
        if spec == manifest.input_spec:
            raise UsageError(f"{bundle.path} is for {_px(spec)} px already: give another --input-size, or copy it")
        network = _network(bundle, spec)
        held_out = None if data is None else stack.enter_context(_held_out(Path(data), labels, manifest, work))
        free_space_check(writer.output, sum(entry.size_bytes for entry in manifest.files))
        stack.enter_context(writer)
        images = _images(bundle, spec, network, held_out, work)
        pixels = CalibrationImages(np.concatenate(images.probe.pixels), spec, manifest.recipe.batch)
        job = ExportJob(writer.path, spec, network, pixels, images.probe, work, manifest.head)
        exported = export_resized(job, bundle)
        golden = write_golden(job, exported.schemes)
        evidence = _evidence(job, exported, images.held_out, manifest)
        if manifest.engines:
            work.reporter.note("The engines, which are for the old size, stay behind: edge-van build makes others.")
        return writer.finish(
            replace(
                manifest,
                schema_version=MANIFEST_SCHEMA_VERSION,
                edge_van_version=__version__,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                input_spec=spec,
                fold=replace(manifest.fold, kernels_cropped=network.kernels_cropped),
                calibration=images.calibration,
                schemes=evidence.schemes,
                versions=versions(),
                machine=describe_machine(),
                accuracy=evidence.accuracy,
                latency=evidence.latency,
                warnings=(*images.warnings, *exported.warnings, *evidence.warnings, *_earlier(manifest)),
                engines={},
                golden=golden,
                rounded=evidence.rounded,
                budget=None,  # it was kept at the old size
                precisions=evidence.precisions,
                cpu=evidence.cpu,
            )
        )


def _px(spec: InputSpec) -> str:
    return f"{spec.size[0]}x{spec.size[1]}"


def _network(bundle: Bundle, spec: InputSpec) -> FoldedVAN:
    """The float network at the new size."""
    files = dict.fromkeys((FP32_ONNX, *(scheme.file for scheme in bundle.manifest.schemes)))
    listed = {entry.path for entry in bundle.manifest.files}
    if missing := sorted(files.keys() - listed):
        raise UsageError(
            f"{bundle.path} has no {missing[0]}, of which a bundle of another size is made: give the whole bundle, not "
            f"what was deployed of it"
        )
    bundle.check(*files)
    folded = read_folded(bundle.file(FP32_ONNX))
    return resized(folded, spec.size, published=bundle.manifest.variant in VARIANTS)


def _held_out(data: Path, labels: str | Path | None, manifest: Manifest, work: Work) -> ImageSet:
    wanted = Wanted(manifest.head, manifest.num_classes, manifest.input_spec.classes, labels)
    images = open_labelled(splits(data)[0], wanted)
    work.warn(images.warnings)
    return images


def _images(bundle: Bundle, spec: InputSpec, network: FoldedVAN, held_out: ImageSet | None, work: Work) -> _Images:
    old, size = bundle.manifest.input_spec, _px(spec)
    calibration = bundle.manifest.calibration
    origin = (
        f"made for {size} px of {one_line(bundle.path.resolve().name)}, which is for {_px(old)} px: weights and ranges "
        f"are those that were set there"
    )
    if held_out is not None:
        require_source_size(held_out, spec)
        with work.reporter.stage("Reading images"):
            measured_on = fingerprint(hashes(held_out))
            probe = take_probe(held_out, spec, network, work)
        warnings = [origin, *held_out.warnings]
        if measured_on != calibration.validation_sha256:
            warnings.append(
                f"{one_line(held_out.source.name)} is not the set that calibration left out: whether images of it set "
                f"the ranges is not known"
            )
        return _Images(probe, held_out, replace(calibration, validation_sha256=measured_on), tuple(warnings))
    if bundle.manifest.golden is None:
        raise UsageError(f"{bundle.path} has no golden images to check its files with: give images with --data DIR|ZIP")
    # the images as they were seen, whole: the crop was taken from them already
    whole = replace(spec, crop=1.0, source_size=None)
    pixels = np.stack([decode(as_file(image, old), whole) for image in read_golden(bundle).pixels])
    warnings = [
        origin,
        f"accuracy and latency were not measured at {size} px: give edge-van export labelled images with --data",
        f"golden images, and the SQNR of the schemes, are of {len(pixels)} images of {_px(old)} px, resized to {size}",
    ]
    return _Images(probe_of((pixels,), spec, network), None, calibration, tuple(warnings))


def _evidence(job: ExportJob, exported: Exported, held_out: ImageSet | None, manifest: Manifest) -> Evidence:
    if held_out is None:
        return Evidence(None, None, exported.schemes, ())
    targets = sorted({scheme.target for scheme in exported.schemes})
    return measure(job, exported, held_out, manifest.recipe, targets)


def _earlier(manifest: Manifest) -> tuple[str, ...]:
    """What was to be known of the old bundle, figures of its size among it, which is said with each; but nothing of the
    CPU that made it."""
    said = (warning for warning in manifest.warnings if not warning.endswith(NO_VNNI))
    return tuple(f"at {_px(manifest.input_spec)} px: {warning}" for warning in said)
