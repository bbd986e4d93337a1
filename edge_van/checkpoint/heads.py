"""What a checkpoint says of its head: what its outputs become, and so what the network is for.

In: the content of a weights file, the JSON beside it, the number of outputs. Out: a ``FoundHead``, or a
``CheckpointError`` for a network that answers no question of classes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
_DEEPER = ("", "config", "cfg", "model", "hparams", "task")
_SIGMOIDS = ("MultiLabelLinearClsHead", "MultiLabelClsHead")
"""mmpretrain's heads of several labels whose weights are a linear layer's."""
_LONGEST_CONFIG = 4 * 2**20
_ADVICE = "edge-van measures answers that are right or wrong. If the outputs are those of classes, say it with --head"


@dataclass(frozen=True)
class FoundHead:
    """A head, and where it was found or why it is taken, where a user should know."""

    head: Head
    note: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class About:
    """A checkpoint: what its file at ``path`` holds, the JSON beside it, whose names its tensors have."""

    content: Any
    path: Path
    sidecar: Mapping[str, Any]
    layout: str


def head_in_any_case(about: About, outputs: int) -> FoundHead:
    """As ``find_head``, where the caller knows better: nothing is refused, and there is nothing to say."""
    try:
        return FoundHead(find_head(about, outputs).head)
    except CheckpointError:
        return FoundHead(Head())


def find_head(about: About, outputs: int) -> FoundHead:
    """Of a network with so many outputs: what the JSON beside it says, its config.json, its settings; else a softmax,
    or for a single output a sigmoid. A ``CheckpointError``: a regression, and what contradicts itself."""
    content, path, sidecar = about.content, about.path, about.sidecar
    config_file = path.with_name("config.json")
    found: FoundHead | None
    if sidecar.get("head") is not None:
        found = _said(sidecar["head"], None, f"the JSON beside {path}")
    elif about.layout.startswith("huggingface") and config_file.is_file():
        found = _hugging_face(read_json(config_file), config_file, outputs)
    else:
        found = _of_settings(content, path, outputs) or _of_mmpretrain(content, path)
    if found is None and outputs == 1:
        found = FoundHead(
            Head("sigmoid"),
            warning=f"{path.name} has a single output and does not say what it is: taken for the logit of one class "
            f"against another, with a sigmoid (--head) and a threshold (--threshold)",
        )
    found = found or FoundHead(Head())
    if sidecar.get("threshold") is not None:
        where = f"the JSON beside {path}"
        found = replace(found, head=_said(found.head.activation, sidecar["threshold"], where).head)
    try:
        found.head.task(outputs)
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return found


def _said(activation: Any, threshold: Any, where: str) -> FoundHead:
    try:
        head = Head(str(activation)).with_threshold(threshold)
        return FoundHead(head, _note(head.activation, where))
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
        for deeper in _DEEPER:
            held = entries_of(entries_of(content).get(place) if place else content)
            held = entries_of(held.get(deeper)) if deeper else held
            where = ".".join(part for part in (place, deeper) if part)
            if (said := _setting(held, outputs)) is None:
                continue
            name, value, activation = said
            if activation is None:
                raise CheckpointError(
                    f"{path} says {where}.{name} {printable(value)!r}: {_ADVICE} softmax|sigmoid|none"
                )
            return FoundHead(Head(activation), _note(activation, f"{where}.{name} of {printable(path.name)}"))
    return None


def _setting(held: Mapping[Any, Any], outputs: int) -> tuple[str, str, str | None] | None:
    """(what it is called, what it says, the activation or None for a regression), where ``held`` says either."""
    problem, task = held.get("problem_type"), held.get("task")
    if isinstance(problem, str) and (problem in _OF_PROBLEM or problem == "regression"):
        return "problem_type", problem, _OF_PROBLEM.get(problem)
    short = re.sub("[-_ ]|classification$", "", task.lower()) if isinstance(task, str) else ""
    if short == "binary" and outputs > 1:
        return "task", str(task), "softmax"
    return ("task", str(task), _OF_TASK.get(short)) if short in (*_OF_TASK, "regression") else None


def _of_mmpretrain(content: Any, path: Path) -> FoundHead | None:
    """Its config is a dictionary, or kept as the text of a Python file, which is parsed and never run."""
    meta = entries_of(entries_of(content).get("meta"))
    texts = (meta.get("cfg"), meta.get("config"), entries_of(content).get("cfg"))
    head = next((head for text in texts if (head := _head_in(text)) is not None), {})
    kind = str(head.get("type", "")).rpartition(".")[2]
    if kind == "CSRAClsHead":
        raise CheckpointError(
            f"{path} was trained with mmpretrain's CSRAClsHead, which is no linear head: not supported"
        )
    if kind not in _SIGMOIDS:
        return None
    threshold, top_k = head.get("thr"), head.get("topk")
    where = f"{kind} in the config of {printable(path.name)}"
    if threshold is None and top_k is not None:
        warning = f"{where} takes the {top_k} highest labels, edge-van those from a threshold on: give --threshold"
        return FoundHead(Head("sigmoid"), _note("sigmoid", where), warning)
    try:
        return FoundHead(Head("sigmoid").with_threshold(threshold), _note("sigmoid", where))
    except UsageError as error:
        raise CheckpointError(f"{where}: {error}; give --head sigmoid --threshold") from error


def _head_in(config: Any) -> Mapping[str, Any] | None:
    """The ``head`` of the ``model`` in an mmpretrain config; None where there is none that can be read."""
    if isinstance(config, Mapping):
        return entries_of(entries_of(config.get("model")).get("head")) or None
    if not isinstance(config, str) or len(config) > _LONGEST_CONFIG:
        return None
    try:
        body = ast.parse(config).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    models = [
        node.value
        for node in body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "model" for t in node.targets)
    ]
    head = _entry(models[-1], "head") if models else None
    return None if head is None else {key: _value(_entry(head, key)) for key in ("type", "thr", "topk")}


def _entry(node: ast.expr, key: str) -> ast.expr | None:
    """What ``dict(key=...)`` or ``{"key": ...}`` has there."""
    if isinstance(node, ast.Call):
        return next((keyword.value for keyword in node.keywords if keyword.arg == key), None)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return next((value for k, value in pairs if isinstance(k, ast.Constant) and k.value == key), None)
    return None


def _value(node: ast.expr | None) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _note(activation: str, where: str) -> str | None:
    """Nothing of what everyone expects."""
    return None if activation == "softmax" else f"a head of {activation}, from {where}"
