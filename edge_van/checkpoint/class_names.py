"""The class names that a training framework put beside the weights, in the order of the logits.

In: what a checkpoint file or a config holds. Out: the names and where they stood, or None.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where they are kept: mmengine's and mmcv's meta, the file itself, Lightning's hyper parameters, a script's arguments.
_PLACES = (
    "meta.dataset_meta",
    "meta",
    "",
    "hyper_parameters",
    "datamodule_hyper_parameters",
    "hparams",
    "args",
    "config",
    "cfg",
)
_ENTRIES = (
    "classes",
    "CLASSES",
    "class_names",
    "classnames",
    "names",
    "labels",
    "label_names",
    "idx_to_class",
    "id2label",
    "class_to_idx",
    "label2id",
)


@dataclass(frozen=True)
class FoundNames:
    """``names`` in the order of the logits, ``where`` they stood ("meta.dataset_meta.classes")."""

    names: tuple[str, ...]
    repeated: tuple[str, ...]  # numbered in ``names``
    where: str


def find_class_names(content: Any, outputs: int) -> FoundNames | None:
    """The first list of a name for each of ``outputs`` in one of the places that frameworks keep them in; for a single
    output that of two classes is one, too.

    Where none has so many, the first of another length, for the caller to refuse; None where there is none at all.
    """
    other = None
    for place in _PLACES:
        holder = content
        for part in place.split(".") if place else ():
            holder = entries_of(holder).get(part)
        held = entries_of(holder)
        for entry in _ENTRIES:
            names = names_of(held.get(entry))
            if names is not None and not only_numbers(names):
                where = f"{place}.{entry}".removeprefix(".")
                if len(names) == outputs or (outputs == 1 and len(names) == 2):
                    return FoundNames(*with_numbers(names), where)
                other = other or FoundNames(names, (), where)
    return other


def names_of(value: Any) -> tuple[str, ...] | None:
    """Names in order, of a list of them, {number: name} or {name: number}; None for anything else.

    Numbers are those from 0 on, each once, as integers or as text.
    """
    if isinstance(value, Mapping):
        names = _by_number(value.items()) or _by_number((number, name) for name, number in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        names = tuple(value)
    else:
        return None
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None


def only_numbers(names: Sequence[str]) -> bool:
    """Whether they are LABEL_0, LABEL_1, ...: what transformers writes where it was told no names."""
    return all(name == f"LABEL_{i}" for i, name in enumerate(names))


def with_numbers(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, those that came more than once and got their number): ImageNet's own list has two cranes."""
    often = Counter(names)
    numbered = tuple(f"{name} ({i})" if often[name] > 1 else name for i, name in enumerate(names))
    if len(set(numbered)) < len(numbered):  # one was called "crane (0)" already
        numbered = tuple(f"{name} ({i})" for i, name in enumerate(names))
    return numbered, tuple(sorted(name for name, count in often.items() if count > 1))


def entries_of(holder: Any) -> Mapping[Any, Any]:
    """What a dictionary or a script's arguments hold; nothing of anything else."""
    if isinstance(holder, argparse.Namespace):
        return vars(holder)
    return holder if isinstance(holder, Mapping) else {}


def _by_number(pairs: Any) -> tuple[Any, ...]:
    """The second of each pair in the order of the first; empty where these are not 0 to n-1."""
    found: dict[int, Any] = {}
    for number, name in pairs:
        if isinstance(number, str) and number.isdecimal() and len(number) < 10 and number == str(int(number)):
            number = int(number)
        if type(number) is not int or number in found:
            return ()
        found[number] = name
    return tuple(found[i] for i in range(len(found))) if set(found) == set(range(len(found))) else ()
