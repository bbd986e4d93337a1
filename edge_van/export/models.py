"""Every model file of a bundle: FP32 and quantised, for each target.

In: a folded VAN, calibration and held-out images, a recipe. Out: the files, what each scheme measured, what to time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.fx import GraphModule

from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.records import SchemeResult
from edge_van.errors import DataError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import INT8_FLOOR_DB, RESIZE_FLOOR_DB, check_openvino, export_openvino, layers_in_float
from edge_van.export.results import scheme_result
from edge_van.export.tensorrt_models import TensorRTExport
from edge_van.images.decode import decode
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, stream
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN
from edge_van.progress import Reporter
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.hardswish import with_hardswish
from edge_van.quantization.ptq import Calibrated, QuantizedVAN, calibrate, capture, convert
from edge_van.quantization.recipe import Recipe
from edge_van.quantization.scheme import Scheme, for_openvino, get_scheme
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.openvino import has_bf16

CHECK_IMAGES = 8
SQNR_IMAGES = 256


@dataclass(frozen=True)
class ExportedModels:
    """What each scheme measured, the models to time, and what a user should know."""

    schemes: tuple[SchemeResult, ...]
    candidates: tuple[ModelFile, ...]
    warnings: tuple[str, ...] = ()


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
    probe = _probe(held_out, spec, strict, on_broken)
    check_images = calibration.normalized(calibration.pixels[:CHECK_IMAGES])
    candidates: list[ModelFile] = []
    with reporter.stage("Exporting FP32"):
        export_onnx(folded, place(FP32_ONNX), check_images)
    if "openvino" in targets:
        with reporter.stage("Exporting FP32 to OpenVINO"):
            path = export_openvino(place(FP32_ONNX), spec, place(FP32_IR))
            _check_ir(path, spec, calibration, folded, None)
        candidates.append(ModelFile("fp32", "openvino", path))
        if has_bf16():
            candidates.append(ModelFile("bf16", "openvino", path, {"precision": "bf16"}))
    with reporter.stage("Equalising channels"):
        source = with_hardswish(folded) if recipe.activation == "hardswish" else folded
        equalized = equalize(source, calibration, strength=recipe.equalize_strength)
        captured = capture(equalized)
    results: list[SchemeResult] = []
    warnings: list[str] = []
    if "openvino" in targets:
        [quantized] = _quantized(equalized, captured, calibration, (for_openvino(recipe.openvino_scheme),), reporter)
        with reporter.stage(f"Exporting {quantized.scheme.name} to OpenVINO"):
            export_onnx(quantized, place(OPENVINO_ONNX), check_images)
            path = export_openvino(place(OPENVINO_ONNX), spec, place(INT8_IR))
            _check_ir(path, spec, calibration, quantized.graph, quantized.logit_sqnr_db)
            left = layers_in_float(path, quantized.layers, _as_sent(calibration.pixels[:1], spec))
        if left:
            warnings.append(
                f"OpenVINO computes {len(left)} of {len(quantized.layers)} quantised layers in float on this CPU, the "
                f"first is {left[0]}: the latency here is that of a part in INT8"
            )
            reporter.note(f"warning: {warnings[-1]}")
        candidates.append(ModelFile("int8", "openvino", path))
        result = scheme_result(quantized, folded, probe, calibration, OPENVINO_ONNX)
        results.append(replace(result, layers_in_float=left))
    if "tensorrt" in targets:
        schemes = tuple(map(get_scheme, recipe.tensorrt_schemes))
        graphs = _quantized(equalized, captured, calibration, schemes, reporter)
        export = TensorRTExport(
            place, replace(spec, source_size=None), recipe, calibration, folded, equalized, probe, reporter, warnings
        )
        results += [*export.quantized(graphs), *export.plain()]
    return ExportedModels(tuple(results), tuple(candidates), tuple(warnings))


def _quantized(
    model: FoldedVAN,
    captured: GraphModule,
    images: CalibrationImages,
    schemes: tuple[Scheme, ...],
    reporter: Reporter,
) -> Iterator[QuantizedVAN]:
    """Each scheme's graph in turn; the images run again only where a scheme's ranges are not known yet."""
    calibrated: Calibrated | None = None
    for scheme in sorted(schemes, key=lambda s: -len(s.roles)):
        if calibrated is None or not calibrated.serves(scheme):
            with reporter.stage(f"Calibrating {scheme.name}", len(images.pixels)) as advance:
                calibrated = calibrate(model, images, scheme, captured=captured, progress=advance)
        with reporter.stage(f"Quantising {scheme.name}"):
            quantized = convert(calibrated, scheme)
        yield quantized


@torch.no_grad()
def _check_ir(
    path: Path, spec: InputSpec, calibration: CalibrationImages, model: torch.nn.Module, quantized_db: float | None
) -> None:
    """Run the file and compare with ``model``. With the resize inside, images of the source size go in, and the host's
    own resize stands for it on the other side: two resizes round apart, so the wider tolerance holds."""
    pixels = calibration.pixels[:CHECK_IMAGES]
    inputs = _as_sent(pixels, spec)
    if spec.source_size is not None:
        host_spec = replace(spec, source_size=None)
        pixels = np.stack([decode(_png(image), host_spec) for image in inputs])
    expected = model(calibration.normalized(pixels)).numpy()
    floor: float | None
    if quantized_db is not None:
        # integer kernels may be as far from the exact graph as quantisation took it from float, where that is far
        floor = min(INT8_FLOOR_DB, quantized_db)
    else:
        floor = None if spec.source_size is None else RESIZE_FLOOR_DB[spec.interpolation]
    check_openvino(path, inputs, expected, floor_db=floor)


def _as_sent(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) at the size the file takes."""
    if spec.source_size is None:
        return pixels
    return np.stack([_resized(image, spec.source_size) for image in pixels])


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _probe(
    held_out: ImageSet,
    spec: InputSpec,
    strict: bool,
    on_broken: Callable[[BrokenImage], None] | None,
) -> list[NDArray[np.uint8]]:
    """Up to 256 held-out images, evenly spread over the classes, in batches: what a scheme's SQNR is taken on."""
    indices = np.unique(np.linspace(0, len(held_out) - 1, min(SQNR_IMAGES, len(held_out))).round().astype(int)).tolist()
    host_spec = replace(spec, source_size=None)
    found = stream(held_out, host_spec, batch_size=16, indices=indices, strict=strict, on_broken=on_broken)
    batches = [b.images for b in found]
    if not batches:
        raise DataError(f"{held_out.source}: none of {len(indices)} images could be read")
    return batches
