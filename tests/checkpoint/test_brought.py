"""Checkpoints as training frameworks and people's own scripts write them: the same weights, whatever is around them.

Each file is made by torch.save or safetensors with the objects that those frameworks pickle; the right values are the
state dict that went in.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_samples import SMALL, State, assert_same, refused, renamed, saved, small_van
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edge_van.checkpoint.load import load_checkpoint
from edge_van.errors import CheckpointError
from edge_van.model.van import VAN

NAMES = ("wren", "kite", "heron", "ibis", "crane")


@pytest.fixture
def state() -> State:
    return dict(small_van().state_dict())


def without_head(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}


def with_prefix(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


class HistoryBuffer:
    """As mmengine's: arrays and a method table, pickled by its class's name."""

    def __init__(self) -> None:
        self._log_history = np.arange(5.0)
        self._count_history = np.ones(5, np.int64)


class ConfigDict(dict[str, Any]):
    """A dict of a class of its own, as configuration libraries have."""


def framework_objects() -> dict[str, Any]:
    """What mmengine, Lightning and people's own loops put beside the weights."""
    return {
        "meta": {"epoch": np.int64(3), "best": np.float32(0.5), "time": "now"},
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}, "runtime_info": collections.OrderedDict()},
        "args": argparse.Namespace(output=pathlib.PosixPath("/runs/1"), betas=(0.9, 0.95)),
        "config": ConfigDict(model=ConfigDict(type="VAN"), lr=1e-3),
        "losses": collections.defaultdict(list, train=[1.0, 0.5]),
        "window": collections.deque([1, 2, 3], maxlen=3),
        "rng": np.random.default_rng(0).bit_generator.state,
        "best": np.arange(3),
        "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PurePosixPath("a")}},
        "seen": {1, 2},
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_of_frameworks_are_passed_over(tmp_path: Path, state: State, legacy: bool) -> None:
    content = {"state_dict": state, **framework_objects()}
    path = saved(tmp_path / "v.pth", content, _use_new_zipfile_serialization=not legacy)
    assert_same(load_checkpoint(path), state)


