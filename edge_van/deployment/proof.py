"""The proof of precision of an engine that a device built: each layer in the datatype that its scheme says.

In: what ``trtexec`` wrote of the engine's layers, the graph it was built from. Out: why it is not that, or None.
"""

from __future__ import annotations

from pathlib import Path

from edge_van.engines.layer_table import onnx_layers, parse_layer_json, precision_table, require_precision
from edge_van.errors import DataError, VerificationError
from edge_van.progress import signals_wait


def precision_problem(layers_json: str, graph: Path, tensorrt: str) -> str | None:
    """``graph`` is the bundle's ONNX file. Before version 9 floats may be wider than the graph says."""
    with signals_wait():
        import onnx

    try:
        rows = precision_table(parse_layer_json(layers_json), onnx_layers(onnx.load(graph)))
        require_precision(rows, floats=int(tensorrt.split(".")[0]) >= 9)
    except (VerificationError, DataError) as error:
        return str(error).partition("; --allow-fallback")[0]
    return None
