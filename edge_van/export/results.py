"""What a scheme's graph computes against FP32, on a few held-out images.

In: a graph or a file, the folded network, images. Out: a ``SchemeResult``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_van.bundle.records import SchemeResult
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.runtimes import open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.statistics import agreement_percent, sqnr_db


@torch.no_grad()
def scheme_result(
    quantized: QuantizedVAN, folded: FoldedVAN, probe: list[NDArray[np.uint8]], images: CalibrationImages, file: str
) -> SchemeResult:
    """Of a quantised graph, run as it is; ``probe`` are images (N, H, W, 3) that set no range."""
    batches = [images.normalized(pixels) for pixels in probe]
    reference = torch.cat([folded(batch) for batch in batches]).numpy()
    logits = torch.cat([quantized.graph(batch) for batch in batches]).numpy()
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


@torch.no_grad()
def float_result(
    name: str,
    float_type: str,
    file: str,
    path: Path,
    folded: FoldedVAN,
    probe: list[NDArray[np.uint8]],
    spec: InputSpec,
    images: CalibrationImages,
) -> SchemeResult:
    """Of a file that quantises nothing, run by ONNX Runtime."""
    reference = torch.cat([folded(images.normalized(pixels)) for pixels in probe]).numpy()
    with NormalizedSession(open_model("onnxruntime", path, exact=True), spec) as session:
        [taken], [given] = session.inputs, session.outputs
        logits = np.concatenate([session.run({taken.name: pixels})[given.name] for pixels in probe])
    return SchemeResult(
        name=name,
        file=file,
        symmetric=True,
        roles=(),
        quantized_layers=0,
        logit_sqnr_db=sqnr_db(reference, logits),
        agreement_percent=agreement_percent(reference, logits),
        images=len(reference),
        target="tensorrt",
        float_type=float_type,
    )
