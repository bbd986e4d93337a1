"""The OpenVINO IR that a server gets: the bundle's own, or one that takes its pixels in the other order.

In: a ``Served`` model and where it goes. Out: ``model.xml`` and ``model.bin``, the tensors they have, and the SQNR of
their logits; a ``VerificationError`` where these are not the bundle's.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.golden import read_golden
from edge_van.errors import VerificationError
from edge_van.export.metadata import described, put_in_ir
from edge_van.export.openvino import INPUT, name_stably
from edge_van.runtimes import open_model
from edge_van.runtimes.openvino import load_openvino
from edge_van.serving.base import Served, ServedTensor
from edge_van.statistics import relative_error, sqnr_db

Pixels = NDArray[np.uint8]
IR, WEIGHTS = "model.xml", "model.bin"
"""Triton looks for the first; OpenVINO Model Server takes whichever IR lies there."""
SAME = 1e-4
"""Largest relative difference between both orders' logits: the same kernels get the same values, so none was seen."""


def write_ir(served: Served, folder: Path) -> float | None:
    """Put the IR into ``folder``, run it, and compare; the SQNR in dB of the golden images' logits, None without them.

    Raises ``BundleError`` for a file that is not the one the manifest lists, ``VerificationError`` for other logits
    than the bundle's, ``MissingRuntimeError`` without OpenVINO.
    """
    bundle, file = served.bundle, served.model.file
    bundle.check(*served.model.files)
    folder.mkdir(parents=True)
    if served.turns_channels:
        _turn(served, folder / IR)
    else:
        for source, name in zip(served.model.files, (IR, WEIGHTS), strict=True):
            shutil.copyfile(bundle.file(source), folder / name)
    images, expected, floor_db = _golden(served)
    sent = images[..., ::-1] if served.turns_channels else images
    logits = _logits(folder / IR, sent)
    if served.turns_channels:
        error = relative_error(logits, _logits(bundle.file(file), images))
        if not error <= SAME:
            raise VerificationError(
                f"{file} written for {served.source_order} computes other logits than in the bundle, by {error:.1e} "
                f"relative, over {SAME:.0e}: run edge-van doctor"
            )
    if expected is None:
        return None
    measured = sqnr_db(expected, logits)
    if not measured >= floor_db:
        raise VerificationError(
            f"{file} computes other logits here than the bundle's golden ones: {measured:.1f} dB SQNR, at least "
            f"{floor_db:.1f} were expected: run edge-van doctor"
        )
    return measured


def _golden(served: Served) -> tuple[Pixels, NDArray[np.float32] | None, float]:
    """Images (N, H, W, C) as the bundle's file takes them, its recorded logits and their floor in dB.

    A bundle of an older version has none recorded: then noise, which both orders must agree on.
    """
    record, spec = served.bundle.manifest.golden, served.spec
    if record is None:
        noise = np.random.default_rng(0).integers(0, 256, (4, *spec.source_shape), np.uint8)
        return noise, None, 0.0
    golden = read_golden(served.bundle)
    images = golden.pixels if golden.camera is None else golden.camera
    file = served.model.file
    return images, golden.logits.get(file), record.floors_db.get(file, 0.0)


def _logits(path: Path, images: Pixels) -> NDArray[np.float32]:
    """In float32 where it is not INT8, whatever the server will be told: this CPU need not have bf16."""
    with open_model("openvino", path) as session:
        name = session.outputs[0].name
        return np.concatenate([session.run({INPUT: np.ascontiguousarray(image[None])})[name] for image in images])


def _turn(served: Served, path: Path) -> None:
    """Write the IR with its three channels turned round behind the input, and what it says of its pixels with them."""
    ov = load_openvino()
    model = ov.Core().read_model(served.bundle.file(served.model.file))
    pre = ov.preprocess.PrePostProcessor(model)
    pre.input().tensor().set_layout(ov.Layout("NHWC"))
    pre.input().model().set_layout(ov.Layout("NHWC"))
    pre.input().preprocess().reverse_channels()
    turned = pre.build()
    name_stably(turned)  # the same export twice is the same bytes
    taken = served.model.takes
    said = described(replace(served.spec, source_order=served.source_order), taken, "")
    put_in_ir(turned, {key: text for key, text in said.items() if key in ("source_order", "mean", "std", "resize")})
    ov.save_model(turned, path, compress_to_fp16=False)


def tensors_of(path: Path) -> tuple[tuple[ServedTensor, ...], tuple[ServedTensor, ...]]:
    """(inputs, outputs) as OpenVINO reads them from the IR."""
    model = load_openvino().Core().read_model(path)
    return _tensors(model.inputs), _tensors(model.outputs)


def _tensors(ports: Any) -> tuple[ServedTensor, ...]:
    return tuple(
        ServedTensor(
            port.any_name,
            np.dtype(port.element_type.to_dtype()).name,
            tuple(d.get_length() if d.is_static else -1 for d in port.partial_shape),
        )
        for port in ports
    )
