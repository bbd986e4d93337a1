"""Finds what a checkpoint says of its input: in its own header, in the JSON beside it, or in its Hugging Face folder.

In: the weights' path and header. Out: an ``InputSpec``, whether it is only the default, and what to warn of.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.errors import CheckpointError, UsageError
from edge_van.input_spec import OFFICIAL, InputSpec
from edge_van.model.van import LAYER_NORM_EPS, VAN
from edge_van.text import first_names, printable

METADATA_SPEC = "edge_van.input_spec"
METADATA_VARIANT = "edge_van.variant"
FLAGS = {
    "size": "--input-size",
    "crop": "--crop",
    "interpolation": "--interpolation",
    "mean": "--mean",
    "std": "--std",
}
"""The fields of an ``InputSpec`` that say how images are prepared, and the flags that give them by hand."""

_SUFFIXES = (".pth.tar", ".safetensors", ".pth", ".ckpt", ".bin", ".tar", ".pt")
_SIDECAR_FIELDS = {  # name in the JSON: name in the InputSpec
    "input_size": "size",
    "crop": "crop",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
    "classes": "classes",
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class FoundSpec:
    """An ``InputSpec``, whether nothing said so and it is the official one by default, and warnings, a line each."""

    spec: InputSpec
    is_default: bool = False
    warnings: tuple[str, ...] = ()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; a ``CheckpointError`` where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({printable(error)}); mend it or move it away") from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(values).__name__}, expected an object; mend it or move it away"
        )
    return values


def read_sidecar(path: Path, sha256: str) -> dict[str, Any]:
    """What ``van.json`` beside ``van.pth.tar`` says; empty where there is none.

    A sha256 in it that is not the weights' own is a ``CheckpointError``: one of the two is not what it was.
    """
    suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), None)
    sidecar = path.with_name(path.name[: -len(suffix)] + ".json") if suffix else path
    if suffix is None or not sidecar.is_file():
        return {}
    values = read_json(sidecar)
    said = values.get("sha256", sha256)
    if str(said).lower() != sha256:
        raise CheckpointError(
            f"{path} has sha256 {sha256}, but {sidecar.name} says {printable(said)}; "
            f"copy both again, or move the JSON away if it is another file's"
        )
    return values


def claimed_variant(metadata: Mapping[str, str], sidecar: Mapping[str, Any]) -> str | None:
    """The variant that the header, or else the JSON beside the file, names; ``van_b0`` and ``VAN-B0`` are b0."""
    claim = metadata.get(METADATA_VARIANT) or sidecar.get("variant")
    return None if claim is None else re.sub(r"^van[-_ ]?", "", str(claim).strip().lower())


def find_spec(
    path: Path,
    layout: str,
    metadata: Mapping[str, str],
    sidecar: Mapping[str, Any],
    van: VAN,
    by_hand: Collection[str] = (),
) -> FoundSpec:
    """The spec of the weights in ``path``: from their header, the JSON beside them, or their Hugging Face folder.

    ``by_hand`` are the fields that the caller puts in place afterwards: nothing is guessed and warned of for them.
    """
    if METADATA_SPEC in metadata:
        where = f"{path}: {METADATA_SPEC} in its header"
        try:
            values = json.loads(metadata[METADATA_SPEC])
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{where} is no JSON ({printable(error)}); save the checkpoint anew") from error
        return FoundSpec(_spec(values, where, van))
    given = {field: sidecar[name] for name, field in _SIDECAR_FIELDS.items() if sidecar.get(name) is not None}
    if given:
        if isinstance(given.get("size"), int):
            given["size"] = [given["size"]] * 2
        for field in ("mean", "std"):
            if isinstance(given.get(field), int | float):  # one for all channels, as the flag takes it
                given[field] = [given[field]] * 3
        settled = {*given, *by_hand, "classes"}
        missing = [name for name, field in _SIDECAR_FIELDS.items() if field not in settled]
        warned = (
            f"the JSON beside {path.name} does not give {', '.join(missing)}: taken from the official preprocessing"
        )
        guessed = set(given) == {"classes"} and bool(missing)
        return FoundSpec(_spec(given, f"the JSON beside {path}", van), guessed, (warned,) if missing else ())
    if layout.startswith("huggingface"):
        return _hugging_face(path, van, by_hand)
    return _default(path.name, van, {}, by_hand)


def _default(name: str, van: VAN, known: dict[str, Any], by_hand: Collection[str]) -> FoundSpec:
    """The official preprocessing, with what is ``known`` put in place, and a warning of each field that is a guess."""
    spec, o = _spec(known, name, van), OFFICIAL
    said = (f"{o.size[0]} px", f"crop {o.crop}", o.interpolation, f"mean {o.mean[0]}", f"std {o.std[0]}")
    guessed = {field: value for field, value in zip(FLAGS, said, strict=True) if field not in {*known, *by_hand}}
    if not guessed:
        return FoundSpec(spec)
    likely = ""
    if van.num_classes != 1000:
        likely = f" its head has {van.num_classes} classes and not ImageNet's 1000, so that is likely wrong:"
    warned = (
        f"{name} does not say how its images were prepared; taken: the official preprocessing "
        f"({', '.join(guessed.values())});{likely} give {_listed(FLAGS[field] for field in guessed)} if it was trained "
        f"otherwise"
    )
    return FoundSpec(spec, True, (warned,))


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _spec(values: Any, where: str, van: VAN) -> InputSpec:
    """An ``InputSpec`` from JSON values over the official ones; a ``CheckpointError`` says what does not fit."""
    try:
        if not isinstance(values, dict):
            raise UsageError(f"expected a JSON object, got {type(values).__name__}")
        classes = values.get("classes")
        if classes is not None:
            if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
                raise UsageError("classes must be a list of names")
            if len(classes) != van.num_classes:
                raise UsageError(f"{len(classes)} class names, but the head has {van.num_classes} outputs")
        return InputSpec.from_dict({**OFFICIAL.to_dict(), **values})
    except (UsageError, OverflowError) as error:
        raise CheckpointError(f"{where} does not fit: {printable(error, 300)}; mend it or move it away") from error


def _hugging_face(path: Path, van: VAN, by_hand: Collection[str]) -> FoundSpec:
    """Class names from config.json and the preprocessing from preprocessor_config.json, both beside the weights."""
    warnings: list[str] = []
    known: dict[str, Any] = {}
    config_file, processor_file = path.with_name("config.json"), path.with_name("preprocessor_config.json")
    if config_file.is_file():
        config = read_json(config_file)
        _check_config(config, config_file, van)
        known["classes"], repeated = _class_names(config.get("id2label"), config_file)
        if repeated:
            warnings.append(f"{config_file.name} names classes more than once, numbered here: {first_names(repeated)}")
        if isinstance(side := config.get("image_size"), int):
            known["size"] = [side, side]
    else:
        warnings.append(
            f"no config.json beside {path.name}: GELU and LayerNorm eps {LAYER_NORM_EPS} are taken for granted"
        )
    if not processor_file.is_file() or set(FLAGS) <= set(by_hand):
        guess = _default(path.name, van, known, by_hand)
        return FoundSpec(guess.spec, guess.is_default, (*warnings, *guess.warnings))
    try:
        known |= _processor_values(read_json(processor_file))
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{processor_file} describes an unknown preprocessing ({printable(error)}); expected a resize that "
            f"keeps the aspect, a centre crop, mean and std on a 0..1 scale: give {_listed(FLAGS.values())} instead"
        ) from error
    spec = _spec(known, str(processor_file), van)
    imagenet = all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(spec.mean, _IMAGENET_MEAN, strict=True))
    if imagenet and not {"mean", "std"} <= set(by_hand):
        warnings.append(
            f"{processor_file.name} gives ImageNet's mean and std, which are taken; the official VAN weights "
            f"were trained with 0.5, which their folders do not say: if these are theirs, give --mean 0.5 --std 0.5"
        )
    return FoundSpec(spec, warnings=tuple(warnings))


def _check_config(config: Mapping[str, Any], where: Path, van: VAN) -> None:
    """What config.json says must be what the tensors' shapes gave and what this package builds."""
    row = van.variant
    built: dict[str, tuple[Any, ...]] = {
        "model_type": ("van",),
        "hidden_act": ("gelu", "gelu_python"),  # both are the exact, erf-based GELU
        "layer_norm_eps": (LAYER_NORM_EPS,),
        "patch_sizes": ([7, 3, 3, 3],),
        "strides": ([4, 2, 2, 2],),
        "num_channels": (3,),
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


def _class_names(id2label: Any, where: Path) -> tuple[tuple[str, ...] | None, list[str]]:
    """(names in the order of the logits or None, names that came more than once).

    ImageNet's own list has two cranes; a repeated name gets its number, for an ``InputSpec`` wants them to differ.
    """
    if id2label is None:
        return None, []
    try:
        names = [str(id2label[str(i)]) for i in range(len(id2label))]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{where}: id2label must map 0 to n-1 to names, and {printable(error)} is not so; mend it"
        ) from error
    if all(name == f"LABEL_{i}" for i, name in enumerate(names)):
        return None, []
    repeated = {name for name in names if names.count(name) > 1}
    return tuple(f"{name} ({i})" if name in repeated else name for i, name in enumerate(names)), sorted(repeated)


