"""The files of a bundle at another input size, from the files that it has: no image is needed to quantise again.

In: a ``Bundle``, an ``ExportJob`` of the network at that size. Out: the files, each run once and compared with the
float network at that size as torch computes it; an ``Exported``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import ARM_IR, FP32_IR, INT8_IR
from edge_van.bundle.models import Takes
from edge_van.bundle.records import SchemeResult
from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.errors import VerificationError
from edge_van.export.float16_range import largest_in_file
from edge_van.export.job import Exported, ExportJob, joined
from edge_van.export.metadata import IR_MADE_FOR, MADE_FOR, described, put_in_onnx
from edge_van.export.models import check_int8_ir, export_fp32, int8_exported
from edge_van.export.onnx import finish
from edge_van.export.onnx_graph import INPUT, OUTPUT
from edge_van.export.onnx_resize import resized_graph
from edge_van.export.openvino import export_openvino
from edge_van.export.results import file_result
from edge_van.export.tensorrt_models import export_plain
from edge_van.runtimes import open_model
from edge_van.runtimes.onnx_file import read_onnx

LEAST_DB = 6.0
"""SQNR under which a graph is refused: half of what its logits say is noise. One that was there before may be 3 dB
further off."""
FURTHER_OFF_DB, NEAR_DB = 3.0, 30.0
"""Twice the noise that quantisation costs at the size where the ranges were set is worth a warning, but where even that
is little: the demo's own graphs are at 28 to 30 dB."""


def export_resized(job: ExportJob, bundle: Bundle) -> Exported:
    """Write every file that ``bundle`` has for any target, at the size of ``job.spec``.

    A graph in float16 that leaves its range at this size is left out, with a warning. Raises ``BundleError`` for a file
    that is not as edge-van writes it, ``VerificationError`` for one whose logits are another network's.
    """
    manifest = bundle.manifest
    listed = {entry.path for entry in manifest.files}
    parts = [export_fp32(job, job.folded, with_openvino=FP32_IR in listed)]
    parts += [_quantized(job, bundle, scheme) for scheme in manifest.schemes if scheme.quantized_layers]
    if any(scheme.target == "tensorrt" for scheme in manifest.schemes):
        parts.append(export_plain(job, manifest.recipe, job.folded))
    return joined(parts)


def _quantized(job: ExportJob, bundle: Bundle, scheme: SchemeResult) -> Exported:
    """A Q/DQ graph, and the IR of one that is OpenVINO's."""
    old, path = bundle.manifest.input_spec.size, job.place(scheme.file)
    with job.work.reporter.stage(f"Exporting {scheme.name}"):
        model = resized_graph(read_onnx(bundle.file(scheme.file)), old, job.spec.size)
        if scheme.target == "tensorrt":
            check_qdq_rules(model)
        takes: Takes = "pixels" if _takes_bytes(model) else "floats"
        put_in_onnx(model, described(job.spec, takes, MADE_FOR[scheme.target], job.outputs))
        finish(model, path)
        if scheme.float_type == "float16":
            try:
                largest_in_file(path, _inputs(job, model)).require_float16()
            except VerificationError as error:
                path.unlink()
                return _warned(job, Exported(), f"there is no {scheme.name} graph: {error}")
        result = file_result(job, scheme)
        exported = Exported((result,))
        if scheme.target == "openvino":
            ir = _export_ir(job, path, INT8_IR, result)
            check_int8_ir(job, ir, lambda images: _logits(path, images), result.logit_sqnr_db)
            exported = int8_exported(job, ir, result, quantized_layers(model))
        elif scheme.target == "openvino_arm":
            _export_ir(job, path, ARM_IR, result)
    return _judged(job, exported, scheme, result, old)


def _export_ir(job: ExportJob, onnx: Path, file: str, result: SchemeResult) -> Path:
    path = export_openvino(onnx, job.spec, job.place(file), IR_MADE_FOR[result.target], job.outputs)
    check_int8_ir(job, path, lambda images: _logits(onnx, images), result.logit_sqnr_db, exact=True)
    return path


def _logits(path: Path, images: Tensor) -> NDArray[np.floating[Any]]:
    with open_model("onnxruntime", path, exact=True) as session:
        return session.run({INPUT: np.ascontiguousarray(images.numpy())})[OUTPUT]


def _inputs(job: ExportJob, model: Any) -> Iterator[NDArray[Any]]:
    """The images of the check one by one, as the graph takes them."""
    images = job.check_pixels if _takes_bytes(model) else job.check_images.numpy()
    return (images[i : i + 1] for i in range(len(images)))


def _takes_bytes(model: Any) -> bool:
    from onnx import TensorProto

    return bool(model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8)


def _judged(
    job: ExportJob, exported: Exported, before: SchemeResult, now: SchemeResult, old: tuple[int, int]
) -> Exported:
    """``VerificationError`` where quantisation costs nearly everything, a warning where much more than it did."""
    height, width = job.spec.size
    far = (
        f"{now.file} at {height}x{width} px is {now.logit_sqnr_db:.1f} dB SQNR from the float network ({now.images} "
        f"images), at {old[0]}x{old[1]} px it was {before.logit_sqnr_db:.1f} dB ({before.images} images)"
    )
    advice = f"edge-van quantize --input-size {height}x{width} sets the ranges at this size"
    if not now.logit_sqnr_db >= min(LEAST_DB, before.logit_sqnr_db - FURTHER_OFF_DB):
        raise VerificationError(f"{far}: {advice}")
    if now.logit_sqnr_db < min(NEAR_DB, before.logit_sqnr_db - FURTHER_OFF_DB):
        return _warned(job, exported, f"{far}; {advice}")
    return exported


def _warned(job: ExportJob, exported: Exported, text: str) -> Exported:
    job.work.warn((text,))
    return joined((exported, Exported(warnings=(text,))))


def quantized_layers(model: Any) -> tuple[str, ...]:
    """The convolutions and linear layers of a Q/DQ graph whose weights are integers, by name."""
    producer = {output: node for node in model.graph.node for output in node.output}
    layers = (node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
    return tuple(n.name for n in layers if n.input[1] in producer)
