"""Reads a checkpoint of a dense network, by the names that OpenMMLab's code and VAN-Segmentation give its tensors.

In: a weights file. Out: a ``LoadedDense``: the network, whose head its tensors' names tell, and what was left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_van.checkpoint.entries import weights_entry
from edge_van.checkpoint.file import read_weights, sniff
from edge_van.checkpoint.layouts import OFFICIAL_KEYS, strip_wrappers
from edge_van.checkpoint.names import NamedState, no_part
from edge_van.checkpoint.state import backbone_row, check_tensors, fill
from edge_van.errors import CheckpointError
from edge_van.model.dense.network import KINDS, DenseVAN, HamWidths
from edge_van.model.dense.objects import ANCHORS_A_CELL
from edge_van.model.dense.segmentation import NMF
from edge_van.storage.files import sha256_of
from edge_van.text import first_names, printable

SIGNS = {
    "semantic_fpn": "decode_head.scale_heads.0.0.conv.weight",
    "upernet": "decode_head.psp_modules.0.1.conv.weight",
    "light_ham": "decode_head.hamburger.ham_in.conv.weight",
    "retinanet": "bbox_head.retina_cls.weight",
    "simple_baseline": "keypoint_head.deconv_layers.0.weight",
}
"""A tensor that no other kind has."""
_CLASSIFIERS = {
    "retinanet": "bbox_head.retina_cls.weight",
    "simple_baseline": "keypoint_head.final_layer.weight",
}
_CONV_SEG = "decode_head.conv_seg.weight"
_BACKBONE, _TRAINING_ONLY = "backbone.", ("auxiliary_head.",)
_UNNESTED = re.compile(r"(block[1-4]\.\d+\.mlp\.dwconv)\.(weight|bias)")
_SMALL_HAM = (256, 256)
"""Widths of the published hamburger of rank 16, by which alone it can be told."""


@dataclass(frozen=True)
class LoadedDense:
    """``variant`` is the backbone's published name, or None. ``unused_keys`` are of the training alone."""

    network: DenseVAN
    variant: str | None
    sha256: str
    entry: str | None
    unused_keys: tuple[str, ...]
    warnings: tuple[str, ...]


def load_dense(path: str | Path, *, use_ema: bool = True) -> LoadedDense:
    """Read a weights file into a ``DenseVAN`` in eval mode, as float32; nothing in the file is run, and every tensor is
    accounted for. ``use_ema`` takes averaged weights where the file has them.

    Raises ``CheckpointError`` for a damaged file, an unknown head, tensors that are missing, too many, or of another
    shape.
    """
    path = Path(path)
    file = read_weights(path, sniff(path))
    entries, entry, choices = weights_entry(file.content, path, use_ema)
    state, kind = _named(entries, path)
    check_tensors(state, path)
    backbone = {name.removeprefix(_BACKBONE): key for name, key in state.origin.items() if name.startswith(_BACKBONE)}
    alone = NamedState(kind, {n: state.tensors[_BACKBONE + n] for n in backbone}, backbone, ())
    row, *lka = backbone_row(alone, path)
    with torch.device("meta"):  # shapes alone: the values come from the file
        channels = alone.tensors["patch_embed1.proj.weight"].shape[1]
        network = DenseVAN(
            kind,
            row,
            _outputs(state, kind, path),
            in_channels=channels,
            lka=(lka[0], lka[1]),
            ham=_ham_widths(state, path) if kind == "light_ham" else None,
        )
    fill(network, state, path)
    for module in network.modules():
        if isinstance(module, NMF):
            module.draw()
    variant = None if row.name == "custom" else row.name
    return LoadedDense(network.eval(), variant, sha256_of(path), entry, state.unused, tuple(choices))


def _named(entries: dict[Any, Any], path: Path) -> tuple[NamedState, str]:
    """(tensors under the names of a ``DenseVAN``, its kind)."""
    if strange := next((key for key in entries if not isinstance(key, str)), None):
        raise CheckpointError(
            f"{path}: an entry of the state dict is called {printable(strange)}; save model.state_dict() alone"
        )
    tensors: dict[str, Any] = {}
    origin: dict[str, str] = {}
    unused: list[str] = []
    for key, value in entries.items():
        name = strip_wrappers(key)
        if name.startswith(_TRAINING_ONLY):
            unused.append(key)
            continue
        name = _own_name(name)
        if name in origin:
            raise CheckpointError(f"{path} holds both {first_names((origin[name], key))}, which name one tensor")
        tensors[name], origin[name] = value, key
    found = [kind for kind, sign in SIGNS.items() if sign in tensors]
    if len(found) != 1:
        heads = sorted({name.split(".")[0] for name in tensors} - {"backbone", "neck"})
        raise CheckpointError(
            f"{path} has no head that is known ({first_names(heads) or 'a backbone alone'}); expected one of "
            f"{', '.join(KINDS)}, by OpenMMLab's names, with backbone.patch_embed1.proj.weight and so on"
        )
    known = ("backbone.", "neck.", f"{KINDS[found[0]].attribute}.")
    if others := [origin[name] for name in tensors if not name.startswith(known)]:
        raise no_part(others, path)
    return NamedState(found[0], tensors, origin, tuple(unused)), found[0]


def _own_name(name: str) -> str:
    """That of a ``DenseVAN``: mmpose 1 calls its head so, and some backbones do not nest the feed-forward's 3x3."""
    if name.startswith(("head.deconv_layers.", "head.final_layer.")):
        return f"keypoint_{name}"
    if not name.startswith(_BACKBONE):
        return name
    inside = _UNNESTED.sub(r"\1.dwconv.\2", name.removeprefix(_BACKBONE))
    return _BACKBONE + (OFFICIAL_KEYS.to_official(inside) or inside)


def _outputs(state: NamedState, kind: str, path: Path) -> int:
    """Classes, or points."""
    rows = _shape(state, _CLASSIFIERS.get(kind, _CONV_SEG), path)[0]
    if kind != "retinanet":
        return rows
    if rows % ANCHORS_A_CELL:
        raise CheckpointError(
            f"{path}: bbox_head.retina_cls has {rows} rows; expected a multiple of {ANCHORS_A_CELL}, three scales by "
            f"three ratios: other anchors are not supported"
        )
    return rows // ANCHORS_A_CELL


def _ham_widths(state: NamedState, path: Path) -> HamWidths:
    ham_dim = _shape(state, "decode_head.squeeze.conv.weight", path)[0]
    dim = _shape(state, "decode_head.align.conv.weight", path)[0]
    return HamWidths(dim, ham_dim, 16 if (dim, ham_dim) == _SMALL_HAM else HamWidths.rank)


def _shape(state: NamedState, name: str, path: Path) -> tuple[int, ...]:
    tensor = state.tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim != 4 or min(tensor.shape) < 1:
        raise CheckpointError(f"{path} has no {name} of four dimensions; it is cut short: get the checkpoint anew")
    return tuple(tensor.shape)
