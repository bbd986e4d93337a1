"""What a scheme's graph computes against FP32, on a few held-out images.

In: a graph or a file, a ``Probe``. Out: a ``SchemeResult``.
"""

from __future__ import annotations

import numpy as np
import torch

from edge_van.bundle.records import SchemeResult
from edge_van.export.job import ExportJob
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.statistics import sqnr_db


@torch.no_grad()
def scheme_result(job: ExportJob, quantized: QuantizedVAN, file: str) -> SchemeResult:
    """Of a quantised graph, run as it is."""
    images, reference = job.prepared.images, job.probe.logits
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
    reference, path = job.probe.logits, job.place(file)
    with open_image_model(exact_graph(path), job.spec, reference.shape[1]) as model:
        logits = np.concatenate([model.logits(pixels) for pixels in job.probe.pixels])
    return SchemeResult(
        name=name,
        file=file,
        symmetric=True,
        roles=(),
        quantized_layers=0,
        logit_sqnr_db=sqnr_db(reference, logits),
        agreement_percent=job.head.agreement_percent(reference, logits),
        images=len(reference),
        target="tensorrt",
        float_type=float_type,
    )
