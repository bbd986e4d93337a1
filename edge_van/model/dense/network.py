"""``DenseVAN``: a VAN's four maps, a neck where the head takes one, and the head; one row a kind.

In: a kind, a variant, how many classes or points. Out: a network whose state dict has the official repositories' keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from edge_van.errors import UsageError
from edge_van.model.dense.objects import RetinaHead, SimpleBaselineHead
from edge_van.model.dense.parts import FPN
from edge_van.model.dense.segmentation import LightHamHead, SemanticFPNHead, UPerNetHead
from edge_van.model.van import LAYER_NORM_EPS, VAN
from edge_van.model.variants import Variant


@dataclass(frozen=True)
class HamWidths:
    """Of a light hamburger: what its tensors' shapes say, and the ``rank``, which they do not."""

    dim: int = 512
    ham_dim: int = 512
    rank: int = 64


PUBLISHED_HAM = {"b0": HamWidths(ham_dim=480)}
"""Where it is not 512 throughout."""


@dataclass(frozen=True)
class HeadKind:
    """How a dense network is put together.

    attribute       the head's name in a state dict
    head            of (outputs, the maps' channels, the hamburger's widths)
    neck            of the maps' channels; None: the head takes the maps themselves
    layer_norm_eps  of the backbone's four norms: OpenMMLab's code has another than the classifiers'
    output          what the network's output is called
    outputs         what is counted: "classes" or "points"
    """

    attribute: str
    head: Callable[[int, Sequence[int], HamWidths], nn.Module]
    neck: Callable[[Sequence[int]], nn.Module] | None = None
    layer_norm_eps: float = 1e-5
    output: str = "logits"
    outputs: str = "classes"


KINDS: dict[str, HeadKind] = {
    "semantic_fpn": HeadKind("decode_head", lambda classes, _dims, _ham: SemanticFPNHead(classes), FPN),
    "upernet": HeadKind("decode_head", lambda classes, dims, _ham: UPerNetHead(classes, dims)),
    "light_ham": HeadKind(
        "decode_head",
        lambda classes, dims, ham: LightHamHead(classes, dims, ham.dim, ham.ham_dim, ham.rank),
        layer_norm_eps=LAYER_NORM_EPS,
    ),
    "retinanet": HeadKind(
        "bbox_head",
        lambda classes, _dims, _ham: RetinaHead(classes),
        lambda dims: FPN(dims, first=1, extra=2),
        output="anchors",
    ),
    "simple_baseline": HeadKind(
        "keypoint_head",
        lambda points, dims, _ham: SimpleBaselineHead(points, dims[-1]),
        output="heat_maps",
        outputs="points",
    ),
}


class DenseVAN(nn.Module):
    """In: float images (N, C, H, W), normalised. Out: what the head gives, see its docstring."""

    def __init__(
        self,
        kind: str,
        variant: str | Variant,
        outputs: int,
        *,
        in_channels: int = 3,
        lka: tuple[int, int] = (21, 3),
        ham: HamWidths | None = None,
    ) -> None:
        """``lka`` is its kernel's size and dilation. ``UsageError`` for a kind that is not known, and for less than one
        output."""
        super().__init__()
        if kind not in KINDS:
            raise UsageError(f"{kind!r} is no head that is known; there are {', '.join(KINDS)}")
        if outputs < 1:
            raise UsageError(f"a head of {kind} has 1 or more {KINDS[kind].outputs}; got {outputs}")
        row = KINDS[kind]
        self.kind = kind
        self.num_classes = outputs
        kernel_size, dilation = lka
        self.backbone = VAN(
            variant, features_only=True, in_channels=in_channels, kernel_size=kernel_size, dilation=dilation
        )
        for _, _, norm in self.backbone.stages():
            norm.eps = row.layer_norm_eps
        dims = self.backbone.variant.embed_dims
        self.neck: nn.Module | None = None if row.neck is None else row.neck(dims)
        widths = ham or PUBLISHED_HAM.get(self.backbone.variant.name, HamWidths())
        self.add_module(row.attribute, row.head(outputs, dims, widths))

    @property
    def head(self) -> nn.Module:
        return self.get_submodule(KINDS[self.kind].attribute)

    @property
    def in_channels(self) -> int:
        return self.backbone.in_channels

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone.forward_features(x)
        return cast(Tensor, self.head(maps if self.neck is None else self.neck(maps)))
