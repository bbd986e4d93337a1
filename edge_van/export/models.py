"""The FP32 and OpenVINO files of a bundle; TensorRT's are in ``export.tensorrt_models``.

In: an ``ExportJob`` and a quantised graph. Out: the files, each run once and compared with its source; an ``Exported``.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edge_van.bundle.layout import ARM_IR, ARM_ONNX, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.export.job import Exported, ExportJob, Pixels
from edge_van.export.onnx import export_onnx, qdq_floor_db
from edge_van.export.openvino import INT8_FLOOR_DB, RESIZE_FLOOR_DB, check_openvino, export_openvino, layers_in_float
from edge_van.export.results import scheme_result
from edge_van.images.decode import decode
from edge_van.input_spec import InputSpec
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.openvino import has_bf16


def export_fp32(job: ExportJob, *, with_openvino: bool) -> Exported:
    """The folded network as ONNX, and as the IR that an INT8 model is compared with."""
    folded = job.prepared.folded
    with job.work.reporter.stage("Exporting FP32"):
        export_onnx(folded, job.place(FP32_ONNX), job.check_images)
    if not with_openvino:
        return Exported()
    with job.work.reporter.stage("Exporting FP32 to OpenVINO"):
        path = export_openvino(job.place(FP32_ONNX), job.spec, job.place(FP32_IR))
        _check_ir(job, path, folded, None)
    models = [ModelFile("fp32", "openvino", path)]
    if has_bf16():
        models.append(ModelFile("bf16", "openvino", path, {"precision": "bf16"}))
    return Exported(models=tuple(models))


def export_int8(job: ExportJob, quantized: QuantizedVAN) -> Exported:
    """OpenVINO's scheme as explicit Q/DQ ONNX and as IR; layers that this CPU computes in float are named."""
    with job.work.reporter.stage(f"Exporting {quantized.scheme.name} to OpenVINO"):
        export_onnx(quantized, job.place(OPENVINO_ONNX), job.check_images)
        path = export_openvino(job.place(OPENVINO_ONNX), job.spec, job.place(INT8_IR))
        _check_ir(job, path, quantized.graph, quantized.logit_sqnr_db)
        left = layers_in_float(path, quantized.layers, as_sent(job.check_pixels[:1], job.spec))
    warnings: tuple[str, ...] = ()
    if left:
        warnings = (
            f"OpenVINO computes {len(left)} of {len(quantized.layers)} quantised layers in float on this CPU, the "
            f"first is {left[0]}: the latency here is that of a part in INT8",
        )
        job.work.warn(warnings)
    result = replace(scheme_result(job, quantized, OPENVINO_ONNX), layers_in_float=left)
    return Exported((result,), (ModelFile("int8", "openvino", path),), warnings)


def export_arm(job: ExportJob, quantized: QuantizedVAN) -> Exported:
    """ARM's scheme as ONNX and as IR, checked as it is written: its integer kernels are another CPU's."""
    with job.work.reporter.stage(f"Exporting {quantized.scheme.name}"):
        export_onnx(quantized, job.place(ARM_ONNX), job.check_images)
        path = export_openvino(job.place(ARM_ONNX), job.spec, job.place(ARM_IR))
        floor_db = qdq_floor_db(quantized, job.prepared.images.normalized(job.check_pixels))
        _check_ir(job, path, quantized.graph, quantized.logit_sqnr_db, exact_floor_db=floor_db)
    return Exported((replace(scheme_result(job, quantized, ARM_ONNX), target="openvino_arm"),))


@torch.no_grad()
def _check_ir(
    job: ExportJob,
    path: Path,
    model: torch.nn.Module,
    quantized_db: float | None,
    *,
    exact_floor_db: float | None = None,
) -> None:
    """Run the file and compare with ``model``; with ``exact_floor_db`` it is computed as it is written.

    With the resize inside, images of the source size go in, and the host's own resize stands for it on the other side:
    two resizes round apart, so the wider tolerance holds.
    """
    spec, pixels = job.spec, job.check_pixels
    inputs = as_sent(pixels, spec)
    if spec.source_size is not None:
        host_spec = replace(spec, source_size=None)
        pixels = np.stack([decode(_png(image), host_spec) for image in inputs])
    expected = model(job.prepared.images.normalized(pixels)).numpy()
    floor: float | None
    if quantized_db is None:
        floor = None if spec.source_size is None else RESIZE_FLOOR_DB[spec.interpolation]
    elif exact_floor_db is not None and spec.source_size is None:
        floor = exact_floor_db
    else:
        # integer kernels may be as far from the exact graph as quantisation took it from float, where that is far
        floor = min(INT8_FLOOR_DB, quantized_db)
    check_openvino(path, inputs, expected, floor_db=floor, exact=exact_floor_db is not None)


def as_sent(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Images (N, H, W, 3) at the size the file takes."""
    if spec.source_size is None:
        return pixels
    return np.stack([_resized(image, spec.source_size) for image in pixels])


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
