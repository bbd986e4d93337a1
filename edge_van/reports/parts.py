"""Executed kernels summed by part of the network, whatever the engine added to a layer's name.

In: a ``LayerProfile``, whose layers carry the official names (``block1.0.attn.proj_1/WithoutBiases``). Out: sums in ms.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from edge_van.model.layer_names import Part, part_at_start
from edge_van.timing.record import LayerProfile, LayerTime

NORM, OTHER = "LayerNorm", "elementwise and other"
PARTS = (*(part.value for part in Part), NORM, OTHER)
_MULTIPLIES = re.compile(r"conv(?!ert)|matmul|gemm|fullyconnected|(?<!quantize)linear", re.IGNORECASE)
"""In an operator's name: it is the layer itself. A reorder, a conversion or a pooling before it carries the layer's
name too, and so does a weight that is only dequantised for it."""


@dataclass(frozen=True)
class OperatorTime:
    """All kernels of one operator and implementation."""

    operator: str
    kernel: str
    count: int
    sum_ms: float


def part_of(layer: LayerTime) -> str:
    """One of ``PARTS``."""
    if _MULTIPLIES.search(layer.operator) and (part := part_at_start(layer.name)) is not None:
        return part.value
    return NORM if layer.operator == "MVN" or re.search(r"layer_?norm", layer.name, re.IGNORECASE) else OTHER


def by_part(profile: LayerProfile) -> dict[str, float]:
    """Milliseconds of every part, in the order of ``PARTS``; 0 for one that no kernel belongs to."""
    sums = dict.fromkeys(PARTS, 0.0)
    for layer in profile.layers:
        sums[part_of(layer)] += layer.mean_ms
    return sums


def by_operator(profile: LayerProfile) -> tuple[OperatorTime, ...]:
    """Kernels grouped by operator and implementation, the most expensive first."""
    sums: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for layer in profile.layers:
        sums[layer.operator, layer.kernel] += layer.mean_ms  # type: ignore[assignment]
        counts[layer.operator, layer.kernel] += 1
    rows = [OperatorTime(*key, counts[key], float(value)) for key, value in sums.items()]
    return tuple(sorted(rows, key=lambda row: (-row.sum_ms, row.operator, row.kernel)))
