"""What the JSON files of a Hugging Face model folder say of a VAN and of how its images are prepared.

In: the content of config.json and of preprocessor_config.json. Out: checks, and the values of an ``InputSpec``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_van.errors import CheckpointError
from edge_van.model.van import VAN
from edge_van.text import printable

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SQUARES = ("ViT", "DeiT", "Beit", "BEiT")
"""Processors that take one number as both sides of the image; for others it is the shorter side, or not known here."""
_OTHERS = ("do_pad", "do_thumbnail", "do_align_long_axis", "keep_aspect_ratio", "include_top", "offset")
"""What other families' processors do besides, which an ``InputSpec`` cannot say."""
_OF_THEIR_OWN = ("Levit", "Vilt", "Detr", "Yolos", "ImageGPT", "Vivit", "VideoMAE", "Donut", "Llava")
_SAID = {"size", "crop_size", "crop_pct", "image_mean", "image_std", "resample"}
_SAID |= {"do_normalize", "do_resize", "do_rescale"}
_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def check_config(config: Mapping[str, Any], where: Path, van: VAN) -> None:
    """What config.json says must be what the tensors' shapes gave and what this package builds."""
    row = van.variant
    built: dict[str, tuple[Any, ...]] = {
        "model_type": ("van",),
        "hidden_act": ("gelu", "gelu_python"),  # both are the exact, erf-based GELU
        "patch_sizes": ([7, 3, 3, 3],),
        "strides": ([4, 2, 2, 2],),
        "num_channels": (van.in_channels,),
        "hidden_sizes": (list(row.embed_dims),),
        "depths": (list(row.depths),),
        "mlp_ratios": (list(row.mlp_ratios),),
    }
    for name, accepted in built.items():
        if name in config and config[name] not in accepted:
            raise CheckpointError(
                f"{where} says {name} = {printable(config[name])}, but the weights beside it make it {accepted[0]}; "
                f"give the two files of one model"
            )


def processor_values(config: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """``InputSpec`` values: of a ConvNeXt processor, as VAN's are, or of one that resizes, crops and normalises.

    A ``ValueError``, ``KeyError`` or ``TypeError``, among others, for what cannot be said with them.
    """
    if isinstance(inner := config.get("image_processor"), Mapping):
        config = inner
    if not config.get("do_resize", True) or config.get("rescale_offset"):
        raise ValueError("do_resize is off, or rescale_offset on")
    if other := [name for name in _OTHERS if config.get(name)]:
        raise ValueError(f"{', '.join(other)} is on")
    if not set(config) & _SAID:
        raise ValueError("it says nothing of size, crop, mean or std")
    size, crops = config.get("size", 224), config.get("do_center_crop")
    kind = config.get("image_processor_type", config.get("feature_extractor_type"))
    # transformers takes ConvNeXt's for a VAN whose file names none
    convnext = str(kind).startswith("ConvNext") or (kind is None and ("crop_pct" in config or not crops))
    if str(kind).startswith(_OF_THEIR_OWN) or (isinstance(size, dict) and "longest_edge" in size):
        raise ValueError(f"{kind} with size {size} resizes in its own way")
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    resize = "crop"
    if not isinstance(size, dict) and str(kind).startswith(_SQUARES):
        size, edge = {"height": size, "width": size}, None
    if edge is None or (convnext and edge >= 384):  # under 384 px ConvNeXt's resizes to size / crop_pct and crops
        resize, edges = "squash", (size["height"], size["width"]) if edge is None else (edge, edge)
        target, crop = _cropped(edges, config.get("crop_size", edges)) if crops and edge is None else (edges, 1.0)
    elif convnext or "crop_pct" in config:
        target, crop = (edge, edge), config.get("crop_pct") or 224 / 256
    elif kind is not None and not isinstance(size, dict):  # ViT's takes it for both sides, CLIP's for the shorter
        raise ValueError(f"the aspect may not be kept by {kind} with one number as its size")
    elif crops:
        target, crop = _cropped((edge, edge), config.get("crop_size", edge))
    else:
        target, crop = (edge, edge), 1.0
    return {
        "size": target,
        "crop": crop,
        "interpolation": _PILLOW_FILTERS[config.get("resample", 2)],
        "resize": resize,
        "channel_order": "bgr" if config.get("do_flip_channel_order") else "rgb",
        **_normalisation(config, channels),
    }


def _cropped(edges: tuple[int, int], side: Any) -> tuple[tuple[int, int], float]:
    """(target, share) of a centre crop of ``side`` out of an image resized to ``edges``."""
    target = (side["height"], side["width"]) if isinstance(side, dict) else side
    target = (target, target) if isinstance(target, int) else tuple(target)
    share = min(target) / min(edges)
    if math.floor(min(target) / share) < min(edges):  # rounding must not lose a pixel of the resized side
        share = math.nextafter(share, 0.0)
    if edges[0] != edges[1] and tuple(math.floor(t / share) for t in target) != edges:
        raise ValueError(f"a crop to {target[0]} x {target[1]} is not the same share of both sides of {edges}")
    return target, share


def _normalisation(config: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """mean and std on a 0..1 scale of (pixel * rescale_factor - image_mean) / image_std, each step where it is on."""
    factor = 255.0 * (config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0)
    kind = str(config.get("image_processor_type", config.get("feature_extractor_type")))
    if not config.get("do_normalize", not kind.startswith("MobileViT")):  # these never do, and do not say so
        mean, std = (0.0,) * channels, (1.0,) * channels
    elif channels == 3:
        mean, std = tuple(config.get("image_mean", IMAGENET_MEAN)), tuple(config.get("image_std", IMAGENET_STD))
    else:
        mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
    if math.isclose(factor, 1.0, rel_tol=1e-3):
        return {"mean": mean, "std": std}
    return {"mean": tuple(m / factor for m in mean), "std": tuple(s / factor for s in std)}
