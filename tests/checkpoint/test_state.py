"""State dicts that are not a whole VAN are refused, and the message names the tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import State, refused, renamed, saved, small_van
from torch import Tensor


@pytest.fixture
def state() -> State:
    return dict(small_van().state_dict())


def without(*names: str) -> Callable[[State], None]:
    return lambda state: [state.pop(name) for name in names] and None


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[State], None]:
    return lambda state: state.update({name: change(state[name])})


def with_value(name: str, value: float) -> Callable[[State], None]:
    return changed(name, lambda tensor: tensor.flatten().index_fill(0, torch.tensor([1]), value).reshape(tensor.shape))


HEAD, VAR, FC1 = "head.weight", "block2.1.norm2.running_var", "block3.0.mlp.fc1.weight"


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (
            without("norm2.weight", "norm2.bias"),
            "lacks 2 of a VAN's tensors (official names): norm2.weight, norm2.bias",
        ),
        (without("head.weight", "head.bias"), "without a classification head"),
        (without("head.bias"), "lacks 1 of"),
        (without("patch_embed3.proj.weight"), "patch_embed3.proj.weight"),
        (without("block2.0.layer_scale_1"), "block2.0.layer_scale_1"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("block2.0.")], "stage 2 has blocks numbered 1"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("block4.")], "block4.0.mlp.fc1.weight"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("block1.0.norm")], "(8 in all)"),
        (lambda s: s.update({f"extra{i}": torch.zeros(1) for i in range(9)}), "extra4, ... (9 in all)"),
        (lambda s: s.update({"block1.0.attn.proj_1.running_var": torch.zeros(8)}), "block1.0.attn.proj_1.running_var"),
        (lambda s: s.update({"block1.7.layer_scale_1": torch.zeros(8)}), "without a gap"),
        (lambda s: s.update({"module.head.bias": torch.zeros(5)}), "name one tensor"),
        (lambda s: s.update({"bad\nname\x1b[31m" + "x" * 999: torch.zeros(1)}), "bad?name?[31m"),
        (changed("norm1.weight", lambda t: t[:-1]), "norm1.weight has shape (7,), expected (8,)"),
        (changed("block1.0.attn.proj_1.weight", lambda t: t[..., 0, 0]), "has shape (8, 8), expected (8, 8, 1, 1)"),
        (changed(FC1, lambda t: t[:-1]), "expected a whole multiple"),
        (changed(FC1, lambda t: t[:0]), "none of them 0"),
        (changed(HEAD, lambda t: t[:0]), "none of them 0"),
        (changed(HEAD, lambda t: t[..., None, None]), "expected 2 dimensions"),
        (changed("block1.0.attn.spatial_gating_unit.conv0.weight", lambda t: t[..., 1:, 1:]), "conv0 has side 4"),
        (changed("patch_embed1.proj.weight", lambda t: t[:, :2]), "images of 2 channels"),
        (with_value(HEAD, float("nan")), "head.weight holds values that are NaN"),
        (
            with_value("block1.0.layer_scale_1", float("-inf")),
            "block1.0.layer_scale_1 holds values that are NaN or infinite",
        ),
        (changed(HEAD, lambda t: t.double() + 1e300), "head.weight holds values that are NaN or infinite"),
        (with_value(VAR, -0.5), f"{VAR} holds a negative variance"),
        (changed(HEAD, lambda t: t.to(torch.complex64)), "head.weight is complex64"),
        (changed(HEAD, lambda t: t.to(torch.int8)), "head.weight is int8; expected float32"),
        (changed(HEAD, lambda t: t.bool()), "head.weight is bool"),
        (changed(HEAD, lambda t: t.to_sparse()), "not a plain dense tensor"),
        (changed(HEAD, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)), "not a plain dense tensor"),
        (changed(HEAD, lambda t: t.to("meta")), "not a plain dense tensor"),
        (changed(HEAD, lambda _: torch.zeros(1).expand(2**40)), "claims 1099511"),
        (changed(HEAD, lambda t: t.tolist()), "is of type list"),
        (changed("norm4.bias", lambda _: 3), "entry norm4.bias of the state dict is of type int"),
        (lambda s: s.update({7: torch.zeros(1)}), "entry 7"),
    ],
)
def test_a_state_dict_that_is_no_whole_van(tmp_path: Path, state: State, break_it: Callable[[State], Any], said: str):
    break_it(state)
    assert said in refused(saved(tmp_path / "v.pth", state))


@pytest.mark.parametrize(("layout", "head"), [("mmseg", "head.fc.weight"), ("huggingface-base", "classifier.weight")])
def test_a_backbone_is_told_apart(tmp_path: Path, state: State, layout: str, head: str):
    theirs = renamed({k: v for k, v in state.items() if not k.startswith("head")}, layout)
    theirs["decode_head.conv_seg.weight"] = torch.zeros(3)
    message = refused(saved(tmp_path / "v.pth", {"meta": {}, "state_dict": theirs}))
    assert "without a classification head" in message
    assert head in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)},
            "is not a VAN: its tensors are conv1.weight, fc.bias",
        ),
        ({"epoch": 3, "parts": {"a": torch.zeros(2)}}, "holds no PyTorch tensors where a state dict should be"),
        ({}, "holds no PyTorch tensors"),
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ("hello", "holds a str"),
        ({"model": {"model": {"model": {"model": {"model": {}}}}}}, "holds no PyTorch tensors where a state dict"),
    ],
)
def test_other_contents(tmp_path: Path, content: Any, said: str):
    assert said in refused(saved(tmp_path / "v.pth", content))
