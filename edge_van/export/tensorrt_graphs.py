"""The ONNX files that TensorRT builds engines from: fp32, fp16, and one Q/DQ graph per symmetric scheme.

In: a float32 ONNX file of ``export.onnx``. Out: the same network, typed as the engine shall compute it, with the input
the recipe asks for; checked against TensorRT's rules and run once against the file it came from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.errors import VerificationError
from edge_van.export.metadata import described, put_in_onnx
from edge_van.export.precision import to_float16, with_uint8_input
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.statistics import sqnr_db

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_van.input_spec import InputSpec

FLOAT16_FLOOR_DB = 40.0
"""Least SQNR of float16 logits against float32's: half precision has 11 bits, and a VAN-B0 keeps over 60 dB."""
TIE_FLOOR_DB = 25.0
"""Least SQNR of a float16 Q/DQ graph's logits: rounding to float16 turns quantisation ties over; its own noise is near
30 dB."""


def float16_floor_db(quantized_db: float | None) -> float:
    """What float16 must keep of a graph's logits; ``quantized_db`` as for ``write_tensorrt_graph``."""
    return FLOAT16_FLOOR_DB if quantized_db is None else min(TIE_FLOOR_DB, quantized_db)


def write_tensorrt_graph(
    source: Path,
    path: Path,
    spec: InputSpec,
    pixels: NDArray[np.uint8],
    *,
    float_type: str,
    input_type: str,
    quantized_db: float | None = None,
) -> Path:
    """Write ``source`` (float32, normalised float input) as TensorRT shall take it to ``path``, and compare the two.

    ``pixels`` are images (N, H, W, C) to run. ``quantized_db`` is what quantisation itself costs, None for a graph
    without: a network far from float in any case is not refused for being as far from its own other rounding.
    Raises ``VerificationError`` where a rule is broken, a number does not fit, or the logits differ by too much.
    """
    import onnx

    model = onnx.load(source)
    if float_type == "float16":
        model = to_float16(model)
    if input_type == "uint8":
        model = with_uint8_input(model, spec)
    kind = {"float16": "FP16", "float32": "FP32"}[float_type] if quantized_db is None else "Q/DQ"
    put_in_onnx(model, described(spec, "pixels" if input_type == "uint8" else "floats", f"{kind} for TensorRT"))
    onnx.checker.check_model(model, full_check=True)
    check_qdq_rules(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    logits = [_logits(file, spec, pixels) for file in (source, path)]
    floor = float16_floor_db(quantized_db)
    measured = sqnr_db(*logits)
    if not measured >= floor:
        raise VerificationError(
            f"{path.name} in {float_type} computes other logits than {source.name}: {measured:.1f} dB SQNR, at least "
            f"{floor:.1f} were expected"
        )
    return path


def _logits(path: Path, spec: InputSpec, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
    with open_image_model(exact_graph(path), spec, None) as model:
        return model.logits(pixels)
