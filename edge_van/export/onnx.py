"""ONNX files: the float network, and the quantised one with explicit QuantizeLinear and DequantizeLinear.

In: a ``FoldedVAN`` or a ``QuantizedVAN``. Out: one self-contained ``.onnx`` (opset 20, free batch size), input
``images`` float32 (N, 3, H, W) normalised, output ``logits`` float32 (N, classes); checked against its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from edge_van.errors import VerificationError
from edge_van.export.metadata import put_in_onnx
from edge_van.export.onnx_graph import INPUT, OUTPUT, to_onnx
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.ptq import QuantizedVAN, capture
from edge_van.runtimes import open_model
from edge_van.statistics import relative_error, sqnr_db

FLOAT_TOLERANCE = 1e-4
QDQ_FLOOR_DB = 30.0
QDQ_MARGIN_DB = 3.0
"""Least SQNR of a runtime's logits against torch's on the same Q/DQ graph, where only rounding ties may differ: 30 dB,
or for a network so sensitive that quantisation itself costs more, 3 dB better than quantisation; and where one tie that
turns changes the logits by more than that, 3 dB worse than such a change. (A network run far from the size it was
trained at is like that, and a hard task with two quantisers a layer.)"""
DISTURBANCE = 2.0**-14
"""Of biases and scales, relative: enough to turn a tie in most images, and 84 dB under the logits where it turns none.
Once one has turned, the rounding behind it is another: how much that is does not hang on the disturbance."""


def export_onnx(
    model: FoldedVAN | QuantizedVAN, path: Path, check_images: Tensor, said: Mapping[str, str] | None = None
) -> Path:
    """Write ``model`` to ``path`` and run the file once, through ONNX Runtime without its graph rewrites.

    ``check_images`` are float (N, 3, H, W), normalised. ``said`` is what the file says of itself, of ``described``.
    Raises ``VerificationError`` if the file's logits differ from the model's by over 1e-4 relative (float), or its SQNR
    falls under the floor (Q/DQ).
    """
    graph = model.graph if isinstance(model, QuantizedVAN) else capture(model)
    proto = to_onnx(graph, model.input_size, centred=isinstance(model, QuantizedVAN) and model.scheme.symmetric)
    put_in_onnx(proto, said or {})
    finish(proto, path)
    if isinstance(model, QuantizedVAN):
        check_quantized(model, path, check_images)
    else:
        _check(graph, path, check_images, None)
    return path


def finish(proto: Any, path: Path) -> None:
    """Check ``proto`` and write it to ``path``; equal ones give equal bytes."""
    import onnx

    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def check_quantized(model: QuantizedVAN, path: Path, check_images: Tensor) -> None:
    """Run the Q/DQ file and compare with the graph it was made from; ``VerificationError`` under the floor."""
    _check(model.graph, path, check_images, qdq_floor_db(model, check_images))


@torch.no_grad()
def qdq_floor_db(model: QuantizedVAN, images: Tensor) -> float:
    """Least SQNR of the logits for ``images`` of a file that is computed as it is written."""
    graph, generator = model.graph, torch.Generator().manual_seed(0)
    expected = graph(images).numpy()
    vectors = [v for v in (*graph.parameters(), *graph.buffers()) if v.is_floating_point() and v.ndim == 1]
    kept = [values.clone() for values in vectors]
    try:
        for values in vectors:
            values.mul_(1.0 + DISTURBANCE * torch.empty(len(values)).uniform_(-1.0, 1.0, generator=generator))
        ties_db = sqnr_db(expected, graph(images).numpy())
    finally:
        for values, before in zip(vectors, kept, strict=True):
            values.copy_(before)
    return min(QDQ_FLOOR_DB, model.logit_sqnr_db + QDQ_MARGIN_DB, ties_db - QDQ_MARGIN_DB)


@torch.no_grad()
def _check(graph: Module, path: Path, images: Tensor, floor_db: float | None) -> None:
    """``floor_db`` is the least SQNR of a Q/DQ graph, None for a float one."""
    expected = graph(images).numpy()
    with open_model("onnxruntime", path, exact=True) as session:
        actual = session.run({INPUT: np.ascontiguousarray(images.numpy())})[OUTPUT]
    if floor_db is not None:
        measured = sqnr_db(expected, actual)
        if not measured >= floor_db:
            raise VerificationError(
                f"{path.name} computes other logits than its graph: {measured:.1f} dB SQNR, at least {floor_db:.1f} "
                f"were expected"
            )
    elif not (error := relative_error(actual, expected)) <= FLOAT_TOLERANCE:
        raise VerificationError(f"{path.name} computes other logits than the folded network: {error:.1e} relative")
