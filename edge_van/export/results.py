"""What a scheme's graph computes against FP32, on a few held-out images.

In: a graph or a file, a ``Probe``. Out: a ``SchemeResult``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_van.bundle.records import SchemeResult
from edge_van.export.job import ExportJob, Pixels
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.statistics import sqnr_db


@torch.no_grad()
def scheme_result(job: ExportJob, quantized: QuantizedVAN, file: str) -> SchemeResult:
    """Of a quantised graph, run as it is."""
    images, reference = job.images, job.probe.logits
    logits = torch.cat([quantized.graph(images.normalized(pixels)) for pixels in job.probe.pixels]).numpy()
    scheme = quantized.scheme
    return SchemeResult(
        name=scheme.name,
        file=file,
        symmetric=scheme.symmetric,
        roles=tuple(sorted(scheme.roles)),
        quantized_layers=len(quantized.layers),
        logit_sqnr_db=sqnr_db(reference, logits),
        agreement_percent=job.head.agreement_percent(reference, logits),
        images=len(reference),
    )


def float_result(job: ExportJob, name: str, float_type: str, file: str) -> SchemeResult:
    """Of a file that quantises nothing, run by ONNX Runtime."""
    return file_result(job, SchemeResult(name, file, True, (), 0, 0.0, 0.0, 0, "tensorrt", float_type))


def file_result(job: ExportJob, scheme: SchemeResult) -> SchemeResult:
    """``scheme`` with what its file computes, run by ONNX Runtime."""
    reference = job.probe.logits
    logits = np.concatenate([file_logits(job, scheme.file, pixels) for pixels in job.probe.pixels])
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
    with open_image_model(exact_graph(job.place(file)), job.spec, job.probe.logits.shape[1]) as model:
        return model.logits(pixels)
