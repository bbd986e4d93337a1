"""The dense heads beside OpenMMLab's own code: the same random weights by the same names, the same maps in.

In: an environment that has torch, mmengine, mmcv-lite 2.1, mmsegmentation 1.2, mmdet 3.3 and mmpose 1.3 beside this
package (``--no-deps`` for the last two; what they import of mmcv's compiled operators is not used here and is replaced
by nothing that runs). Out: a table of the largest relative difference of every output.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

import torch
from torch import Tensor, nn

from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.model.dense.objects import ANCHORS_A_CELL
from edge_van.tasks.boxes import STRIDES, anchors, level_sizes, moved
from edge_van.tasks.pose import key_points

CLASSES = 21
SIZES = ((64, 96), (72, 100))
TOLERANCE = 1e-4


class _Absent(types.ModuleType):
    """A module whose every name is a function that must not be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"{self.__name__}.{name} is a compiled operator, which mmcv-lite has not")

        return type(name, (nn.Module,), {"__init__": absent}) if name[0].isupper() else absent


class _Compiled(MetaPathFinder, Loader):
    """mmdet and mmpose import ``mmcv.ops`` and pycocotools' relative at their top, for what no head here calls."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        is_one = name.split(".")[0] == "xtcocotools" or name.startswith(("mmcv.ops", "mmcv._ext"))
        return ModuleSpec(name, self, is_package=True) if is_one else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def semantic_fpn(dims: Sequence[int], _: DenseVAN) -> tuple[nn.Module | None, nn.Module]:
    """(neck, head) as VAN-Segmentation's fpn_van.py configures them."""
    from mmseg.models.decode_heads import FPNHead
    from mmseg.models.necks import FPN

    norm = {"type": "BN", "requires_grad": True}
    head = FPNHead(
        in_channels=[256] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=CLASSES,
        norm_cfg=norm,
        align_corners=False,
    )
    return FPN(in_channels=list(dims), out_channels=256, num_outs=4), head


def upernet(dims: Sequence[int], _: DenseVAN) -> tuple[nn.Module | None, nn.Module]:
    from mmseg.models.decode_heads import UPerHead

    return None, UPerHead(
        in_channels=list(dims),
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        num_classes=CLASSES,
        norm_cfg={"type": "BN"},
        align_corners=False,
    )


def light_ham(dims: Sequence[int], ours: DenseVAN) -> tuple[nn.Module | None, nn.Module]:
    """Its bases are drawn anew in every forward: here they are ours."""
    from mmseg.models.decode_heads import LightHamHead

    head = LightHamHead(
        in_channels=list(dims[1:]),
        in_index=[1, 2, 3],
        channels=512,
        ham_channels=480,
        ham_kwargs={"MD_R": 64},
        num_classes=CLASSES,
        norm_cfg={"type": "GN", "num_groups": 32},
        align_corners=False,
    )
    bases = ours.head.hamburger.ham.bases
    head.hamburger.ham._build_bases = lambda B, S, D, R, device=None: bases.expand(B * S, -1, -1)  # noqa: N803
    return None, head


def retinanet(dims: Sequence[int], _: DenseVAN) -> tuple[nn.Module | None, nn.Module]:
    from mmdet.models.dense_heads import RetinaHead
    from mmdet.models.necks import FPN

    neck = FPN(in_channels=list(dims), out_channels=256, start_level=1, add_extra_convs="on_input", num_outs=5)
    return neck, RetinaHead(num_classes=CLASSES, in_channels=256, stacked_convs=4, feat_channels=256)


def simple_baseline(dims: Sequence[int], _: DenseVAN) -> tuple[nn.Module | None, nn.Module]:
    from mmpose.models.heads import HeatmapHead

    return None, HeatmapHead(in_channels=dims[-1], out_channels=CLASSES, loss={"type": "KeypointMSELoss"})


BUILDERS: dict[str, Callable[[Sequence[int], DenseVAN], tuple[nn.Module | None, nn.Module]]] = {
    "semantic_fpn": semantic_fpn,
    "upernet": upernet,
    "light_ham": light_ham,
    "retinanet": retinanet,
    "simple_baseline": simple_baseline,
}


