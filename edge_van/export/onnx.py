"""ONNX files: the float network, and the quantised one with explicit QuantizeLinear and DequantizeLinear.

In: a ``FoldedVAN`` or a ``QuantizedVAN``. Out: one self-contained ``.onnx`` (opset 21, free batch size), input
``images`` float32 (N, 3, H, W) normalised, output ``logits`` float32 (N, classes); checked against its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from edge_van.errors import VerificationError
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.ptq import MAX_BATCH, QuantizedVAN, capture_program, quiet_capture
from edge_van.quantization.scheme import LAYERS, module_path, roles
from edge_van.runtimes import open_model
from edge_van.statistics import relative_error, sqnr_db

OPSET = 21
INPUT, OUTPUT = "images", "logits"
FLOAT_TOLERANCE = 1e-4
QDQ_FLOOR_DB = 30.0
QDQ_MARGIN_DB = 3.0
"""Least SQNR of ONNX Runtime's logits against torch's on the same Q/DQ graph, where only rounding ties may differ: 30
dB, or for a network so sensitive that quantisation itself costs more, 3 dB better than quantisation. (A network run far
from the size it was trained at is like that; torch with one thread and with two is then no closer to itself.)"""


def export_onnx(model: FoldedVAN | QuantizedVAN, path: Path, check_images: Tensor) -> Path:
    """Write ``model`` to ``path`` and run the file once, through ONNX Runtime without its graph rewrites.

    ``check_images`` are float (N, 3, H, W), normalised. Raises ``VerificationError`` if the file's logits differ from
    the model's by over 1e-4 relative (float), or its SQNR falls under the floor (Q/DQ).
    """
    if isinstance(model, QuantizedVAN):
        proto = _to_onnx(model.graph, model.input_size)
        graph = model.graph
    else:
        program = capture_program(model)
        proto = _to_onnx(program, model.input_size)
        graph = program.module()
    _name_layers(proto, [module_path(node) for node, role in roles(graph) if role in LAYERS])
    finish(proto, path)
    if isinstance(model, QuantizedVAN):
        check_quantized(model, path, check_images)
    else:
        _check(graph, path, check_images, None)
    return path


def finish(proto: Any, path: Path) -> None:
    """Check ``proto`` and write it to ``path`` without anything of the machine in it."""
    import onnx

    _strip_metadata(proto)
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def check_quantized(model: QuantizedVAN, path: Path, check_images: Tensor) -> None:
    """Run the Q/DQ file and compare with the graph it was made from; ``VerificationError`` under the floor."""
    _check(model.graph, path, check_images, min(QDQ_FLOOR_DB, model.logit_sqnr_db + QDQ_MARGIN_DB))


def _to_onnx(graph: nn.Module | torch.export.ExportedProgram, input_size: tuple[int, int]) -> Any:
    """A program that is captured already is not captured again."""
    captured = isinstance(graph, torch.export.ExportedProgram)
    shapes = None if captured else ({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},)
    with quiet_capture(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            () if captured else (torch.zeros(2, 3, *input_size),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    return cast(Any, program).model_proto


def _name_layers(proto: Any, names: list[str]) -> None:
    """In place: every convolution and linear node, and the constants that feed it, take the layer's official name."""
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    if len(layers) != len(names):
        raise VerificationError(f"the ONNX graph has {len(layers)} convolutions and linear layers, not {len(names)}")
    producer = {output: node for node in proto.graph.node for output in node.output}
    constants = {tensor.name for tensor in proto.graph.initializer}
    renamed: dict[str, str] = {}
    for node, name in zip(layers, names, strict=True):
        node.name = name
        source = producer.get(node.input[1])
        parts = ("weight", "weight_scale", "weight_zero_point")
        inputs = source.input if source is not None and source.op_type == "DequantizeLinear" else node.input[1:2]
        for tensor, part in zip(inputs, parts, strict=False):
            if tensor in constants:
                renamed.setdefault(tensor, f"{name}.{part}")
        if source is not None:
            source.name = f"{name}.weight/dequantize"
        if len(node.input) > 2 and node.input[2] in constants:
            renamed.setdefault(node.input[2], f"{name}.bias")
    for tensor in proto.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in proto.graph.node:
        for i, tensor in enumerate(node.input):
            node.input[i] = renamed.get(tensor, tensor)


def _strip_metadata(proto: Any) -> None:
    """In place: no stack traces and no paths of the machine that made the file, so equal inputs give equal bytes."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    graph = proto.graph
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:  # the only free one; a captured program calls it by a number
                side.dim_param = "batch"
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del item.metadata_props[:]
        item.doc_string = ""
    # opset functions that nothing calls any more
    del proto.functions[:]


@torch.no_grad()
def _check(graph: nn.Module, path: Path, images: Tensor, floor_db: float | None) -> None:
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
