"""Finds what a checkpoint says of its input: in its own header, in the JSON beside it, or in its Hugging Face folder.

In: the weights' path and header. Out: an ``InputSpec``, whether it is only the default, and what to warn of.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_van.checkpoint.class_names import names_of, only_numbers, with_numbers
from edge_van.checkpoint.hugging_face import IMAGENET_MEAN, check_config, processor_values
from edge_van.errors import CheckpointError, UsageError
from edge_van.head import Head
from edge_van.input_spec import OFFICIAL, InputSpec
from edge_van.model.van import LAYER_NORM_EPS, VAN
from edge_van.text import first_names, printable

METADATA_SPEC = "edge_van.input_spec"
METADATA_VARIANT = "edge_van.variant"
METADATA_EPS = "edge_van.layer_norm_eps"
LARGEST_EPS = 0.1
"""Of a LayerNorm: larger ones are no numerical guard but another function, and a mistake."""
FLAGS = {
    "size": "--input-size",
    "crop": "--crop",
    "interpolation": "--interpolation",
    "mean": "--mean",
    "std": "--std",
}
"""The fields of an ``InputSpec`` that say how images are prepared, and the flags that give them by hand."""
ORDERED = {"resize": "--resize", "channel_order": "--channel-order"}
"""The flags of what the official preprocessing leaves no doubt about: seldom otherwise, and not asked for."""

_SUFFIXES = (".pth.tar", ".safetensors", ".pth", ".ckpt", ".bin", ".tar", ".pt")
_SIDECAR_FIELDS = {  # name in the JSON: name in the InputSpec
    "input_size": "size",
    "crop": "crop",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
    "classes": "classes",
    "resize": "resize",
    "pad_color": "pad_color",
    "channel_order": "channel_order",
}


@dataclass(frozen=True)
class FoundSpec:
    """An ``InputSpec``, whether nothing said so and it is the official one by default, and warnings, a line each.

    ``layer_norm_eps`` is no matter of the input, but stands in the same files.
    """

    spec: InputSpec
    is_default: bool = False
    warnings: tuple[str, ...] = ()
    layer_norm_eps: float = LAYER_NORM_EPS


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
        eps = _eps(metadata.get(METADATA_EPS, LAYER_NORM_EPS), f"{path}: {METADATA_EPS} in its header")
        return FoundSpec(_spec(values, where, van), layer_norm_eps=eps)
    given = {field: sidecar[name] for name, field in _SIDECAR_FIELDS.items() if sidecar.get(name) is not None}
    if given:
        if isinstance(given.get("size"), int):
            given["size"] = [given["size"]] * 2
        for field in ("mean", "std"):
            if isinstance(given.get(field), int | float):  # one for all channels, as the flag takes it
                given[field] = [given[field]] * van.in_channels
        if given.get("resize", "crop") != "crop":
            given.setdefault("crop", 1.0)
        settled = {*given, *by_hand, "classes", "resize", "pad_color", "channel_order"}
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


def _official(van: VAN) -> InputSpec:
    """The official preprocessing, for as many channels as the network takes."""
    return replace(OFFICIAL, mean=OFFICIAL.mean[:1] * van.in_channels, std=OFFICIAL.std[:1] * van.in_channels)


def _spec(values: Any, where: str, van: VAN) -> InputSpec:
    """An ``InputSpec`` from JSON values over the official ones; a ``CheckpointError`` says what does not fit."""
    try:
        if not isinstance(values, dict):
            raise UsageError(f"expected a JSON object, got {type(values).__name__}")
        classes = values.get("classes")
        if classes is not None:
            if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
                raise UsageError("classes must be a list of names")
            if not Head().names_fit(len(classes), van.num_classes):
                raise UsageError(f"{len(classes)} class names, but the head has {van.num_classes} outputs")
        spec = InputSpec.from_dict({**_official(van).to_dict(), **values})
        if spec.channels != van.in_channels:
            raise UsageError(f"mean and std of {spec.channels} channels, but the network takes {van.in_channels}")
        return spec
    except (UsageError, OverflowError) as error:
        raise CheckpointError(f"{where} does not fit: {printable(error, 300)}; mend it or move it away") from error


def _hugging_face(path: Path, van: VAN, by_hand: Collection[str]) -> FoundSpec:
    """Class names from config.json and the preprocessing from preprocessor_config.json, both beside the weights."""
    warnings: list[str] = []
    known: dict[str, Any] = {}
    eps = LAYER_NORM_EPS
    config_file, processor_file = path.with_name("config.json"), path.with_name("preprocessor_config.json")
    if config_file.is_file():
        config = read_json(config_file)
        check_config(config, config_file, van)
        eps = _eps(config.get("layer_norm_eps", eps), f"{config_file}: layer_norm_eps")
        if config.get("id2label") is not None and "classes" not in by_hand:
            names = names_of(config["id2label"])
            if names is None:
                raise CheckpointError(f"{config_file}: id2label must map 0 to n-1 to names; mend it, or give --classes")
            if not Head().names_fit(len(names), van.num_classes):
                raise CheckpointError(
                    f"{config_file}: id2label has {len(names)} names, the head {van.num_classes} outputs; mend it, or "
                    f"give the names in the order of the outputs with --classes FILE"
                )
            known["classes"], repeated = (None, ()) if only_numbers(names) else with_numbers(names)
            if repeated:
                warnings.append(
                    f"{config_file.name} names classes more than once, numbered here: {first_names(repeated)}"
                )
        if isinstance(side := config.get("image_size"), int):
            known["size"] = [side, side]
    else:
        warnings.append(
            f"no config.json beside {path.name}: GELU and LayerNorm eps {LAYER_NORM_EPS} are taken for granted"
        )
    if not processor_file.is_file() or set(FLAGS) <= set(by_hand):
        guess = _default(path.name, van, known, by_hand)
        return FoundSpec(guess.spec, guess.is_default, (*warnings, *guess.warnings), eps)
    try:
        known |= processor_values(read_json(processor_file), van.in_channels)
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{processor_file} describes an unknown preprocessing ({printable(error)}); expected a resize, "
            f"a centre crop, mean and std: give {_listed((*FLAGS.values(), *ORDERED.values()))} instead"
        ) from error
    # what is given by hand need not fit: a processor without a mean has one of three channels
    known = {name: value for name, value in known.items() if name not in by_hand}
    spec = _spec(known, str(processor_file), van)
    imagenet = spec.channels == 3 and np.allclose(spec.mean, IMAGENET_MEAN, atol=1e-3)
    if imagenet and not {"mean", "std"} <= set(by_hand):
        warnings.append(
            f"{processor_file.name} gives ImageNet's mean and std, which are taken; the official VAN weights "
            f"were trained with 0.5, which their folders do not say: if these are theirs, give --mean 0.5 --std 0.5"
        )
    return FoundSpec(spec, warnings=tuple(warnings), layer_norm_eps=eps)


def _eps(value: Any, where: str) -> float:
    try:
        eps = float(value)
    except (TypeError, ValueError):
        eps = math.nan
    if not 0.0 < eps <= LARGEST_EPS or isinstance(value, bool):
        raise CheckpointError(
            f"{where} is {printable(value)}; expected a number over 0 and up to {LARGEST_EPS}: mend it"
        )
    return eps
