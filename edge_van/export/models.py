"""The FP32 and OpenVINO files of a bundle; TensorRT's are in ``export.tensorrt_models``.

In: an ``ExportJob`` and a quantised graph. Out: the files, each run once and compared with its source; an ``Exported``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edge_van.bundle.layout import ARM_IR, ARM_ONNX, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.records import SchemeResult
from edge_van.export.job import Exported, ExportJob, Pixels
from edge_van.export.metadata import IR_MADE_FOR, MADE_FOR, described
from edge_van.export.onnx import export_onnx, qdq_floor_db
from edge_van.export.openvino import RESIZE_FLOOR_DB, check_kernels, check_openvino, export_openvino, layers_in_float
from edge_van.export.results import scheme_result
from edge_van.images.decode import as_image, decode, to_pixels
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.openvino import has_bf16
from edge_van.statistics import sqnr_db

RESIZED_FLOOR_DB, RESIZED_MARGIN_DB, RESIZED_IMAGES = 18.0, 3.0, 32


def export_fp32(job: ExportJob, network: FoldedVAN, *, with_openvino: bool) -> Exported:
    """``network``, which computes what the job's folded one does, as ONNX, and as the IR that INT8 is compared with."""
    with job.work.reporter.stage("Exporting FP32"):
        export_onnx(network, job.place(FP32_ONNX), job.check_images, _said(job, "FP32 for any runtime"))
    if not with_openvino:
        return Exported()
    with job.work.reporter.stage("Exporting FP32 to OpenVINO"):
        said = "FP32 for CPUs, by OpenVINO"
        path = export_openvino(job.place(FP32_ONNX), job.spec, job.place(FP32_IR), said, job.outputs)
        _check_ir(job, path, job.folded)
    models = [ModelFile("fp32", "openvino", path)]
    if has_bf16():
        models.append(ModelFile("bf16", "openvino", path, {"precision": "bf16"}))
    return Exported(models=tuple(models))


def export_int8(job: ExportJob, quantized: QuantizedVAN) -> Exported:
    """OpenVINO's scheme as explicit Q/DQ ONNX and as IR; layers that this CPU computes in float are named."""
    with job.work.reporter.stage(f"Exporting {quantized.scheme.name} to OpenVINO"):
        said = _said(job, MADE_FOR["openvino"])
        export_onnx(quantized, job.place(OPENVINO_ONNX), job.check_images, said)
        made_for = IR_MADE_FOR["openvino"]
        path = export_openvino(job.place(OPENVINO_ONNX), job.spec, job.place(INT8_IR), made_for, job.outputs)
        _check_int8(job, path, quantized)
        result = scheme_result(job, quantized, OPENVINO_ONNX)
        check_int8_ir(job, path, lambda images: _logits(quantized.graph, images), result.logit_sqnr_db)
        return int8_exported(job, path, result, quantized.layers)


def int8_exported(job: ExportJob, path: Path, result: SchemeResult, layers: Collection[str]) -> Exported:
    """The INT8 IR at ``path``, with those of its quantised ``layers`` that this CPU computes in float."""
    left = layers_in_float(path, layers, as_sent(job.check_pixels[:1], job.spec))
    warnings: tuple[str, ...] = ()
    if left:
        warnings = (
            f"OpenVINO computes {len(left)} of {len(layers)} quantised layers in float on this CPU, the first is "
            f"{left[0]}: the latency here is that of a part in INT8",
        )
        job.work.warn(warnings)
    models = [ModelFile("int8", "openvino", path)]
    if has_bf16():
        models.append(ModelFile("int8_bf16", "openvino", path, {"precision": "bf16"}))
    return Exported((replace(result, layers_in_float=left),), tuple(models), warnings)


