"""Which entry of a checkpoint file holds the network's weights: the average or the raw ones, under any known name.

In: what a file holds. Out: a state dict, the entry it was under, and what was taken over what.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from edge_van.checkpoint.stand_ins import Skipped
from edge_van.errors import CheckpointError
from edge_van.text import first_names, printable

_EMA_ENTRIES = ("state_dict_ema", "model_ema", "ema_model", "ema")
# Not ema_state_dict: where mmengine writes it, state_dict is the average and it holds the raw weights.
_ENTRIES = ("state_dict", "model", "module", "model_state_dict", "net", "weights")
_FEWEST_TENSORS = 20
"""Of a state dict under a name that is not known; the smallest VAN has over a hundred."""


def weights_entry(content: Any, path: Path, use_ema: bool) -> tuple[dict[Any, Any], str | None, list[str]]:
    """(state dict, dotted name of the entry it was under, what was chosen over what), averaged weights first.

    ``use_ema`` off looks past the averaged ones. A single state dict under another name is taken, too.
    """
    names: list[str] = []
    choices: list[str] = []
    while isinstance(content, dict) and len(names) < 4:
        raw = _raw_beside_average(content)
        order = (*_EMA_ENTRIES, *_ENTRIES) if use_ema else (*raw, *_ENTRIES)
        name = next((n for n in order if _holds_weights(content.get(n))), None)
        if name is None and not use_ema and any(_has_tensors(content.get(n)) for n in _EMA_ENTRIES):
            raise CheckpointError(f"{path} holds averaged (EMA) weights only; leave --no-ema out to take them")
        if name is None and not _has_tensors(content) and (name := _only_network(content, path)) is not None:
            choices.append(f"{printable(path.name)}: the weights are taken from its entry {printable(name)}")
        if name is None:
            return content, ".".join(names) or None, choices
        if use_ema and raw and name in _ENTRIES:
            choices.append(f"{printable(path.name)}: {name} is the average (EMA) and is taken; --no-ema takes {raw[0]}")
        left = [n for n in _EMA_ENTRIES if isinstance(content.get(n), dict) and not _holds_weights(content[n])]
        if use_ema and left:
            choices.append(f"{printable(path.name)}: {left[0]} is no state dict and is left: {name} is taken")
        names.append(name)
        if others := [n for n in order if n != name and _has_tensors(content.get(n))]:
            instead = next((n for n in others if name in _EMA_ENTRIES and n in _ENTRIES), None)
            taken = f"{name} is taken" if instead is None else f"the EMA weights are taken; --no-ema takes {instead}"
            choices.append(f"{printable(path.name)} holds both {' and '.join(others)} and {name}: {taken}")
        content = content[name]
        if name == "ema_state_dict":  # mmengine's counter of averages
            content = {key: value for key, value in content.items() if key != "steps"}
    if isinstance(content, Skipped):
        raise CheckpointError(
            f"{path} holds {printable(content.full_name)}, an object of a program and not its weights; expected a "
            f"state dict: where it came from, torch.save(model.state_dict(), 'weights.pth')"
        )
    raise CheckpointError(
        f"{path} holds a {type(content).__name__}; expected a state dict or one under {', '.join(_ENTRIES)}: "
        f"save it with torch.save(model.state_dict(), 'weights.pth')"
    )


def _raw_beside_average(content: dict[Any, Any]) -> tuple[str, ...]:
    """The entry of the raw weights where ``state_dict`` is their average: mmengine's, and Lightning's averaging."""
    if _has_tensors(content.get("current_model_state")):
        return ("current_model_state",)
    by_mmengine = "message_hub" in content or "meta" in content
    return ("ema_state_dict",) if by_mmengine and _has_tensors(content.get("ema_state_dict")) else ()


def _only_network(content: dict[Any, Any], path: Path) -> str | None:
    """The name of the only entry that looks like a network's state dict; a ``CheckpointError`` names several."""
    there = [
        name
        for name, entry in content.items()
        if isinstance(name, str)
        and isinstance(entry, dict)
        and sum(isinstance(value, Tensor) for value in entry.values()) >= _FEWEST_TENSORS
    ]
    if len(there) > 1:
        raise CheckpointError(
            f"{path} holds weights under {first_names(there)}; expected one state dict or one under "
            f"{', '.join(_ENTRIES)}: save the one you mean alone, torch.save(checkpoint[{there[0]!r}], 'weights.pth')"
        )
    return there[0] if there else None


def _holds_weights(entry: Any, deeper: int = 3) -> bool:
    """Whether ``entry`` is a state dict, or has one in one of the entries that are looked into."""
    return _has_tensors(entry) or (
        deeper > 0
        and isinstance(entry, dict)
        and any(_holds_weights(entry.get(n), deeper - 1) for n in (*_EMA_ENTRIES, *_ENTRIES))
    )


def _has_tensors(entry: Any) -> bool:
    return isinstance(entry, dict) and any(isinstance(value, Tensor) for value in entry.values())
