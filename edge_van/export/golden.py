"""Images and the logits that each file of a bundle gives for them: what a device is checked with before it serves.

In: an ``ExportJob`` whose files are written. Out: ``golden/golden.npz``, and the ``GoldenRecord`` of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.golden import CAMERA, PIXELS
from edge_van.bundle.layout import ARM_IR, FP32_IR, FP32_ONNX, GOLDEN, INT8_IR
from edge_van.bundle.records import GoldenRecord, SchemeResult
from edge_van.export.job import ExportJob, Pixels
from edge_van.export.models import as_sent
from edge_van.export.openvino import RESIZE_FLOOR_DB
from edge_van.export.rounded import ROUNDED, rounded_file
from edge_van.head import Head
from edge_van.input_spec import InputSpec
from edge_van.runtimes.image_model import open_image_model
from edge_van.runtimes.model_file import ModelFile, exact_graph
from edge_van.statistics import sqnr_db

IMAGES = 8
FLOAT_FLOOR_DB = {"float32": 40.0, "float16": 30.0}
"""Least SQNR of a device's logits where nothing is quantised. A GPU computes float32 in TF32, at 50 to 60 dB."""
INT8_FLOOR_DB, INT8_MARGIN_DB, LEAST_FLOOR_DB = 18.0, 3.0, 6.0
"""Of integer kernels against the graph as it is written: they round elsewhere, and of a network that quantisation takes
further than this, so far or further."""
ROUNDED_MARGIN_DB = 3.0
"""How much noisier a device may be than the network with every tensor rounded: twice the noise."""
_OF_SCHEME = {"openvino": INT8_IR, "openvino_arm": ARM_IR}


def write_golden(job: ExportJob, schemes: Sequence[SchemeResult]) -> GoldenRecord:
    """Every file is computed as it is written: what another device's kernels are compared with is no kernel's rounding.

    The images are those that the float network is surest of, one of each class first: no rounding turns their top-1.
    """
    pixels = np.concatenate(job.probe.pixels)[_surest(job.probe.logits, job.head)]
    arrays: dict[str, NDArray[np.generic]] = {PIXELS: pixels}
    if job.spec.source_size is not None:
        arrays[CAMERA] = as_sent(pixels, job.spec)
    floors: dict[str, float] = {}
    with job.work.reporter.stage("Computing golden logits"):
        for file, floor in _files(job, schemes).items():
            arrays[file], floors[file] = _logits(job, file, arrays), floor
        rounded_db = _rounded_db(job, pixels) if FP32_IR in floors else None
    np.savez(job.place(GOLDEN), allow_pickle=False, **arrays)
    if rounded_db is not None and job.spec.source_size is not None:
        rounded_db = min(rounded_db, RESIZE_FLOOR_DB[job.spec.interpolation])  # of a resize in a shorter float, too
    return GoldenRecord(len(pixels), floors, None if rounded_db is None else rounded_db - ROUNDED_MARGIN_DB)


def _rounded_db(job: ExportJob, pixels: Pixels) -> float:
    """SQNR of the logits where every tensor is rounded."""
    spec, classes = replace(job.spec, source_size=None), job.probe.logits.shape[1]
    with rounded_file(job.place(FP32_ONNX), ROUNDED) as path:
        exact, rounded = (_computed(exact_graph(p), spec, classes, pixels) for p in (job.place(FP32_ONNX), path))
    return sqnr_db(exact, rounded)


def _files(job: ExportJob, schemes: Sequence[SchemeResult]) -> dict[str, float]:
    """Every file that a device may run, and the floor of its logits."""
    floors = {FP32_IR: FLOAT_FLOOR_DB["float32"]} if job.place(FP32_IR).exists() else {}
    for scheme in schemes:
        floor = FLOAT_FLOOR_DB[scheme.float_type]
        if scheme.quantized_layers:
            floor = max(min(INT8_FLOOR_DB, scheme.logit_sqnr_db - INT8_MARGIN_DB), LEAST_FLOOR_DB)
        floors[_OF_SCHEME.get(scheme.target, scheme.file)] = floor
    return floors


def _logits(job: ExportJob, file: str, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    path, classes = job.place(file), job.probe.logits.shape[1]
    is_ir = file.endswith(".xml")
    model_file = ModelFile(file, "openvino", path, {"exact": True}) if is_ir else exact_graph(path)
    images: Pixels = arrays[CAMERA if is_ir and CAMERA in arrays else PIXELS].astype(np.uint8, copy=False)
    spec = job.spec if is_ir else replace(job.spec, source_size=None)
    return _computed(model_file, spec, classes, images)


def _computed(file: ModelFile, spec: InputSpec, classes: int, images: Pixels) -> NDArray[np.float32]:
    with open_image_model(file, spec, classes, batch=1) as model:
        return model.logits(images).astype(np.float32)


def _surest(logits: NDArray[np.float32], head: Head) -> NDArray[np.intp]:
    """Up to ``IMAGES`` rows: for each answer that is given the one with the largest margin, then the next ones."""
    ordered = np.sort(logits, axis=1)
    if head.activation == "sigmoid":
        margins = np.abs(logits - head.logit_threshold).min(1)
    else:
        margins = ordered[:, -1] - ordered[:, -2]
    by_margin, predicted = np.argsort(-margins, kind="stable"), head.choices(logits)
    _, first = np.unique(predicted[by_margin], axis=0, return_index=True)
    leaders = by_margin[np.sort(first)]
    others = by_margin[~np.isin(by_margin, leaders)]
    return np.concatenate([leaders, others])[:IMAGES]
