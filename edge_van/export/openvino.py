"""OpenVINO IR with the input's preprocessing inside the graph.

In: an ONNX file of ``export.onnx`` and the ``InputSpec``. Out: ``model.xml`` and ``model.bin``: uint8 NHWC RGB image
in, logits out, batch 1. With a ``source_size`` the resize and the crop are in the graph too; without one images come
at the network's size, because a resize that keeps the aspect of any image has no fixed shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import BundleError, UsageError, VerificationError
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.openvino import OpenVINOSession, load_openvino
from edge_van.statistics import relative_error, sqnr_db

INPUT, OUTPUT = "images", "logits"
FLOAT_TOLERANCE = 1e-3
INT8_FLOOR_DB = 18.0
"""Least SQNR of the INT8 IR against the exact Q/DQ graph: integer kernels round elsewhere. Ones that saturate, which
8-bit weights do on a CPU without VNNI, were seen at 15 to 18 dB."""
RESIZE_FLOOR_DB = {"bicubic": 35.0, "bilinear": 35.0, "nearest": 20.0}
"""Least SQNR of a float IR with the resize inside, against the host's own: they round apart, and for nearest OpenVINO
and Pillow pick other neighbours at exact halves. A crop that is off by a pixel is seen at 20 dB, another interpolation
at 20 to 28."""
_LAYER_KINDS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")
_NUMBERED = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")
_RESIZE = {"bicubic": "RESIZE_BICUBIC_PILLOW", "bilinear": "RESIZE_BILINEAR_PILLOW", "nearest": "RESIZE_NEAREST"}


def export_openvino(onnx_path: Path, spec: InputSpec, path: Path) -> Path:
    """Convert ``onnx_path`` to an IR at ``path`` (.xml). Raises ``UsageError`` where the resize cannot go inside."""
    ov = load_openvino()
    model = ov.convert_model(onnx_path)
    height, width = spec.size
    model.reshape({model.input(0): [1, 3, height, width]})
    model = _with_preprocessing(ov, model, spec)
    model.input(0).set_names({INPUT})
    model.output(0).set_names({OUTPUT})
    _name_stably(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk reaches us as a nameless stream error
        raise BundleError(f"OpenVINO could not write {path.name} ({error}): is the disk full?") from error
    return path


def _with_preprocessing(ov: Any, model: Any, spec: InputSpec) -> Any:
    """uint8 NHWC in; optional resize and centre crop; (x / 255 - mean) / std."""
    pre = ov.preprocess.PrePostProcessor(model)
    tensor = pre.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps = pre.input().preprocess().convert_element_type(ov.Type.f32)
    if spec.source_size is not None:
        if spec.interpolation not in _RESIZE:
            raise UsageError(
                f"a resize inside the graph takes {', '.join(_RESIZE)}, not {spec.interpolation}: leave source_size out"
            )
        tensor.set_shape([1, *spec.source_size, 3])
        resized = spec.resized(*spec.source_size)
        left, top, right, bottom = spec.crop_box(*resized)
        algorithm = getattr(ov.preprocess.ResizeAlgorithm, _RESIZE[spec.interpolation])
        steps.resize(algorithm, *resized).crop([0, top, left, 0], [1, bottom, right, 3])
    steps.mean([255.0 * m for m in spec.mean]).scale([255.0 * s for s in spec.std])
    pre.input().model().set_layout(ov.Layout("NCHW"))
    return pre.build()


def _name_stably(model: Any) -> None:
    """In place: operators that OpenVINO numbered by a counter of the process get a number of this graph instead.

    A constant keeps the name of the operator it was folded from: the kind in the name need not be the operator's.
    """
    for index, op in enumerate(model.get_ordered_ops()):
        if _NUMBERED.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}.{index}")


def layers_in_float(path: Path, layers: Iterable[str], image: NDArray[np.uint8]) -> tuple[str, ...]:
    """Those of the quantised ``layers`` that this CPU's kernels compute in float; ``image`` (1, H, W, 3) is run once.

    Raises ``VerificationError`` where that is all of them: the file is no INT8 model.
    """
    wanted = sorted(layers)
    with OpenVINOSession(path, profile=True) as session:
        session.run({INPUT: image})
        kernels = session.layer_times()
    integer = {
        name.split("/")[0]
        for name, kind, kernel, _ in kernels
        if kind.startswith(_LAYER_KINDS) and "i8" in kernel.lower()
    }
    left = tuple(name for name in wanted if name not in integer)
    if wanted and len(left) == len(wanted):
        raise VerificationError(
            f"OpenVINO runs none of the {len(wanted)} quantised layers of {path.name} in an integer kernel here: "
            f"run edge-van doctor, and say which CPU and OpenVINO it shows"
        )
    return left


def check_openvino(
    path: Path,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    *,
    floor_db: float | None = None,
    exact: bool = False,
) -> float:
    """Run the IR on ``images`` (N, H, W, 3) and compare with ``expected`` logits (N, classes); the SQNR in dB.

    ``exact`` computes it in float, as it is written: its integer kernels are another CPU's.
    Raises ``VerificationError`` under ``floor_db``; where none is given, over 1e-3 relative error.
    """
    with open_model("openvino", path, exact=exact) as session:
        actual = np.concatenate([session.run({INPUT: image[None]})[OUTPUT] for image in images])
    measured = sqnr_db(expected, actual)
    error = relative_error(actual, expected)
    agrees = error <= FLOAT_TOLERANCE if floor_db is None else measured >= floor_db
    if not agrees:
        wanted = f"{FLOAT_TOLERANCE:.0e} relative" if floor_db is None else f"{floor_db:.1f} dB"
        raise VerificationError(
            f"{path.name} run by OpenVINO computes other logits than the graph it came from: {measured:.1f} dB SQNR, "
            f"{error:.1e} relative, over the limit of {wanted}: run edge-van doctor. On a CPU without VNNI take an "
            f"openvino_scheme of 7-bit weights (openvino, asymmetric)"
        )
    return measured
