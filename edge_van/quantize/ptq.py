"""Post-training quantisation of a folded VAN: calibrate, convert, measure against float.

In: a ``FoldedVAN``, calibration images as float batches, a ``Scheme``. Out: a ``QuantizedVAN`` whose graph holds
explicit quantise and dequantise nodes, int8 weights folded behind a single dequantise.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.fx import GraphModule

from edge_van.errors import UsageError, VerificationError
from edge_van.fold import FoldedVAN
from edge_van.measure import sqnr_db
from edge_van.quantize.scheme import LAYERS, Role, Scheme, VANQuantizer, module_path, roles

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BATCH = 4096
Progress = Callable[[int], None]
"""Called with the number of images done since the last call."""


@dataclass(frozen=True)
class QuantizedVAN:
    """A quantised graph: float images (N, 3, H, W), normalised, in; logits (N, classes) out."""

    graph: GraphModule
    scheme: Scheme
    input_size: tuple[int, int]
    layers: dict[str, Role]  # quantised convolutions and linear layers by their official names
    logit_sqnr_db: float  # against the float network, on the first calibration batch


@contextmanager
def quiet_capture() -> Iterator[None]:
    """Keeps torch's notes about its own internals (deprecations, absent torchvision) off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.utils._pytree", "torchao", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def capture(model: FoldedVAN) -> GraphModule:
    """The model as a graph of ATen operators with a free batch size; torch's ``torch.export``."""
    height, width = model.input_size
    example = torch.zeros(2, 3, height, width)
    with quiet_capture(), torch.no_grad():
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},)
        )
        return program.module()


def post_training_quantize(
    model: FoldedVAN,
    batches: Sequence[Tensor],
    scheme: Scheme,
    *,
    progress: Progress | None = None,
) -> QuantizedVAN:
    """Quantise ``model`` by ``scheme`` with the ranges seen on ``batches`` (float (N, 3, H, W), normalised).

    Activation ranges minimise the squared error over a histogram (torchao's ``HistogramObserver``), weights take their
    largest value per channel. Raises ``UsageError`` without images, ``VerificationError`` if a layer that the scheme
    names came out in float.
    """
    if not batches:
        raise UsageError("post-training quantisation needs calibration images, got none")
    with quiet_capture():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        captured = capture(model)
        observed = prepare_pt2e(copy.deepcopy(captured), VANQuantizer(scheme))
        with torch.no_grad():
            for batch in batches:
                observed(batch)
                if progress is not None:
                    progress(len(batch))
        converted = convert_pt2e(observed)
    layers = _quantized_layers(converted)
    wanted = {module_path(node) for node, role in roles(captured) if role in scheme.roles & LAYERS}
    if left := sorted(wanted - set(layers)):
        raise VerificationError(f"scheme {scheme.name!r} names {len(left)} layers that were left in float: {left[:5]}")
    with torch.no_grad():
        measured = sqnr_db(model(batches[0]).numpy(), converted(batches[0]).numpy())
    return QuantizedVAN(converted, scheme, model.input_size, layers, measured)


_DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel")


def _quantized_layers(graph: GraphModule) -> dict[str, Role]:
    """Layers whose input and weight both come out of a dequantise node."""
    return {
        module_path(node): role
        for node, role in roles(graph)
        if role in LAYERS
        and all(any(d in str(getattr(arg, "target", "")) for d in _DEQUANTIZE) for arg in node.args[:2])
    }