def answered(kind: str, neck: nn.Module | None, head: nn.Module, maps: list[Tensor]) -> Tensor:
    """Their output, arranged as ours."""
    given = tuple(maps) if neck is None else neck(tuple(maps))
    if kind != "retinanet":
        return head(list(given) if kind != "simple_baseline" else given)
    levels = []
    for scores, boxes in zip(*head(given), strict=True):
        rows = [x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // ANCHORS_A_CELL) for x in (scores, boxes)]
        levels.append(torch.cat(rows, -1))
    return torch.cat(levels, 1)


@torch.no_grad()
def compared(kind: str) -> list[float]:
    """The largest relative difference at each size, both with the same weights."""
    torch.manual_seed(0)
    ours = DenseVAN(kind, "b0", CLASSES).eval()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    neck, head = BUILDERS[kind](ours.backbone.variant.embed_dims, ours)
    prefix = KINDS[kind].attribute
    for theirs, name in ((neck, "neck"), (head, prefix)):
        if theirs is not None:
            state = {k.removeprefix(f"{name}."): v for k, v in ours.state_dict().items() if k.startswith(f"{name}.")}
            theirs.load_state_dict(state)  # strict: every name and shape is the other's
            theirs.eval()
    found = []
    for size in SIZES:
        maps = ours.backbone(torch.randn(2, 3, *size))
        expected = answered(kind, neck, head, maps)
        actual = ours.head(maps if ours.neck is None else ours.neck(maps))
        assert actual.shape == expected.shape, (kind, actual.shape, expected.shape)
        found.append(float((actual - expected).abs().max() / expected.abs().max()))
    return found


def boxes_compared() -> list[float]:
    """The largest difference in pixels of anchors, and of anchors moved by random deltas, at each size."""
    import numpy as np
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    generator = AnchorGenerator(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], strides=list(STRIDES))
    coder = DeltaXYWHBBoxCoder(target_means=(0.0,) * 4, target_stds=(1.0,) * 4)
    found = []
    for size in SIZES:
        theirs = torch.cat(generator.grid_priors([*level_sizes(size)], device="cpu"))
        deltas = torch.randn(len(theirs), 4, generator=torch.Generator().manual_seed(0)) * 2
        ours = anchors(size)
        moved_theirs = coder.decode(theirs, deltas, max_shape=size).numpy()
        pairs = ((ours, theirs.numpy()), (moved(ours, deltas.numpy(), size), moved_theirs))
        found.append(max(float(np.abs(a - b).max()) for a, b in pairs))
    return found


def points_compared() -> float:
    """The largest difference in pixels of the key points of random heat maps; theirs come one image at a time."""
    import numpy as np
    from mmpose.codecs import MSRAHeatmap

    codec = MSRAHeatmap(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
    maps = np.random.default_rng(0).random((8, 17, 64, 48)).astype(np.float32)
    theirs = np.concatenate([codec.decode(one)[0] for one in maps])
    return float(np.abs(key_points(maps, (256, 192))[..., :2] - theirs).max())


def main() -> None:
    """Exit code 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(BUILDERS), help="all where none is given")
    args = parser.parse_args()
    sys.meta_path.insert(0, _Compiled())
    worst = 0.0
    for kind in args.kinds:
        found = compared(kind)
        worst = max(worst, *found)
        print(f"{kind:16}", *(f"{h}x{w}: {error:.1e}" for (h, w), error in zip(SIZES, found, strict=True)))
    if "retinanet" in args.kinds:
        pixels = boxes_compared()
        worst = max(worst, *pixels)
        print("boxes, in pixels", *(f"{h}x{w}: {e:.1e}" for (h, w), e in zip(SIZES, pixels, strict=True)))
    if "simple_baseline" in args.kinds:
        worst = max(worst, pixels_off := points_compared())
        print(f"key points, in pixels: {pixels_off:.1e}")
    sys.exit(int(not worst <= TOLERANCE))


if __name__ == "__main__":
    main()
