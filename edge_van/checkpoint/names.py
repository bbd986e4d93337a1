"""Which tensor of a file is which of a VAN: whatever stands before its layout's names, and whatever its head is called.

In: names and tensors as a file held them. Out: a ``NamedState`` under official names, with what was left out and why;
a name that may be a weight of the network and is unknown is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_van.checkpoint.layouts import Network, detect_networks, strip_wrappers
from edge_van.errors import CheckpointError
from edge_van.text import first_names, printable

AVERAGED_MODEL_COUNTER = "n_averaged"  # torch.optim.swa_utils puts it beside the weights
_EMA_PARTS = frozenset({"ema", "ema_model", "model_ema", "ema_network", "averaged_model"})
_MMCV_EMA = "ema_"
"""mmcv's EMAHook keeps a buffer a weight, its name's dots as underscores. It swaps the two before it saves: what has
the network's own names is the average, this is the raw weight."""
_HEADS = ("head", "heads", "fc", "classifier", "cls_head", "linear")
_COUNTERS = frozenset({AVERAGED_MODEL_COUNTER, "initted", "step", "num_updates", "decay", "ema_decay"})
_OF_THE_RUN = frozenset(
    {"epoch", "epochs", "iteration", "iter", "step", "best", "lr", "seed", "version", "time", "date"}
)
"""Words in the name of a plain value that says how a training went."""
_PROFILERS = re.compile(r"(?:^|\.)(?:total_ops|total_params|__flops__|__params__|__macs__)$")
_TRAINING_ONLY = frozenset(
    {"loss", "losses", "criterion", "metric", "metrics", "acc", "accuracy", "auroc", "auc", "f1", "precision", "recall"}
    | {"confmat", "confusion"}
)
"""Words in the name of a module that belongs to the training, not to the network."""


@dataclass(frozen=True)
class NamedState:
    """``tensors`` under official names, ``origin`` their names in the file, ``unused`` those that no VAN has.

    What stands in a tensor's place is among them, unchecked. ``layout`` is whose names they are; ``choices`` say what
    was taken over what, ``notes`` what was left out.
    """

    layout: str
    tensors: dict[str, Any]
    origin: dict[str, str]
    unused: tuple[str, ...]
    choices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def named_state(entries: Mapping[Any, Any], path: Path, use_ema: bool = True) -> NamedState:
    """Official names for all of ``entries``; a ``CheckpointError`` says which tensor, name or layout cannot be.

    ``use_ema`` decides between a network and its average where both are in one state dict.
    """
    if not any(isinstance(value, Tensor) for value in entries.values()):
        raise CheckpointError(
            f"{path} holds no PyTorch tensors where a state dict should be ({first_names(map(str, entries))}); "
            f"expected tensors called patch_embed1.proj.weight and so on: save model.state_dict()"
        )
    if strange := next((key for key in entries if not isinstance(key, str)), None):
        raise CheckpointError(
            f"{path}: entry {printable(strange)} of the state dict is of type {type(strange).__name__}; expected "
            f"names and tensors only: save model.state_dict() alone"
        )
    by_name: dict[str, str] = {}
    for key in entries:
        if (twin := by_name.setdefault(strip_wrappers(key), key)) != key:
            raise CheckpointError(
                f"{path} holds both {first_names((twin, key))}, which name one tensor; save it anew with one"
            )
    network, others, choices = _network(by_name, path, use_ema)
    tensors: dict[str, Any] = {}
    origin: dict[str, str] = {}
    rest: dict[str, str] = {}
    twins = {f"{_MMCV_EMA}{name.replace('.', '_')}": name for name in by_name if network.to_official(name)}
    twins = {raw: name for raw, name in twins.items() if raw in by_name}
    if twins:
        taken = "the average is taken; --no-ema takes the raw weights" if use_ema else "the raw weights are taken"
        choices.append(f"{printable(path.name)} holds the average (EMA) and, as ema_..., the raw weights: {taken}")
    for name, key in by_name.items():
        official = network.to_official(name)
        if official is not None:
            tensors[official], origin[official] = entries[key], key
        elif name not in twins:
            rest[name] = key
    if not use_ema:
        for raw, name in twins.items():
            official = str(network.to_official(name))
            tensors[official], origin[official] = entries[by_name[raw]], by_name[raw]
    rest = {name: key for name, key in rest.items() if not any(other.to_official(name) for other in others)}
    if "head.weight" not in tensors:
        for official, name in _head(rest, entries, network.prefix, path).items():
            tensors[official], origin[official] = entries[rest[name]], rest.pop(name)
    # Said before anything else: a segmentation or detection model has many unknown names, and this is the reason.
    if not any(name.startswith("head.") for name in tensors):
        raise CheckpointError(
            f"{path} is a VAN backbone ({network.key_map.name} names) without a classification head; expected a "
            f"classifier with {network.key_map.from_official('head.weight')}: give the checkpoint of a classifier"
        )
    unused, left, unknown = [by_name[raw] for raw in twins], [], []
    for name, key in rest.items():
        inside = name.removeprefix(network.prefix)
        if inside in network.key_map.unused or name == AVERAGED_MODEL_COUNTER:
            unused.append(key)
        elif _is_no_weight(inside, name, entries[key]):
            left.append(key)
        else:
            unknown.append(key)
    if unknown:
        raise no_part(unknown, path)
    said = f"{printable(path.name)}: left out, for they are no weights of the network: {first_names(left)}"
    notes = (said,) if left else ()
    return NamedState(network.key_map.name, tensors, origin, (*unused, *left), tuple(choices), notes)


