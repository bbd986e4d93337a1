"""What a scheme's graph computes against FP32, on a few held-out images.

In: a graph or a file, a ``Probe``. Out: a ``SchemeResult``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import SchemeResult
from edge_van.export.exact import exact_file
from edge_van.export.job import ExportJob, Pixels
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.quantization.scheme import Role
from edge_van.runtimes.image_model import open_image_model
from edge_van.statistics import sqnr_db


def scheme_result(
    job: ExportJob, quantized: QuantizedVAN, file: str, target: str = "openvino", float_type: str = "float32"
) -> SchemeResult:
    """Of a quantised graph, whose file at ``file`` was checked against it."""
    scheme = quantized.scheme
    absent = {Role.DENSE_HEAD} - set(quantized.layers.values())  # of what a classifier has not
    roles = tuple(sorted(scheme.roles - absent))
    layers = len(quantized.layers)
    return file_result(
        job, SchemeResult(scheme.name, file, scheme.symmetric, roles, layers, 0.0, 0.0, 0, target, float_type)
    )


def float_result(job: ExportJob, name: str, float_type: str, file: str) -> SchemeResult:
    """Of a file that quantises nothing."""
    return file_result(job, SchemeResult(name, file, True, (), 0, 0.0, 0.0, 0, "tensorrt", float_type))


def file_result(job: ExportJob, scheme: SchemeResult) -> SchemeResult:
    """``scheme`` with what its file computes."""
    reference = job.probe.logits
    logits = file_logits(job, scheme.file, np.concatenate(job.probe.pixels))
    return replace(
        scheme,
        logit_sqnr_db=sqnr_db(reference, logits),
        agreement_percent=job.head.agreement_percent(reference, logits),
        images=len(reference),
        accuracy=None,
        layers_in_float=(),
    )


def file_logits(job: ExportJob, file: str, pixels: Pixels) -> NDArray[np.floating[Any]]:
    """(N, classes) of images (N, H, W, C), the ONNX file computed as it is written."""
    spec = replace(job.spec, source_size=None)  # no ONNX file has the resize inside
    with exact_file(job.place(file)) as exact, open_image_model(exact, spec, job.probe.logits.shape[1]) as model:
        return model.logits(pixels)