def test_nothing_of_an_object_is_built(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": state, "hub": HistoryBuffer(), "d": ConfigDict(a=1)})
    calls: list[str] = []
    monkeypatch.setattr(HistoryBuffer, "__setstate__", lambda *_: calls.append("set"), raising=False)
    monkeypatch.setattr(HistoryBuffer, "__new__", lambda *_: calls.append("new"))
    monkeypatch.setattr(ConfigDict, "__setitem__", lambda *_: calls.append("item"))
    load_checkpoint(path)
    assert calls == []
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("prefix", ["net.", "model.net.", "student.", "backbone.", "_forward_module.", "encoder.van."])
@pytest.mark.parametrize("layout", ["official", "huggingface", "mmpretrain"])
def test_any_prefix_comes_off(tmp_path: Path, state: State, prefix: str, layout: str) -> None:
    assert_same(load_checkpoint(saved(tmp_path / "v.pth", renamed(state, layout, prefix))), state)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.from_regex("[a-z_][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=4))
def test_any_name_of_python_may_be_a_prefix(tmp_path: Path, state: State, parts: list[str]) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": with_prefix(state, "".join(f"{part}." for part in parts))})
    assert_same(load_checkpoint(path), state)


@pytest.mark.parametrize(
    "head",
    ["head.1", "fc", "classifier", "classifier.1", "head.fc", "head.head", "cls_head.fc", "head.layers.2", "linear"],
)
@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize("inside", [True, False])
def test_a_head_by_another_name(tmp_path: Path, state: State, head: str, prefix: str, inside: bool) -> None:
    before = prefix if inside else ""
    content = with_prefix(without_head(state), prefix)
    content |= {f"{before}{head}.weight": state["head.weight"], f"{before}{head}.bias": state["head.bias"]}
    assert_same(load_checkpoint(saved(tmp_path / "v.pth", {"state_dict": content})), state)


def test_a_head_of_two_layers_is_named(tmp_path: Path, state: State) -> None:
    content = without_head(state)
    content |= {"head.0.weight": torch.ones(64, 32), "head.0.bias": torch.ones(64)}
    content |= {"head.2.weight": torch.ones(5, 64), "head.2.bias": torch.ones(5)}
    message = refused(saved(tmp_path / "v.pth", content))
    assert "has a head of 2 linear layers (head.0, head.2)" in message


EXTRAS: dict[str, Any] = {
    "criterion.weight": torch.ones(5),
    "loss_fn.pos_weight": torch.ones(5),
    "ce_loss.weight": torch.ones(5),
    "train_acc.tp": torch.zeros(5, dtype=torch.int64),
    "val_accuracy.total": torch.tensor(3),
    "metrics.f1.fp": torch.zeros(5),
    "MulticlassAccuracy.tp": torch.zeros(5),
    "total_ops": torch.zeros(1, dtype=torch.float64),
    "block1.0.total_params": torch.zeros(1, dtype=torch.float64),
    "block1.0.attn.proj_1.__flops__": 12,
    "epoch": 3,
    "best_acc": 0.5,
    "n_averaged": torch.tensor(5),
}


@pytest.mark.parametrize("prefix", ["", "net."])
def test_what_is_no_weight_is_left_out_and_named(tmp_path: Path, state: State, prefix: str) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": {**with_prefix(state, prefix), **EXTRAS}})
    loaded = load_checkpoint(path)
    assert_same(loaded, state)
    assert set(loaded.unused_keys) == set(EXTRAS)
    [note] = loaded.notes
    assert "no weights of the network: criterion.weight" in note


@pytest.mark.parametrize(
    "name",
    [
        "block1.0.se.fc.weight",
        "neck.weight",
        "normalize.mean",
        "mean",
        "head_dist.weight",
        "block5.0.norm1.weight",
        "patch_embed1.proj.scale",
        "aux.weight",
        "block1.0.loss_scale.weight",
        "ema_of_something",
        "normalizer",
        "temperature",
    ],
)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_what_may_be_a_weight_is_an_error_that_names_it(tmp_path: Path, state: State, name: str, prefix: str) -> None:
    for value in (torch.ones(3), np.ones(3), 2.0):
        path = saved(tmp_path / "v.pth", with_prefix({**state, name: value}, prefix))
        assert f"no part of a VAN: {prefix}{name}" in refused(path)
    path = saved(tmp_path / "v.pth", with_prefix({**state, name: torch.ones(3)}, prefix))
    assert f"no part of a VAN: {prefix}{name}" in refused(path)


def test_a_weight_that_is_missing_behind_a_prefix_is_named(tmp_path: Path, state: State) -> None:
    content = with_prefix({k: v for k, v in state.items() if k != "block2.0.mlp.fc1.bias"}, "net.")
    assert "block2.0.mlp.fc1.bias" in refused(saved(tmp_path / "v.pth", content))


def averaged(state: State) -> State:
    return {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("entry", ["state_dict_ema", "model_ema", "ema_model", "ema"])
def test_averaged_weights_under_an_entry(tmp_path: Path, state: State, entry: str) -> None:
    path = saved(tmp_path / "v.pth", {"model": state, entry: averaged(state)})
    assert_same(load_checkpoint(path), averaged(state))
    assert_same(load_checkpoint(path, use_ema=False), state)
    assert any("--no-ema takes model" in warning for warning in load_checkpoint(path).warnings)


def test_an_entry_that_is_no_state_dict_is_not_taken_for_one(tmp_path: Path, state: State) -> None:
    """torch_ema keeps bare lists, and a config may be called as weights are."""
    shadow = {"decay": 0.99, "num_updates": 3, "shadow_params": [torch.ones(2)], "collected_params": None}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"state_dict": state, "ema": shadow}))
    assert_same(loaded, state)
    assert any("ema is no state dict and is left: state_dict is taken" in warning for warning in loaded.warnings)
    for bare in (torch.ones(3), np.ones(3), [1.0, 2.0], 0.99):
        assert_same(load_checkpoint(saved(tmp_path / "x.pth", {"state_dict": state, "ema": bare})), state)
    content = {"model": {"type": "van"}, "weights": {"url": "x"}, "model_state_dict": state}
    assert_same(load_checkpoint(saved(tmp_path / "w.pth", content)), state)


def test_averaged_weights_alone_are_not_plain_ones(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "v.pth", with_prefix(state, "ema."))
    assert_same(load_checkpoint(path), state)
    assert "averaged (EMA) weights only" in refused(path, use_ema=False)


def test_an_averaged_model_inside_a_module(tmp_path: Path, state: State) -> None:
    """Lightning with torch's AveragedModel beside the network."""
    both = with_prefix(state, "model.") | with_prefix(averaged(state), "ema_model.module.")
    path = saved(tmp_path / "v.pth", {"state_dict": {**both, "ema_model.n_averaged": torch.tensor(3)}})
    assert_same(load_checkpoint(path), averaged(state))
    assert_same(load_checkpoint(path, use_ema=False), state)
    schema = with_prefix(state, "schema.") | with_prefix(averaged(state), "model2.")
    assert "holds 2 VANs" in refused(saved(tmp_path / "w.pth", schema))


