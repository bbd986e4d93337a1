"""What a head is, wherever people's frameworks say it, and that nothing else is taken for one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import lively, refused, renamed, saved
from cli_samples import NARROW
from safetensors.torch import save_file

from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.head import Head
from edge_van.model.van import VAN

SIGMOID = Head("sigmoid")
MM = "model = dict(type='ImageClassifier', head=dict({}))\nval_evaluator = dict(type='MultiLabelMetric', thr=0.8)\n"
"""A config as mmpretrain keeps it: another ``thr`` is in it, and not the head's."""


def state(outputs: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(lively(VAN(NARROW, outputs)).state_dict())


def hugging_face(folder: Path, outputs: int, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(renamed(state(outputs), "huggingface"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "van", **config}))
    return folder


def said(loaded: LoadedCheckpoint, word: str) -> bool:
    return any(word in line for line in (*loaded.notes, *loaded.warnings))


@pytest.mark.parametrize(
    ("outputs", "problem", "head"),
    [
        (4, None, Head()),
        (4, "single_label_classification", Head()),
        (4, "multi_label_classification", SIGMOID),
        (1, "multi_label_classification", SIGMOID),
    ],
)
def test_transformers_problem_type(tmp_path: Path, outputs: int, problem: str | None, head: Head) -> None:
    loaded = load_checkpoint(hugging_face(tmp_path / "hf", outputs, problem_type=problem))
    assert loaded.head == head
    assert said(loaded, "problem_type in config.json") == (head == SIGMOID)


@pytest.mark.parametrize(
    ("outputs", "problem", "word"),
    [
        (4, "regression", "says problem_type 'regression'"),
        (4, "segmentation", "says problem_type 'segmentation'"),
        (1, None, "one label and no problem_type"),
        (1, "single_label_classification", "regression is not supported"),
    ],
)
def test_what_answers_no_question_of_classes_is_refused(
    tmp_path: Path, outputs: int, problem: str | None, word: str
) -> None:
    folder = hugging_face(tmp_path / "hf", outputs, problem_type=problem)
    assert word in refused(folder)
    assert "--head" in refused(folder)
    assert load_checkpoint(folder, by_hand=("head",)).head == Head()  # for the caller to put in place


@pytest.mark.parametrize(
    ("content", "head", "where"),
    [
        ({"hyper_parameters": {"task": "multilabel", "lr": 1}}, SIGMOID, "hyper_parameters.task"),
        ({"hyper_parameters": {"task": "multi-label"}}, SIGMOID, "hyper_parameters.task"),
        ({"hparams": {"problem_type": "multi_label_classification"}}, SIGMOID, "hparams.problem_type"),
        ({"args": argparse.Namespace(task="MultiLabel")}, SIGMOID, "args.task"),
        ({"hyper_parameters": {"task": "multiclass"}}, Head(), ""),
        ({"hyper_parameters": {"task": "binary"}}, Head(), ""),  # two classes and two outputs
        ({"hyper_parameters": {"task": "detect cats"}}, Head(), ""),
        ({"args": {"task": 3, "problem_type": ["x"]}}, Head(), ""),
        (
            {"hyper_parameters": {"config": {"problem_type": "multi_label_classification"}}},
            SIGMOID,
            "hyper_parameters.c",
        ),
        ({"args": {"task": "multilabel_classification"}}, SIGMOID, "args.task"),
        ({"meta": {"cfg": "model = dict(head=dict(type='LinearClsHead'))"}}, Head(), ""),
        ({"meta": {"cfg": MM.format("type='MultiLabelLinearClsHead', thr=0.3")}}, Head("sigmoid", 0.3), "MultiLabelL"),
        ({"meta": {"config": MM.format("type='mmcls.MultiLabelClsHead'")}}, SIGMOID, "MultiLabelClsHead"),
        ({"meta": {"cfg": 'model = {"head": {"type": "MultiLabelClsHead"}}'}}, SIGMOID, "MultiLabelClsHead"),
        (
            {"meta": {"cfg": {"model": {"head": {"type": "MultiLabelClsHead", "thr": 0.2}}}}},
            Head("sigmoid", 0.2),
            "Mult",
        ),
        ({"meta": {"cfg": "# head=dict(type='MultiLabelClsHead')\n" + MM.format("type='LinearClsHead'")}}, Head(), ""),
        ({"meta": {"cfg": "model = dict("}}, Head(), ""),
        ({"meta": {"cfg": "(" * 10_000}}, Head(), ""),
        ({"meta": {"cfg": b"MultiLabelClsHead"}}, Head(), ""),
    ],
)
def test_settings_beside_the_weights(tmp_path: Path, content: dict[str, Any], head: Head, where: str) -> None:
    loaded = load_checkpoint(saved(tmp_path / "v.ckpt", {"state_dict": state(4), **content}))
    assert loaded.head == head
    assert said(loaded, f"a head of {head.activation}, from {where}") == bool(where)


def test_two_classes_of_one_output(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(tmp_path / "v.pth", state(1)))
    assert loaded.head == SIGMOID
    assert said(loaded, "has a single output and does not say what it is")
    binary = {"state_dict": state(1), "hyper_parameters": {"task": "binary", "class_names": ["ok", "defect"]}}
    loaded = load_checkpoint(saved(tmp_path / "w.pth", binary))
    assert (loaded.head, loaded.spec.classes) == (SIGMOID, ("ok", "defect"))
    assert not said(loaded, "does not say what it is")


@pytest.mark.parametrize(
    "content",
    [
        {"hyper_parameters": {"task": "regression"}},
        {"args": {"problem_type": "regression"}},
        {"meta": {"cfg": MM.format("type='CSRAClsHead', num_heads=1")}},
        {"meta": {"cfg": MM.format("type='MultiLabelClsHead', thr=2")}},
    ],
)
def test_settings_of_what_is_not_supported_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    refused(saved(tmp_path / "v.ckpt", {"state_dict": state(4), **content}))


def test_the_json_beside_the_file_comes_first(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": state(4), "args": {"task": "regression"}})
    (tmp_path / "v.json").write_text(json.dumps({"head": "sigmoid", "threshold": 0.25}))
    assert load_checkpoint(path).head == Head("sigmoid", 0.25)
    assert load_checkpoint(path, by_hand=("head",)).head == Head("sigmoid", 0.25)
    (tmp_path / "v.json").write_text(json.dumps({"head": "none"}))
    assert load_checkpoint(path).head == Head("none")
    sigmoid = {"head": "sigmoid"}
    for wrong in ({"head": "tanh"}, {**sigmoid, "threshold": 2}, {**sigmoid, "threshold": "high"}):
        (tmp_path / "v.json").write_text(json.dumps(wrong))
        assert "does not fit" in refused(path)


def test_a_threshold_alone_is_none_of_a_softmax(tmp_path: Path) -> None:
    path = saved(tmp_path / "v.pth", state(4))
    (tmp_path / "v.json").write_text(json.dumps({"threshold": 0.5}))
    assert "a head of softmax has none" in refused(path)
    (tmp_path / "v.json").write_text(json.dumps({"head": None, "threshold": None}))
    assert load_checkpoint(path).head == Head()
    one = saved(tmp_path / "w.pth", state(1))
    (tmp_path / "w.json").write_text(json.dumps({"threshold": 0.2}))
    assert load_checkpoint(one).head == Head("sigmoid", 0.2)


def test_labels_by_their_rank_are_said(tmp_path: Path) -> None:
    content = {"state_dict": state(4), "meta": {"cfg": MM.format("type='MultiLabelClsHead', topk=3")}}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", content))
    assert loaded.head == SIGMOID
    assert said(loaded, "takes the 3 highest labels")
