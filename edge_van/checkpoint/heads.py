"""What a checkpoint says of its head: what its outputs become, and so what the network is for.

In: the content of a weights file, the JSON beside it, the number of outputs. Out: a ``FoundHead``, or a
``CheckpointError`` for a network that answers no question of classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.checkpoint.class_names import entries_of
from edge_van.checkpoint.preprocessing import read_json
from edge_van.errors import CheckpointError, UsageError
from edge_van.head import Head
from edge_van.text import printable

_OF_PROBLEM = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}
"""transformers' ``problem_type``."""
_OF_TASK = {"multiclass": "softmax", "singlelabel": "softmax", "multilabel": "sigmoid", "binary": "sigmoid"}
"""torchmetrics' ``task``, which training scripts keep among their settings."""
_PLACES = ("hyper_parameters", "hparams", "args", "config", "cfg", "meta", "")
_MM_HEAD = re.compile(r"""\btype=['"](?:mmpretrain\.|mmcls\.)?(MultiLabel\w*Head|CSRAClsHead)['"]""")
_MM_THRESHOLD = re.compile(r"\bthr=(0?\.\d+)\b")
_ADVICE = "edge-van measures answers that are right or wrong. If the outputs are those of classes, say it with --head"


@dataclass(frozen=True)
class FoundHead:
    """A head, and where it was found or why it is taken, where a user should know."""

    head: Head
    note: str | None = None
    warning: str | None = None


def find_head(content: Any, path: Path, sidecar: Mapping[str, Any], layout: str, outputs: int) -> FoundHead:
    """Of a network with so many outputs: what the JSON beside it says, its config.json, its settings; else a softmax,
    or for a single output a sigmoid. A ``CheckpointError``: a regression, and what contradicts itself."""
    config_file = path.with_name("config.json")
    found: FoundHead | None
    if "head" in sidecar or "threshold" in sidecar:
        found = _said(
            sidecar.get("head", "sigmoid"), sidecar.get("threshold", Head.threshold), f"the JSON beside {path}"
        )
    elif layout.startswith("huggingface") and config_file.is_file():
        found = _hugging_face(read_json(config_file), config_file, outputs)
    else:
        found = _of_settings(content, path, outputs) or _of_mmpretrain(content, path)
    if found is None and outputs == 1:
        return FoundHead(
            Head("sigmoid"),
            warning=f"{path.name} has a single output and does not say what it is: taken for the logit of one class "
            f"against another, with a sigmoid and the threshold 0.5 (--threshold)",
        )
    found = found or FoundHead(Head())
    try:
        found.head.task(outputs)
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return found


def _said(activation: Any, threshold: Any, where: str) -> FoundHead:
    try:
        return FoundHead(Head(str(activation), threshold))
    except UsageError as error:
        raise CheckpointError(f"{where} does not fit: {error}") from error


def _hugging_face(config: Mapping[str, Any], where: Path, outputs: int) -> FoundHead | None:
    """transformers takes a head of one label that says nothing for a regression, and so trained it."""
    problem = config.get("problem_type")
    if problem is None:
        if outputs == 1:
            raise CheckpointError(
                f"{where} has one label and no problem_type, which transformers trains as a regression: {_ADVICE} "
                f"sigmoid"
            )
        return None
    if problem not in _OF_PROBLEM:
        raise CheckpointError(
            f"{where} says problem_type {printable(problem)!r}, expected {' or '.join(_OF_PROBLEM)}: {_ADVICE} "
            f"softmax|sigmoid|none"
        )
    return FoundHead(Head(_OF_PROBLEM[problem]), _note(_OF_PROBLEM[problem], f"problem_type in {where.name}"))


def _of_settings(content: Any, path: Path, outputs: int) -> FoundHead | None:
    """Two classes have two outputs, and a softmax, or one."""
    for place in _PLACES:
        held = entries_of(entries_of(content).get(place) if place else content)
        problem, task = held.get("problem_type"), held.get("task")
        where = f"{place}.".removeprefix(".")
        if isinstance(problem, str) and (problem in _OF_PROBLEM or problem == "regression"):
            said, activation, name = problem, _OF_PROBLEM.get(problem), f"{where}problem_type"
        elif isinstance(task, str) and (short := re.sub("[-_ ]", "", task.lower())) in (*_OF_TASK, "regression"):
            said, activation, name = task, _OF_TASK.get(short), f"{where}task"
            if short == "binary" and outputs > 1:
                activation = "softmax"
        else:
            continue
        if activation is None:
            raise CheckpointError(f"{path} says {name} {printable(said)!r}: {_ADVICE} softmax|sigmoid|none")
        return FoundHead(Head(activation), _note(activation, f"{name} of {printable(path.name)}"))
    return None


def _of_mmpretrain(content: Any, path: Path) -> FoundHead | None:
    """Its config is kept as the text of a Python file, which is read and never run."""
    config = entries_of(entries_of(content).get("meta")).get("cfg", entries_of(content).get("cfg"))
    if not isinstance(config, str) or not (head := _MM_HEAD.search(config)):
        return None
    if head[1] == "CSRAClsHead":
        raise CheckpointError(
            f"{path} was trained with mmpretrain's CSRAClsHead, which is no linear head: not supported"
        )
    given = _MM_THRESHOLD.search(config)
    threshold = float(given[1]) if given else Head.threshold
    where = f"{head[1]} in meta.cfg of {printable(path.name)}"
    return FoundHead(Head("sigmoid", threshold), _note("sigmoid", where))


def _note(activation: str, where: str) -> str | None:
    """Nothing of what everyone expects."""
    return None if activation == "softmax" else f"a head of {activation}, from {where}"