@pytest.mark.parametrize("average", ["ema_model.", "ema.", "model_ema."])
def test_averaged_weights_in_one_state_dict(tmp_path: Path, state: State, average: str) -> None:
    """As ema_pytorch writes them: the network and its average as two modules of one."""
    both = with_prefix(state, "online_model.") | with_prefix(averaged(state), average)
    path = saved(tmp_path / "v.pth", {**both, "initted": torch.tensor(True), "step": torch.tensor(9)})
    loaded = load_checkpoint(path)
    assert_same(loaded, averaged(state))
    assert any("--no-ema takes the others" in warning for warning in loaded.warnings)
    assert_same(load_checkpoint(path, use_ema=False), state)


def test_mmcvs_average(tmp_path: Path, state: State) -> None:
    """mmcv's EMAHook keeps the raw weights in buffers, and the average under the names, once it has saved."""
    theirs = renamed(averaged(state), "mmpretrain")
    raw = {f"ema_{name.replace('.', '_')}": tensor for name, tensor in renamed(state, "mmpretrain").items()}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"state_dict": {**theirs, **raw}}))
    assert_same(loaded, averaged(state))
    assert set(loaded.unused_keys) == set(raw)
    assert any("--no-ema takes the raw weights" in warning for warning in loaded.warnings)
    assert_same(load_checkpoint(tmp_path / "v.pth", use_ema=False), state)


def test_two_networks_are_not_chosen_between(tmp_path: Path, state: State) -> None:
    content = with_prefix(state, "student.") | with_prefix(averaged(state), "teacher.")
    message = refused(saved(tmp_path / "v.pth", content))
    assert "holds 2 VANs, under 'student.', 'teacher.'" in message


PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "meta.dataset_meta.classes": lambda names: {"meta": {"dataset_meta": {"classes": names}}},
    "meta.CLASSES": lambda names: {"meta": {"CLASSES": names}},
    "classes": lambda names: {"classes": names},
    "class_names": lambda names: {"class_names": names},
    "names": lambda names: {"names": names},
    "hyper_parameters.class_names": lambda names: {"hyper_parameters": {"class_names": names}},
    "args.classes": lambda names: {"args": argparse.Namespace(classes=names)},
}


@pytest.mark.parametrize("place", PLACES)
def test_class_names_are_read_wherever_frameworks_put_them(tmp_path: Path, state: State, place: str) -> None:
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"state_dict": state, **PLACES[place](list(NAMES))}))
    assert loaded.spec.classes == NAMES
    assert any(f"class names taken from {place} of v.pth: wren, kite, heron" in note for note in loaded.notes)


@pytest.mark.parametrize(
    "value",
    [
        NAMES,
        dict(enumerate(NAMES)),
        {str(i): name for i, name in enumerate(NAMES)},
        {name: i for i, name in reversed(list(enumerate(NAMES)))},
    ],
    ids=["tuple", "numbers", "text numbers", "to numbers"],
)
def test_class_names_in_any_form_keep_the_logits_order(tmp_path: Path, state: State, value: Any) -> None:
    content = {"state_dict": state, "class_to_idx": value}
    assert load_checkpoint(saved(tmp_path / "v.pth", content)).spec.classes == NAMES


@pytest.mark.parametrize("value", [5, "wren", ["a", 2, "c"], {0: "a", 2: "b"}, {"a": 0, "b": 0}, [], {"9" * 5000: "a"}])
def test_what_is_no_list_of_names_is_passed_over(tmp_path: Path, state: State, value: Any) -> None:
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"state_dict": state, "classes": value}))
    assert loaded.spec.classes is None


