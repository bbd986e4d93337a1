"""The seven published VANs, one row each, with what the paper says of them.

In: a name ("b0" to "b6"). Out: a frozen ``Variant``. Figures: Guo et al., "Visual Attention Network", table 5 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_van.errors import UsageError

MLP_RATIOS = (8, 8, 4, 4)


@dataclass(frozen=True)
class Variant:
    """Widths and depths of one VAN, and the paper's figures for it (params in millions, MACs in 1e9 at 224 px)."""

    name: str
    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    paper_params_m: float
    paper_gmacs: float
    paper_top1_percent: float | None  # ImageNet-1k at 224 px, trained on ImageNet-1k alone
    mlp_ratios: tuple[int, int, int, int] = MLP_RATIOS
    hub_repo: str | None = None
    hub_file: str | None = None

    def __post_init__(self) -> None:
        if not len(self.embed_dims) == len(self.depths) == len(self.mlp_ratios) == 4:
            raise UsageError(f"variant {self.name}: a VAN has four stages, got {self.embed_dims}, {self.depths}")
        if min(self.embed_dims + self.depths + self.mlp_ratios) < 1:
            raise UsageError(f"variant {self.name}: widths, depths and ratios are at least 1")


_HUB = "Visual-Attention-Network/VAN-{}-original"
_NARROW = (64, 128, 320, 512)

VARIANTS: dict[str, Variant] = {
    v.name: v
    for v in (
        Variant(
            "b0",
            (32, 64, 160, 256),
            (3, 3, 5, 2),
            4.1,
            0.9,
            75.4,
            hub_repo=_HUB.format("Tiny"),
            hub_file="van_tiny_754.pth.tar",
        ),
        Variant(
            "b1",
            _NARROW,
            (2, 2, 4, 2),
            13.9,
            2.5,
            81.1,
            hub_repo=_HUB.format("Small"),
            hub_file="van_small_811.pth.tar",
        ),
        Variant(
            "b2",
            _NARROW,
            (3, 3, 12, 3),
            26.6,
            5.0,
            82.8,
            hub_repo=_HUB.format("Base"),
            hub_file="van_base_828.pth.tar",
        ),
        Variant(
            "b3",
            _NARROW,
            (3, 5, 27, 3),
            44.8,
            9.0,
            83.9,
            hub_repo=_HUB.format("Large"),
            hub_file="van_large_839.pth.tar",
        ),
        Variant("b4", _NARROW, (3, 6, 40, 3), 60.3, 12.2, 84.2),
        Variant("b5", (96, 192, 480, 768), (3, 3, 24, 3), 90.0, 17.2, None),
        Variant("b6", (96, 192, 384, 768), (6, 6, 90, 6), 200.0, 38.9, None),
    )
}


def get_variant(name: str) -> Variant:
    """Return the row called ``name``; an unknown name is a ``UsageError`` that lists the known ones."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise UsageError(f"unknown variant {name!r}; known: {', '.join(VARIANTS)}") from None


def match_variant(
    embed_dims: tuple[int, ...], depths: tuple[int, ...], mlp_ratios: tuple[int, ...] = MLP_RATIOS
) -> str | None:
    """Name of the published variant with these widths and depths, or None."""
    for variant in VARIANTS.values():
        if (variant.embed_dims, variant.depths, variant.mlp_ratios) == (embed_dims, depths, mlp_ratios):
            return variant.name
    return None
