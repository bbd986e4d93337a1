"""Every model file of a bundle: FP32 and quantised, for each target.

In: a folded VAN, calibration and held-out images, a recipe. Out: the files, what each scheme measured, what to time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge_van.benchmark import Candidate
from edge_van.data import BrokenImage, ImageSet, decode, stream
from edge_van.errors import DataError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import INT8_FLOOR_DB, check_openvino, export_openvino
from edge_van.fold import FoldedVAN
from edge_van.input_spec import InputSpec
from edge_van.measure import agreement_percent, sqnr_db
from edge_van.progress import Reporter
from edge_van.quantize.calibration import CalibrationImages
from edge_van.quantize.equalize import equalize
from edge_van.quantize.hardswish import with_hardswish
from edge_van.quantize.ptq import QuantizedVAN, post_training_quantize
from edge_van.quantize.recipe import Recipe
from edge_van.quantize.scheme import get_scheme
from edge_van.records import SchemeResult
from edge_van.runtimes.openvino import has_bf16

CHECK_IMAGES = 8
SQNR_IMAGES = 256
FP32_IR, INT8_IR = "openvino_fp32/model.xml", "openvino/model.xml"
FP32_ONNX, OPENVINO_ONNX = "onnx/model.onnx", "onnx/model_openvino.onnx"


@dataclass(frozen=True)
class ExportedModels:
    """What each scheme measured, and the models to time."""

    schemes: tuple[SchemeResult, ...]
    candidates: tuple[Candidate, ...]


def export_models(
    place: Callable[[str], Path],
    folded: FoldedVAN,
    calibration: CalibrationImages,
    spec: InputSpec,
    held_out: ImageSet,
    recipe: Recipe,
    targets: tuple[str, ...],
    reporter: Reporter,
    *,
    strict: bool = False,
    on_broken: Callable[[BrokenImage], None] | None = None,
) -> ExportedModels:
    """Write every model file of the targets to ``place(relative)``; each is run once and agrees with its source.

    ``held_out`` are images the ranges were not set on: each scheme's SQNR is taken on up to 256 of them. Broken ones
    go to ``on_broken``, or with ``strict`` are a ``DataError`` before a file is written; so is a set of none but those.
    """
    probe = _probe(held_out, spec, calibration, strict, on_broken)
    check_images = calibration.normalized(calibration.pixels[:CHECK_IMAGES])
    candidates: list[Candidate] = []
    with reporter.stage("Exporting FP32"):
        export_onnx(folded, place(FP32_ONNX), check_images)
    if "openvino" in targets:
        with reporter.stage("Exporting FP32 to OpenVINO"):
            path = export_openvino(place(FP32_ONNX), spec, place(FP32_IR))
            _check_ir(path, spec, calibration, folded, None)
        candidates.append(Candidate("fp32", "openvino", path))
        if has_bf16():
            candidates.append(Candidate("bf16", "openvino", path, {"precision": "bf16"}))
    with reporter.stage("Equalising channels"):
        source = with_hardswish(folded) if recipe.activation == "hardswish" else folded
        equalized = equalize(source, calibration, strength=recipe.equalize_strength)
    jobs = [(recipe.openvino_scheme, OPENVINO_ONNX)] if "openvino" in targets else []
    if "tensorrt" in targets:
        jobs += [(name, f"onnx/model_{name}.onnx") for name in recipe.tensorrt_schemes]
    results = []
    for name, file in jobs:
        with reporter.stage(f"Calibrating {name}", len(calibration.pixels)) as advance:
            quantized = post_training_quantize(equalized, calibration, get_scheme(name), progress=advance)
        with reporter.stage(f"Exporting {name}"):
            export_onnx(quantized, place(file), check_images)
            if file == OPENVINO_ONNX:
                path = export_openvino(place(file), spec, place(INT8_IR))
                _check_ir(path, spec, calibration, quantized.graph, quantized.logit_sqnr_db)
                candidates.append(Candidate("int8", "openvino", path))
        results.append(_scheme_result(quantized, folded, probe, file))
    return ExportedModels(tuple(results), tuple(candidates))


@torch.no_grad()
def _check_ir(
    path: Path, spec: InputSpec, calibration: CalibrationImages, model: torch.nn.Module, quantized_db: float | None
) -> None:
    """Run the file and compare with ``model``. With the resize inside, images of the source size go in, and the host's
    own resize stands for it on the other side: two resizes round apart, so the wider tolerance holds."""
    pixels = inputs = calibration.pixels[:CHECK_IMAGES]
    if spec.source_size is not None:
        inputs = np.stack([_resized(image, spec.source_size) for image in pixels])
        host_spec = replace(spec, source_size=None)
        pixels = np.stack([decode(_png(image), host_spec) for image in inputs])
    expected = model(calibration.normalized(pixels)).numpy()
    # integer kernels may be as far from the exact graph as quantisation took it from float, where that is far
    floor = INT8_FLOOR_DB if quantized_db is None else min(INT8_FLOOR_DB, quantized_db)
    quantized = quantized_db is not None or spec.source_size is not None
    check_openvino(path, inputs, expected, quantized=quantized, floor_db=floor)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _probe(
    held_out: ImageSet,
    spec: InputSpec,
    calibration: CalibrationImages,
    strict: bool,
    on_broken: Callable[[BrokenImage], None] | None,
) -> list[torch.Tensor]:
    """Up to 256 held-out images, evenly spread over the classes, as float batches: what a scheme's SQNR is taken on."""
    indices = np.unique(np.linspace(0, len(held_out) - 1, min(SQNR_IMAGES, len(held_out))).round().astype(int)).tolist()
    host_spec = replace(spec, source_size=None)
    found = stream(held_out, host_spec, batch_size=16, indices=indices, strict=strict, on_broken=on_broken)
    batches = [b.images for b in found]
    if not batches:
        raise DataError(f"{held_out.source}: none of {len(indices)} images could be read")
    return [calibration.normalized(b) for b in batches]


@torch.no_grad()
def _scheme_result(quantized: QuantizedVAN, folded: FoldedVAN, probe: list[torch.Tensor], file: str) -> SchemeResult:
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