def test_another_number_of_names_is_not_taken_and_said(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": state, "meta": {"CLASSES": ["a", "b"]}})
    loaded = load_checkpoint(path)
    assert loaded.spec.classes is None
    assert any("names 2 classes (meta.CLASSES), but its head has 5 outputs: not" in note for note in loaded.notes)
    assert load_checkpoint(path, by_hand=("classes",)).notes == ()
    twice = load_checkpoint(saved(tmp_path / "x.pth", {"state_dict": state, "classes": ["a", "a", "a (0)", "b", "c"]}))
    assert twice.spec.classes == ("a (0)", "a (1)", "a (0) (2)", "b (3)", "c (4)")
    content = {"state_dict": state, "meta": {"CLASSES": ["a", "b"]}, "classes": NAMES}
    assert load_checkpoint(saved(tmp_path / "w.pth", content)).spec.classes == NAMES


def test_the_json_beside_the_weights_stands_over_what_they_hold(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "v.pth", {"state_dict": state, "classes": list(NAMES)})
    (tmp_path / "v.json").write_text(json.dumps({"classes": list("abcde")}))
    assert load_checkpoint(path).spec.classes == tuple("abcde")


def sharded(folder: Path, state: State, *, parts: int = 3, binary: bool = False) -> Path:
    names = sorted(state)
    weight_map: dict[str, str] = {}
    for i in range(parts):
        file = (
            f"pytorch_model-{i + 1:05}-of-{parts:05}.bin" if binary else f"model-{i + 1:05}-of-{parts:05}.safetensors"
        )
        part = {name: state[name].clone() for name in names[i::parts]}
        torch.save(part, folder / file) if binary else save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / ("pytorch_model.bin.index.json" if binary else "model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("binary", [False, True])
def test_a_sharded_folder_and_its_index(tmp_path: Path, state: State, binary: bool) -> None:
    theirs = renamed(state, "huggingface")
    index = sharded(tmp_path, theirs, binary=binary)
    assert_same(load_checkpoint(tmp_path), state)
    assert load_checkpoint(index).sha256 == load_checkpoint(tmp_path).sha256


def test_shards_that_do_not_fit(tmp_path: Path, state: State) -> None:
    index = sharded(tmp_path, state)
    listed = json.loads(index.read_text())
    first = tmp_path / "model-00001-of-00003.safetensors"

    def said(weight_map: Any) -> str:
        index.write_text(json.dumps({"weight_map": weight_map}))
        return refused(tmp_path)

    assert "points out of its folder" in said({**listed["weight_map"], "x": "../v.safetensors"})
    assert "points out of its folder" in said({"x": "/etc/passwd"})
    assert "has no weight_map" in said([])
    assert "has no weight_map" in said({})
    assert "lists shards that are not beside it: gone.safetensors" in said(
        {**listed["weight_map"], "x": "gone.safetensors"}
    )
    assert "do not agree on what is in it: x" in said({**listed["weight_map"], "x": first.name})
    index.write_text(json.dumps(listed))
    assert_same(load_checkpoint(tmp_path), state)
    index.unlink()
    assert "parts of a sharded checkpoint" in refused(tmp_path)


def test_a_whole_model_that_was_saved_is_called_so(tmp_path: Path) -> None:
    message = refused(saved(tmp_path / "v.pth", VAN(SMALL, 5)), CheckpointError)
    assert "holds edge_van.model.van.VAN, an object of a program and not its weights" in message


@pytest.mark.parametrize("entry", ["ema_state_dict", "current_model_state"])
def test_the_average_is_left_where_it_stands_under_state_dict(tmp_path: Path, state: State, entry: str) -> None:
    """mmengine and Lightning's averaging keep the raw weights beside it."""
    raw = {name: tensor * 0.5 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    content = {"state_dict": state, entry: {"steps": torch.tensor(3), **with_prefix(raw, "module.")}, "meta": {}}
    if entry == "current_model_state":
        content[entry] = raw
    path = saved(tmp_path / "v.pth", content)
    average, plain = load_checkpoint(path), load_checkpoint(path, use_ema=False)
    assert_same(average, state)
    assert_same(plain, raw)
    assert any("is the average (EMA) and is taken; --no-ema takes" in warning for warning in average.warnings)


@pytest.mark.parametrize("name", ["model_state", "params", "network", "student"])
def test_one_state_dict_under_any_name_is_taken(tmp_path: Path, state: State, name: str) -> None:
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {name: state, "epoch": 3, "optimizer": {"lr": torch.ones(2)}}))
    assert_same(loaded, state)
    assert any(name in warning for warning in loaded.warnings)
    both = saved(tmp_path / "w.pth", {"student": state, "teacher": state})
    assert "holds weights under student, teacher" in refused(both)


def test_a_head_without_bias_is_called_so(tmp_path: Path, state: State) -> None:
    without = {name: tensor for name, tensor in state.items() if name != "head.bias"}
    assert "bias=False" in refused(saved(tmp_path / "v.pth", without))


def test_numpys_archives_are_called_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=np.zeros(3))
    assert "archive of NumPy arrays" in refused(tmp_path / "v.npz")


def test_a_shard_whose_name_no_file_can_have_is_missing(tmp_path: Path) -> None:
    index = {"weight_map": {"head.weight": f"{'a' * 300}.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lists shards that are not beside it" in refused(tmp_path)
