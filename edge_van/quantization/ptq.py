"""Post-training quantisation of a folded VAN: calibrate, convert, measure against float.

In: a ``FoldedVAN``, calibration images as float batches, a ``Scheme``. Out: a ``QuantizedVAN`` whose graph holds
explicit quantise and dequantise nodes, int8 weights folded behind a single dequantise.
"""

from __future__ import annotations

import copy
import gc
import logging
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule

from edge_van.errors import UsageError, VerificationError
from edge_van.model.fold import FoldedVAN, as_outputs
from edge_van.quantization.histograms import Histograms, Progress
from edge_van.quantization.observers import RangeObserver
from edge_van.quantization.quantizer import VANQuantizer
from edge_van.quantization.scheme import LAYERS, Role, Scheme, above_views, module_path, place_of, roles
from edge_van.statistics import sqnr_db

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BATCH = 4096
SQNR_IMAGES = 8
"""A first look at what quantisation costs; what is recorded comes of held-out images."""


@dataclass(frozen=True)
class QuantizedVAN:
    """A quantised graph: float images (N, 3, H, W), normalised, in; logits (N, classes) out."""

    graph: GraphModule
    scheme: Scheme
    model: FoldedVAN  # in float, with the weights that were quantised
    layers: dict[str, Role]  # quantised convolutions and linear layers by their official names
    logit_sqnr_db: float  # against the float network, on the first calibration images

    @property
    def input_size(self) -> tuple[int, int]:
        return self.model.input_size


@contextmanager
def quiet_capture() -> Iterator[None]:
    """Keeps torch's notes about its own internals (deprecations, absent torchvision) off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.utils._pytree", "torchao", "torch.export")]
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


def sharing_weights(graph: GraphModule) -> GraphModule:
    """A copy with nodes and observers of its own."""
    memo = {id(parameter): parameter for parameter in graph.parameters()}
    return copy.deepcopy(graph, memo)


def let_go() -> None:
    """torch and torchao remember the device of every graph they have seen, and by that the graph: 2.5 times the
    weights a scheme.

    What they have made refers to itself in circles, so that only the collector frees it."""
    import torch.ao.quantization.fx.utils as torchs
    import torchao.utils as torchaos

    for module, name in ((torchs, "assert_and_get_unique_device"), (torchaos, "_assert_and_get_unique_device")):
        forget = getattr(getattr(module, name, None), "cache_clear", None)
        if forget is not None:
            forget()
    gc.collect()


def capture(model: FoldedVAN) -> GraphModule:
    """The model as a graph of ATen operators with a free batch size; torch's ``torch.export``."""
    height, width = model.input_size
    example = torch.zeros(2, model.in_channels, height, width)
    with quiet_capture(), torch.no_grad():
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},)
        )
        return program.module()


@dataclass(frozen=True)
class Calibrated:
    """A graph whose observers have seen the calibration images; ``convert`` makes quantised graphs of it."""

    model: FoldedVAN
    scheme: Scheme
    observed: GraphModule
    first_batch: Tensor
    reference: FoldedVAN | None = None  # what a trained graph is measured against; None: ``model``

    def serves(self, scheme: Scheme) -> bool:
        """Whether ``scheme`` has the same grids on some of the tensors: then its ranges are already known."""
        return scheme.is_part_of(self.scheme)

    def only(self, scheme: Scheme, *, sharing: bool = False) -> Calibrated:
        """Ready for ``scheme``, which this ``serves``: without the observers of what that leaves in float. ``sharing``
        the weights with this one, where they are only read."""
        with quiet_capture():
            observed = sharing_weights(self.observed) if sharing else copy.deepcopy(self.observed)
        _drop_observers_(observed, self.scheme, scheme)
        return replace(self, scheme=scheme, observed=observed)