def export_arm(job: ExportJob, quantized: QuantizedVAN) -> Exported:
    """ARM's scheme as ONNX and as IR, checked as it is written: its integer kernels are another CPU's."""
    with job.work.reporter.stage(f"Exporting {quantized.scheme.name}"):
        said = _said(job, MADE_FOR["openvino_arm"])
        export_onnx(quantized, job.place(ARM_ONNX), job.check_images, said)
        made_for = IR_MADE_FOR["openvino_arm"]
        path = export_openvino(job.place(ARM_ONNX), job.spec, job.place(ARM_IR), made_for, job.outputs)
        _check_int8(job, path, quantized)
    return Exported((scheme_result(job, quantized, ARM_ONNX, "openvino_arm"),))


def _said(job: ExportJob, made_for: str) -> dict[str, str]:
    return described(job.spec, "floats", made_for, job.outputs)


def _check_int8(job: ExportJob, path: Path, quantized: QuantizedVAN) -> None:
    """The file, computed as it is written. Where the resize inside rounds apart from the host's, the quantisers behind
    it do as well, which costs about what quantisation does."""
    floor_db = qdq_floor_db(quantized, job.check_images)
    if job.spec.source_size is not None:
        floor_db = min(floor_db, RESIZED_FLOOR_DB, quantized.logit_sqnr_db - RESIZED_MARGIN_DB)
    _check_ir(job, path, quantized.graph, floor_db)


def _check_ir(job: ExportJob, path: Path, model: torch.nn.Module, floor_db: float | None = None) -> None:
    """Run the file and compare with ``model``; one with quantisers, which has a ``floor_db``, as it is written."""
    inputs, images = _both_ways(job, job.check_pixels)
    exact, spec = floor_db is not None, job.spec
    if spec.source_size is not None:
        resize_db = RESIZE_FLOOR_DB[spec.interpolation]
        floor_db = resize_db if floor_db is None else min(floor_db, resize_db)
    check_openvino(path, inputs, _logits(model, images), floor_db=floor_db, exact=exact)


def check_int8_ir(
    job: ExportJob,
    path: Path,
    graph: Callable[[Tensor], NDArray[np.floating[Any]]],
    graph_db: float,
    *,
    exact: bool = False,
) -> None:
    """``graph`` gives the logits of normalised images that the IR's source gives, ``graph_db`` is its SQNR; see
    ``check_kernels``.

    On all the images that the graph was measured on: of a few the noisiest one decides. With the resize inside on
    fewer, for which the networks have to be run again."""
    inputs, reference = np.concatenate(job.probe.pixels), job.probe.logits
    if job.spec.source_size is not None:
        inputs, images = _both_ways(job, inputs[:RESIZED_IMAGES])
        reference = _logits(job.folded, images)
        graph_db = sqnr_db(reference, graph(images))
    check_kernels(path, inputs, reference, graph_db, exact=exact)


def _both_ways(job: ExportJob, pixels: Pixels) -> tuple[Pixels, Tensor]:
    """(``pixels`` as the file takes them, the same images normalised for a network).

    With the resize inside, images of the source size go in, and the host's own resize stands for it on the other side:
    two resizes round apart.
    """
    spec = job.spec
    inputs = as_sent(pixels, spec)
    if spec.source_size is not None:
        host_spec = replace(spec, source_size=None)
        pixels = np.stack([decode(as_file(image, spec), host_spec) for image in inputs])
    return inputs, job.images.normalized(pixels)


@torch.no_grad()
def _logits(model: torch.nn.Module, images: Tensor) -> NDArray[np.float32]:
    logits: Tensor = model(images)
    return logits.numpy()


def as_sent(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Images (N, H, W, C) at the size the file takes."""
    if spec.source_size is None:
        return pixels
    height, width = spec.source_size
    sent = [as_image(image, spec).resize((width, height), Image.Resampling.BICUBIC) for image in pixels]
    return np.stack([to_pixels(image, spec) for image in sent])


def as_file(image: Pixels, spec: InputSpec) -> bytes:
    """The bytes of an image file that holds these pixels."""
    buffer = io.BytesIO()
    upright = as_image(image, spec)
    if upright.mode == "RGBX":  # PNG calls a fourth band alpha
        upright = Image.frombytes("RGBA", upright.size, upright.tobytes())
    upright.save(buffer, "PNG")
    return buffer.getvalue()