def _network(names: Iterable[str], path: Path, use_ema: bool) -> tuple[Network, list[Network], list[str]]:
    """(the network to read, those to pass over, what was chosen over what)."""
    found = detect_networks(names)
    if not found:
        raise CheckpointError(
            f"{path} is not a VAN: its tensors are {first_names(names, 3)}; expected the names of the official code, "
            f"Hugging Face, mmpretrain or mmseg, with a spatial_gating_unit: give a VAN's checkpoint"
        )
    averages = [network for network in found if _EMA_PARTS & set(network.prefix.split("."))]
    if averages == found and not use_ema:
        raise CheckpointError(f"{path} holds averaged (EMA) weights only; leave --no-ema out to take them")
    if len(found) == 1:
        return found[0], [], []
    plain = [network for network in found if network not in averages]
    if len(averages) != 1 or len(plain) != 1:
        raise CheckpointError(
            f"{path} holds {len(found)} VANs, under {first_names(repr(network.prefix) for network in found)}; expected "
            f"one: save the state dict of the one you want"
        )
    taken, other = (averages[0], plain[0]) if use_ema else (plain[0], averages[0])
    said = "the EMA weights are taken; --no-ema takes the others" if use_ema else "the plain weights are taken"
    chosen = f"{printable(path.name)} holds both {plain[0].prefix or 'plain weights'} and {averages[0].prefix}: {said}"
    return taken, [other], [chosen]


def _head(rest: Mapping[str, str], entries: Mapping[Any, Any], prefix: str, path: Path) -> dict[str, str]:
    """{official name: name in ``rest``} of a head by another name, or inside a Sequential; empty where there is none.

    A ``CheckpointError`` for one of several linear layers: a VAN has one.
    """
    modules: dict[str, dict[str, str]] = {}
    for name in rest:
        module, _, leaf = name.rpartition(".")
        if module.removeprefix(prefix).split(".")[0] in _HEADS:
            modules.setdefault(module, {})[leaf] = name
    linear = [
        module
        for module, leaves in modules.items()
        if "weight" in leaves and getattr(entries[rest[leaves["weight"]]], "ndim", 0) == 2
    ]
    if len(linear) > 1:
        raise CheckpointError(
            f"{path} has a head of {len(linear)} linear layers ({first_names(linear)}); expected one, as a VAN has: "
            f"give a classifier with a single linear layer"
        )
    return {f"head.{leaf}": name for module in linear for leaf, name in modules[module].items()}


def _is_no_weight(inside: str, name: str, value: Any) -> bool:
    """Whether an entry belongs to the training: a plain value, a loss's or a metric's tensor, a profiler's counter."""
    owner, _, leaf = name.rpartition(".")
    if name in _COUNTERS or _PROFILERS.search(name) or (leaf in _COUNTERS and _EMA_PARTS & set(owner.split("."))):
        return True
    module, _, _ = inside.partition(".")
    words = set(re.findall("[a-z]+[0-9]*", re.sub("([A-Z])", r"_\1", module).lower()))
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return bool(words & _TRAINING_ONLY) or (is_plain and bool(words & _OF_THE_RUN))


def no_part(names: Iterable[str], path: Path) -> CheckpointError:
    """The error for tensors that may be the network's and that no VAN has."""
    return CheckpointError(
        f"{path} holds entries that are no part of a VAN: {first_names(names)}; expected a VAN's own and no others: "
        f"give the checkpoint of an unchanged VAN"
    )