def calibrate(
    model: FoldedVAN,
    batches: Sequence[Tensor],
    scheme: Scheme,
    *,
    captured: GraphModule | None = None,
    histograms: Histograms | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Run ``batches`` (float (N, 3, H, W), normalised) through ``model`` and record the ranges ``scheme`` needs.

    ``captured`` is ``capture(model)`` where it is at hand, and ``histograms`` are of it and ``batches``; they are kept
    for other schemes, and the graph is left as it was.

    Activation ranges minimise the squared error over a histogram (torchao's ``HistogramObserver``), weights take their
    largest value per channel. Raises ``UsageError`` without images.
    """
    source = capture(model) if captured is None else captured
    seen = Histograms(source, batches) if histograms is None else histograms
    with quiet_capture():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        observed = prepare_pt2e(sharing_weights(source), VANQuantizer(scheme))
        seen.fill(observed, progress)
        for module in observed.modules():
            if isinstance(module, RangeObserver):
                module.calculate_qparams()  # before copies are made, each of which would search for itself
    let_go()
    return Calibrated(model, scheme, observed, batches[0][:SQNR_IMAGES])


def convert(calibrated: Calibrated, scheme: Scheme | None = None) -> QuantizedVAN:
    """The quantised graph of ``scheme``, by default the one that was calibrated for; else one it ``serves``.

    Raises ``UsageError`` for a scheme whose ranges were not recorded, ``VerificationError`` if a layer that the scheme
    names came out in float.
    """
    scheme = calibrated.scheme if scheme is None else scheme
    if not calibrated.serves(scheme):
        raise UsageError(
            f"the ranges were recorded for {calibrated.scheme.name!r}, which does not cover {scheme.name!r}"
        )
    with quiet_capture():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        observed = calibrated.only(scheme, sharing=True).observed
        layers = [(module_path(node), role) for node, role in roles(observed) if role in LAYERS]
        wanted = {name for name, role in layers if scheme.quantizes(role, name)}
        converted = convert_pt2e(observed)
    let_go()
    quantized = _quantized_layers(converted)
    if left := sorted(wanted - set(quantized)):
        raise VerificationError(f"scheme {scheme.name!r} names {len(left)} layers that were left in float: {left[:5]}")
    reference, batch = calibrated.reference or calibrated.model, calibrated.first_batch
    with torch.no_grad():
        measured = sqnr_db(in_rows(reference(batch)), in_rows(converted(batch)))
    return QuantizedVAN(converted, scheme, calibrated.model, quantized, measured)


def in_rows(given: Tensor | Sequence[Tensor]) -> NDArray[np.float32]:
    """What a network returned, one output or several, as (N, values)."""
    return np.concatenate([output.flatten(1).numpy() for output in as_outputs(given)], 1)


def _drop_observers_(observed: GraphModule, before: Scheme, scheme: Scheme) -> None:
    """In place: nodes that ``before`` quantises and ``scheme`` does not read their float tensors again."""
    for node, role in roles(observed):
        place = place_of(node, role)
        if before.quantizes(role, place) and not scheme.quantizes(role, place):
            for source in node.all_input_nodes:
                if source.op == "call_module":
                    node.replace_input_with(source, source.all_input_nodes[0])
    for node in reversed(list(observed.graph.nodes)):
        if node.op == "call_module" and not node.users:
            observed.graph.erase_node(node)
    observed.recompile()


def post_training_quantize(
    model: FoldedVAN, batches: Sequence[Tensor], scheme: Scheme, *, progress: Progress | None = None
) -> QuantizedVAN:
    """``calibrate`` and ``convert`` for one scheme."""
    return convert(calibrate(model, batches, scheme, progress=progress))


_DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel")


def _quantized_layers(graph: GraphModule) -> dict[str, Role]:
    """Layers whose input and weight both come out of a dequantise node."""
    return {
        module_path(node): role
        for node, role in roles(graph)
        if role in LAYERS
        and all(any(d in str(above_views(arg).target) for d in _DEQUANTIZE) for arg in node.all_input_nodes[:2])
    }
