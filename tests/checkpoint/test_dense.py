"""Checkpoints of dense networks under OpenMMLab's names: what is read, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_samples import one_line
from narrow import NARROW
from torch import Tensor

from edge_van.checkpoint.dense import load_dense
from edge_van.errors import CheckpointError
from edge_van.model.dense.network import KINDS, DenseVAN, HamWidths
from edge_van.model.van import VAN

State = dict[str, Tensor]


def network_of(kind: str, **more: object) -> DenseVAN:
    torch.manual_seed(0)
    return DenseVAN(kind, NARROW, 5, **more).eval()  # type: ignore[arg-type]


def saved(state: object, folder: Path) -> Path:
    torch.save(state, folder / "dense.pth")
    return folder / "dense.pth"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_read(kind: str, tmp_path: Path) -> None:
    """As OpenMMLab's runner saves it: beside the optimiser, with the head of the training alone."""
    network = network_of(kind)
    state = {**network.state_dict(), "auxiliary_head.conv_seg.weight": torch.zeros(5, 8, 1, 1)}
    loaded = load_dense(saved({"state_dict": state, "meta": {"iter": 40000}, "optimizer": {}}, tmp_path))
    assert loaded.network.kind == kind
    assert (loaded.variant, loaded.entry) == (None, "state_dict")
    assert loaded.unused_keys == ("auxiliary_head.conv_seg.weight",)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.network(images), network(images))


def test_the_published_variant_is_told(tmp_path: Path) -> None:
    state = DenseVAN("semantic_fpn", "b0", 7).state_dict()
    loaded = load_dense(saved({f"module.{key}": value.half() for key, value in state.items()}, tmp_path))
    assert loaded.variant == "b0"
    assert loaded.network.num_classes == 7
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}


def test_other_names_of_the_same(tmp_path: Path) -> None:
    """mmpose 1 calls its head ``head``; a backbone may not nest its 3x3; kernels may be others."""
    network = network_of("simple_baseline", lka=(35, 5))
    state = {
        key.replace("keypoint_head.", "head.").replace("mlp.dwconv.dwconv.", "mlp.dwconv."): value
        for key, value in network.state_dict().items()
    }
    assert not any("dwconv.dwconv" in key for key in state)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_dense(saved(state, tmp_path)).network(images), network(images))


@pytest.mark.parametrize("widths", [HamWidths(256, 256, 16), HamWidths(64, 96, 64)])
def test_hamburgers_of_other_widths(tmp_path: Path, widths: HamWidths) -> None:
    network = network_of("light_ham", ham=widths)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_dense(saved(network.state_dict(), tmp_path)).network(images), network(images))


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: without(s, "decode_head.conv_seg.weight"), "decode_head.conv_seg.weight of four dimensions"),
        (lambda s: without(s, "decode_head.scale_heads.3.4.bn.running_var"), "lacks 1 of"),
        (lambda s: without(s, "backbone.patch_embed2.proj.weight"), "lacks 1 of"),
        (lambda s: {**s, "decode_head.extra.weight": torch.zeros(1)}, "decode_head.extra.weight"),
        (lambda s: {**s, "rpn_head.rpn_conv.weight": torch.zeros(1)}, "rpn_head.rpn_conv.weight"),
        (lambda s: {**s, "neck.fpn_convs.0.conv.bias": torch.zeros(3)}, "has shape (3,), expected (256,)"),
        (lambda s: {**s, "neck.fpn_convs.0.conv.bias": torch.full((256,), float("nan"))}, "NaN or infinite"),
        (
            lambda s: {**s, "neck.fpn_convs.0.conv.bias": torch.zeros(256, dtype=torch.int8)},
            "is int8; expected float32",
        ),
        (lambda s: {**s, "decode_head.psp_modules.0.1.conv.weight": torch.zeros(1)}, "no head that is known"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("backbone.")}, "a backbone alone"),
        (lambda s: {**s, 7: torch.zeros(1)}, "called 7"),
        (lambda _: VAN(NARROW, 5).state_dict(), "no head that is known"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: object, words: str) -> None:
    state = change(network_of("semantic_fpn").state_dict())  # type: ignore[operator]
    with pytest.raises(CheckpointError) as caught:
        load_dense(saved(state, tmp_path))
    one_line(caught, words)


def test_other_anchors_are_refused(tmp_path: Path) -> None:
    state = network_of("retinanet").state_dict()
    state["bbox_head.retina_cls.weight"] = torch.zeros(46, 256, 3, 3)
    with pytest.raises(CheckpointError, match="46 rows; expected a multiple of 9"):
        load_dense(saved(state, tmp_path))


def test_a_pickle_that_would_run_something(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    state = {**network_of("semantic_fpn").state_dict(), "decode_head.trap": Trap()}
    with pytest.raises(CheckpointError):
        load_dense(saved(state, tmp_path))
    assert not (tmp_path / "ran").exists()
