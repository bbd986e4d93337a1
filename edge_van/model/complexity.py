"""What a VAN costs: parameters and multiply-accumulates per variant, and the paper's cost of a large kernel.

In: variant names and an input size, or a kernel's sides. Out: frozen rows of counted figures beside the paper's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_van.errors import UsageError
from edge_van.input_spec import MAX_SIDE
from edge_van.model.variants import VARIANTS, Variant, get_variant

PLAIN, SEPARABLE, DECOMPOSED = "plain", "depthwise_separable", "decomposed"


@dataclass(frozen=True)
class VariantInfo:
    """One variant: counted parameters and MACs for one image, and the paper's (``paper_*``, 224 px, 1000 classes)."""

    name: str
    params: int
    paper_params_m: float
    macs: int
    paper_gmacs: float
    paper_top1_percent: float | None
    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


@dataclass(frozen=True)
class Complexity:
    """Cost of one way to write a K x K convolution; biases ignored. ``dilation`` is None where there is none."""

    form: str  # PLAIN, SEPARABLE or DECOMPOSED
    dilation: int | None
    params: int
    macs: int


def variant_table(names: Iterable[str] | None = None, input_size: tuple[int, int] = (224, 224)) -> list[VariantInfo]:
    """Count the named variants (all seven when None), with 1000 classes, for one image of ``input_size`` in pixels.

    ``macs`` are those of the convolutions and of the head; biases, norms and elementwise work are left out, as in the
    paper. No weight is allocated. Raises ``UsageError`` for an unknown name or a size outside 1..8192.
    """
    if len(input_size) != 2 or not all(1 <= side <= MAX_SIDE for side in input_size):
        raise UsageError(f"input_size is (height, width), each from 1 to {MAX_SIDE}; got {input_size!r}")
    rows = [get_variant(name) for name in (VARIANTS if names is None else names)]
    return [_count(row, input_size) for row in rows]


def _count(row: Variant, input_size: tuple[int, int]) -> VariantInfo:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from edge_van.model.van import VAN

    aten = torch.ops.aten
    # the meta device has shapes and no data: b6 is counted without its 800 MB
    with torch.device("meta"), torch.no_grad():
        van = VAN(row).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            van(torch.empty(1, 3, *input_size))
    flops = counter.get_flop_counts()["Global"]
    counted = sum(flops.get(op, 0) for op in (aten.convolution, aten.addmm, aten.mm))
    return VariantInfo(
        name=row.name,
        params=sum(p.numel() for p in van.parameters()),
        paper_params_m=row.paper_params_m,
        macs=counted // 2,  # torch counts a multiplication and an addition apart
        paper_gmacs=row.paper_gmacs,
        paper_top1_percent=row.paper_top1_percent,
        embed_dims=row.embed_dims,
        depths=row.depths,
    )


def complexity_table(
    kernel_size: int = 21,
    *,
    channels: int = 32,
    height: int = 56,
    width: int = 56,
    dilations: Iterable[int] = range(1, 6),
) -> list[Complexity]:
    """P(K, d) and F(K, d) of a K x K convolution over ``channels`` x ``height`` x ``width``; paper, section 3.1.

    Rows: plain, P = C^2 K^2; depthwise and 1x1, P = C (K^2 + C); decomposed, for each dilation d,
    P = C (ceil(K/d)^2 + (2d-1)^2 + C). F = P H W multiply-accumulates. The defaults are those of b0's first stage.
    Raises ``UsageError`` for a number under 1.
    """
    given = {"kernel_size": kernel_size, "channels": channels, "height": height, "width": width}
    if wrong := {name: value for name, value in given.items() if value < 1}:
        raise UsageError(f"a convolution's sizes are at least 1, got {wrong}")
    shapes: list[tuple[str, int | None, int]] = [
        (PLAIN, None, channels * kernel_size**2),
        (SEPARABLE, None, kernel_size**2 + channels),
    ]
    shapes += [(DECOMPOSED, d, _spatial_taps(kernel_size, d) + channels) for d in dilations]
    return [Complexity(form, d, channels * taps, channels * taps * height * width) for form, d, taps in shapes]


def best_dilation(kernel_size: int) -> int:
    """The dilation whose decomposition of a K x K kernel has the fewest parameters (the smallest at a tie); 21 -> 3.

    Neither channels nor map size matter to the choice. Raises ``UsageError`` for a kernel under 1.
    """
    if kernel_size < 1:
        raise UsageError(f"kernel_size is at least 1, got {kernel_size}")
    return min(range(1, kernel_size + 1), key=lambda d: _spatial_taps(kernel_size, d))


def _spatial_taps(kernel_size: int, dilation: int) -> int:
    """Weights per channel of the two depthwise kernels of a decomposition: ceil(K/d)^2 + (2d-1)^2."""
    from edge_van.model.van import lka_kernels

    local, dilated = lka_kernels(kernel_size, dilation)
    return local**2 + dilated**2