def _processor_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """``InputSpec`` values of a preprocessor_config.json: a ConvNeXt processor, as VAN's are, or a resize and crop.

    A ``ValueError``, among others, for one that does not keep the images' aspect: an ``InputSpec`` always does.
    """
    if not config.get("do_resize", True) or not config.get("do_rescale", True):
        raise ValueError("do_resize or do_rescale is off")
    if not math.isclose(config.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
        raise ValueError(f"rescale_factor is {config['rescale_factor']}")
    size, crops = config.get("size", 224), config.get("do_center_crop")
    kind = config.get("image_processor_type", config.get("feature_extractor_type"))
    # transformers takes ConvNeXt's for a VAN whose file names none
    convnext = str(kind).startswith("ConvNext") or (kind is None and ("crop_pct" in config or not crops))
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    if edge is None:
        raise ValueError(f"the aspect is not kept by a resize to {size['height']} x {size['width']}")
    if convnext and edge >= 384:  # under 384 px it resizes to size / crop_pct and crops
        raise ValueError(f"the aspect is not kept by ConvNeXt's resize to {edge} x {edge}")
    if convnext or "crop_pct" in config:
        target, crop = (edge, edge), config.get("crop_pct") or 224 / 256
    elif kind is not None and not isinstance(size, dict):  # ViT's takes it for both sides, CLIP's for the shorter
        raise ValueError(f"the aspect may not be kept by {kind} with one number as its size")
    elif crops:
        side = config.get("crop_size", edge)
        target = (side["height"], side["width"]) if isinstance(side, dict) else (side, side)
        crop = min(target) / edge
        if math.floor(min(target) / crop) < edge:  # rounding must not lose a pixel of the resized side
            crop = math.nextafter(crop, 0.0)
    else:
        target, crop = (edge, edge), 1.0
    normalised = config.get("do_normalize", True)
    return {
        "size": target,
        "crop": crop,
        "interpolation": _PILLOW_FILTERS[config.get("resample", 2)],
        "mean": tuple(config.get("image_mean", _IMAGENET_MEAN)) if normalised else (0.0, 0.0, 0.0),
        "std": tuple(config.get("image_std", _IMAGENET_STD)) if normalised else (1.0, 1.0, 1.0),
    }
