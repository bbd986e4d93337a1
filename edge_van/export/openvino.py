"""OpenVINO IR with the input's preprocessing inside the graph.

In: an ONNX file of ``export.onnx`` and the ``InputSpec``. Out: ``model.xml`` and ``model.bin``: uint8 NHWC image
in, logits out, batch 1. With a ``source_size`` the resize and the crop are in the graph too; without one images come
at the network's size, because a resize that keeps the aspect of any image has no fixed shape.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import BundleError, UsageError, VerificationError
from edge_van.export.metadata import described, put_in_ir
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
from edge_van.runtimes.openvino import OpenVINOSession, load_openvino
from edge_van.statistics import relative_error, sqnr_db
from edge_van.text import single_line

INPUT, OUTPUT = "images", "logits"
FLOAT_TOLERANCE = 1e-3
KERNELS_MARGIN_DB = 3.0
"""How much further from the float network integer kernels may be than the graph that they compute, which rounds
elsewhere: twice the noise. Ones that saturate, which 8-bit weights do on a CPU without VNNI, were seen at 15 to 18 dB
where the graph is at 30; two sound roundings of a sensitive network differ by 2 at most, of a usual one by half."""
RESIZE_FLOOR_DB = {"bicubic": 35.0, "bilinear": 35.0, "nearest": 20.0}
"""Least SQNR of a float IR with the resize inside, against the host's own: they round apart, and for nearest OpenVINO
and Pillow pick other neighbours at exact halves. A crop that is off by a pixel is seen at 20 dB, another interpolation
at 20 to 28."""
_LAYER_KINDS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")
_NUMBERED = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")
_RESIZE = {"bicubic": "RESIZE_BICUBIC_PILLOW", "bilinear": "RESIZE_BILINEAR_PILLOW", "nearest": "RESIZE_NEAREST"}


def export_openvino(
    onnx_path: Path, spec: InputSpec, path: Path, made_for: str = "OpenVINO", outputs: str | None = None
) -> Path:
    """Convert ``onnx_path`` to an IR at ``path`` (.xml), which says what it is ``made_for`` and what ``outputs`` are.

    Raises ``UsageError`` where the resize cannot go inside, ``BundleError`` where the IR cannot be written.
    """
    ov = load_openvino()
    model = ov.convert_model(onnx_path)
    height, width = spec.size
    model.reshape({model.input(0): [1, spec.channels, height, width]})
    model = _with_preprocessing(ov, model, spec)
    model.input(0).set_names({INPUT})
    model.output(0).set_names({OUTPUT})
    name_stably(model)
    put_in_ir(model, described(spec, "pixels" if spec.source_size is None else "camera", made_for, outputs))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk reaches us as a nameless stream error
        free_mib = shutil.disk_usage(path.parent).free >> 20
        raise BundleError(
            f"OpenVINO could not write {path} ({single_line(error, 100)}); {free_mib:,} MiB are free on its disk: free "
            f"some space or choose another --output"
        ) from error
    return path


def _with_preprocessing(ov: Any, model: Any, spec: InputSpec) -> Any:
    """uint8 NHWC in; optional resize and centre crop; (x / 255 - mean) / std."""
    pre = ov.preprocess.PrePostProcessor(model)
    tensor = pre.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps = pre.input().preprocess().convert_element_type(ov.Type.f32)
    bars = (0.0,) * spec.channels
    if spec.source_size is not None:
        if spec.interpolation not in _RESIZE:
            raise UsageError(
                f"a resize inside the graph takes {', '.join(_RESIZE)}, not {spec.interpolation}: leave source_size out"
            )
        tensor.set_shape([1, *spec.source_shape])
        resized = spec.resized(*spec.source_size)
        algorithm = getattr(ov.preprocess.ResizeAlgorithm, _RESIZE[spec.interpolation])
        steps.resize(algorithm, *resized)
        if spec.resize == "pad":
            left, top, right, bottom = spec.bars(*resized)
            bars = tuple(map(float, spec.pixel_pad_color))
            # one value pads all channels: with the bars' colour taken off it is 0, and the mean takes off the rest
            steps.mean(list(bars)).pad(
                [0, top, left, 0], [0, bottom, right, 0], 0.0, ov.preprocess.PaddingMode.CONSTANT
            )
        else:
            left, top, right, bottom = spec.crop_box(*resized)
            steps.crop([0, top, left, 0], [1, bottom, right, spec.channels])
    mean = [255.0 * m - bar for m, bar in zip(spec.pixel_mean, bars, strict=True)]
    steps.mean(mean).scale([255.0 * s for s in spec.pixel_std])
    pre.input().model().set_layout(ov.Layout("NCHW"))
    return pre.build()


def name_stably(model: Any) -> None:
    """In place: operators that OpenVINO numbered by a counter of the process get a number of this graph instead.

    A constant keeps the name of the operator it was folded from: the kind in the name need not be the operator's.
    """
    for index, op in enumerate(model.get_ordered_ops()):
        if _NUMBERED.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}.{index}")


def layers_in_float(path: Path, layers: Iterable[str], image: NDArray[np.uint8]) -> tuple[str, ...]:
    """Those of the quantised ``layers`` that this CPU's kernels compute in float; ``image`` (1, H, W, C) is run once.

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


def check_kernels(
    path: Path,
    images: NDArray[np.uint8],
    reference: NDArray[np.float32],
    graph_db: float,
    *,
    exact: bool = False,
) -> float:
    """Run the INT8 IR by this CPU's integer kernels on ``images`` (N, H, W, C), or ``exact`` as it is written; the SQNR
    in dB.

    It is that against the float network's logits ``reference`` (N, classes), as the graph's ``graph_db`` is: two
    roundings of a sensitive network need not agree with each other, and either may be the better one. Raises
    ``VerificationError`` where the IR is ``KERNELS_MARGIN_DB`` worse.
    """
    actual = _run_each(path, images, exact=exact)
    wanted, measured = graph_db - KERNELS_MARGIN_DB, sqnr_db(reference, actual)
    if not measured >= wanted:
        by = "as it is written" if exact else "by OpenVINO's integer kernels"
        raise VerificationError(
            f"{path.name} run {by} is {measured:.1f} dB SQNR from the float network, at least {wanted:.1f} were "
            f"expected: run edge-van doctor"
        )
    return measured


def _run_each(path: Path, images: NDArray[np.uint8], *, exact: bool) -> NDArray[np.float32]:
    with open_model("openvino", path, exact=exact) as session:
        return np.concatenate([session.run({INPUT: image[None]})[OUTPUT] for image in images])


def check_openvino(
    path: Path,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    *,
    floor_db: float | None = None,
    exact: bool = False,
) -> float:
    """Run the IR on ``images`` (N, H, W, C) and compare with ``expected`` logits (N, classes); the SQNR in dB.

    ``exact`` computes it in float, as it is written: its integer kernels are another CPU's.
    Raises ``VerificationError`` under ``floor_db``; where none is given, over 1e-3 relative error.
    """
    actual = _run_each(path, images, exact=exact)
    measured = sqnr_db(expected, actual)
    error = relative_error(actual, expected)
    agrees = error <= FLOAT_TOLERANCE if floor_db is None else measured >= floor_db
    if not agrees:
        wanted = f"{FLOAT_TOLERANCE:.0e} relative" if floor_db is None else f"{floor_db:.1f} dB"
        raise VerificationError(
            f"{path.name} run by OpenVINO computes other logits than the graph it came from: {measured:.1f} dB SQNR, "
            f"{error:.1e} relative, over the limit of {wanted}: run edge-van doctor"
        )
    return measured
