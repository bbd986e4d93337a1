"""Turns a state dict of any known layout into a VAN: names, shapes, types and values are checked, none is guessed.

In: names and tensors as a file held them. Out: ``NamedState`` under official names, and the VAN it fills exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_van.checkpoint.file import MAX_BYTES
from edge_van.checkpoint.layouts import OFFICIAL_KEYS, detect_layout, strip_wrappers
from edge_van.errors import CheckpointError
from edge_van.model.van import VAN
from edge_van.model.variants import Variant, get_variant, match_variant
from edge_van.text import first_names, printable

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_COUNTER = "num_batches_tracked"
_AVERAGED_MODEL_COUNTER = "n_averaged"  # torch.optim.swa_utils puts it beside the weights
_PUBLISHED_KERNELS = (5, 7)
_LKA = "attn.spatial_gating_unit"


@dataclass(frozen=True)
class NamedState:
    """``tensors`` under official names, ``origin`` their names in the file, ``unused`` those that no VAN has."""

    layout: str
    tensors: dict[str, Tensor]
    origin: dict[str, str]
    unused: tuple[str, ...]


def named_state(entries: Mapping[Any, Any], path: Path) -> NamedState:
    """Official names for all of ``entries``; a ``CheckpointError`` says which tensor, name or layout cannot be."""
    if not any(isinstance(value, Tensor) for value in entries.values()):
        raise CheckpointError(
            f"{path} holds no tensors where a state dict should be (entries: {first_names(map(str, entries))}); "
            f"expected patch_embed1.proj.weight and so on: save model.state_dict()"
        )
    _check_tensors(entries, path)
    by_name: dict[str, str] = {}
    for key in entries:
        if (twin := by_name.setdefault(strip_wrappers(key), key)) != key:
            raise CheckpointError(
                f"{path} holds both {first_names((twin, key))}, which name one tensor; save it anew with one"
            )
    layout = detect_layout(by_name)
    if layout is None:
        raise CheckpointError(
            f"{path} is not a VAN: its tensors are {first_names(by_name, 3)}; expected the names of the official code, "
            f"Hugging Face, mmpretrain or mmseg, with a spatial_gating_unit: give a VAN's checkpoint"
        )
    tensors, origin, unused, unknown = {}, {}, [], []
    for name, key in by_name.items():
        official = layout.to_official(name)
        if official is not None:
            tensors[official], origin[official] = entries[key], key
        elif name in layout.unused or name == _AVERAGED_MODEL_COUNTER:
            unused.append(key)
        else:
            unknown.append(key)
    # Said before anything else: a segmentation or detection model has many unknown names, and this is the reason.
    if not any(OFFICIAL_KEYS.to_official(name) and name.startswith("head.") for name in tensors):
        raise CheckpointError(
            f"{path} is a VAN backbone ({layout.name} names) without a classification head; expected a classifier with "
            f"{layout.from_official('head.weight')}: give the checkpoint of a classifier"
        )
    if unknown:
        raise _no_part(unknown, path)
    return NamedState(layout.name, tensors, origin, tuple(unused))


def build_van(state: NamedState, path: Path) -> tuple[VAN, str | None]:
    """(VAN in eval mode filled with ``state`` as float32, its published name or None).

    A ``CheckpointError`` names the first tensors that are missing, too many, of a wrong shape, or not finite.
    """
    row, classes, kernel_size, dilation = _architecture(state, path)
    with torch.device("meta"):  # shapes alone: the values come from the file
        van = VAN(row, classes, kernel_size=kernel_size, dilation=dilation)
    expected = van.state_dict()
    if missing := [name for name in expected if name not in state.tensors and not name.endswith(_COUNTER)]:
        raise _missing(missing, path)
    if extra := [state.origin[name] for name in state.tensors if name not in expected]:
        raise _no_part(extra, path)
    filled = {}
    for name, wanted in expected.items():
        tensor = state.tensors.get(name)
        if tensor is None:
            filled[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
            continue
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"{path}: {state.origin[name]} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)} beside "
                f"the other tensors; give an unchanged VAN's checkpoint"
            )
        filled[name] = tensor.detach().to(wanted.dtype, copy=True, memory_format=torch.contiguous_format)
        if not filled[name].isfinite().all():
            raise CheckpointError(
                f"{path}: {state.origin[name]} holds values that are NaN or infinite in float32; its training "
                f"diverged or the file is damaged: give an earlier checkpoint or copy it again"
            )
        if name.endswith("running_var") and (filled[name] < 0).any():
            raise CheckpointError(
                f"{path}: {state.origin[name]} holds a negative variance, which no BatchNorm has; the file is damaged: "
                f"copy or download it again"
            )
    van.load_state_dict(filled, assign=True)
    return van.eval(), None if row.name == "custom" else row.name


def _check_tensors(entries: Mapping[Any, Any], path: Path) -> None:
    """Every entry is a named, dense tensor of floats (counters: integers), and all are small enough to unpack."""
    values = 0
    for key, value in entries.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: entry {printable(key)} of the state dict is of type {type(value).__name__}; expected "
                f"names and tensors only: save model.state_dict() alone"
            )
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
            raise CheckpointError(
                f"{path}: {printable(key)} is not a plain dense tensor; save the float model's state dict"
            )
        counter = key.endswith((_COUNTER, _AVERAGED_MODEL_COUNTER))
        if value.dtype not in _FLOATS and not (counter and value.dtype in (torch.int64, torch.int32)):
            raise CheckpointError(
                f"{path}: {printable(key)} is {str(value.dtype).removeprefix('torch.')}; expected float32, float16, "
                f"bfloat16 or float64: give the float model, before any quantisation"
            )
        values += value.numel()
    # A tensor with stride 0 claims any size at no cost in the file, so its claim is counted, not its bytes.
    if values * 4 > MAX_BYTES:
        raise CheckpointError(
            f"{path} claims {values} weights; the biggest VAN has 200 million: give a VAN's checkpoint"
        )


def _architecture(state: NamedState, path: Path) -> tuple[Variant, int, int, int]:
    """(variant, classes, LKA kernel size, LKA dilation) as the tensors' shapes and the blocks' numbers have them."""
    tensors = state.tensors
    wanted = {f"patch_embed{s}.proj.weight": 4 for s in range(1, 5)}
    wanted |= {f"block{s}.0.mlp.fc1.weight": 4 for s in range(1, 5)}
    wanted |= {f"block1.0.{_LKA}.conv0.weight": 4, f"block1.0.{_LKA}.conv_spatial.weight": 4, "head.weight": 2}
    numbers = {s: {int(name.split(".")[1]) for name in tensors if name.startswith(f"block{s}.")} for s in range(1, 5)}
    for s, indices in numbers.items():
        if indices != set(range(len(indices))):
            raise CheckpointError(
                f"{path}: stage {s} has blocks numbered {first_names(map(str, sorted(indices)))}; expected 0 to "
                f"{len(indices) - 1} without a gap: get the checkpoint anew"
            )
    if missing := [name for name in wanted if name not in tensors]:
        raise _missing(missing, path)
    for name, ndim in wanted.items():
        if tensors[name].ndim != ndim or min(tensors[name].shape) < 1:
            raise CheckpointError(
                f"{path}: {state.origin[name]} has shape {tuple(tensors[name].shape)}; expected {ndim} dimensions, "
                f"none of them 0: give a VAN's checkpoint"
            )
    dims = [tensors[f"patch_embed{s}.proj.weight"].shape[0] for s in range(1, 5)]
    if (channels := tensors["patch_embed1.proj.weight"].shape[1]) != 3:
        raise CheckpointError(
            f"{path} takes images of {channels} channels; expected 3 (RGB): give a VAN trained on RGB images"
        )
    depths = [len(numbers[s]) for s in range(1, 5)]
    ratios = []
    for s, dim in enumerate(dims, 1):
        hidden = tensors[f"block{s}.0.mlp.fc1.weight"].shape[0]
        if hidden % dim:
            raise CheckpointError(
                f"{path}: stage {s} widens {dim} channels to {hidden}; expected a whole multiple: "
                f"give a VAN's checkpoint"
            )
        ratios.append(hidden // dim)
    local, dilated = (tensors[f"block1.0.{_LKA}.{conv}.weight"].shape[-1] for conv in ("conv0", "conv_spatial"))
    if local % 2 == 0:
        raise CheckpointError(
            f"{path}: conv0 has side {local}; expected 2d-1 for a dilation d: give a VAN's checkpoint"
        )
    dilation = (local + 1) // 2  # the paper's 2d-1; ceil(K/d) then leaves K open, and d * ceil(K/d) is one of them
    published = (
        match_variant(tuple(dims), tuple(depths), tuple(ratios)) if (local, dilated) == _PUBLISHED_KERNELS else None
    )
    row = Variant(
        "custom",
        (dims[0], dims[1], dims[2], dims[3]),
        (depths[0], depths[1], depths[2], depths[3]),
        paper_params_m=0.0,
        paper_gmacs=0.0,
        paper_top1_percent=None,
        mlp_ratios=(ratios[0], ratios[1], ratios[2], ratios[3]),
    )
    return (get_variant(published) if published else row), tensors["head.weight"].shape[0], dilated * dilation, dilation


def _no_part(names: list[str], path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds tensors that are no part of a VAN: {first_names(names)}; expected a VAN's own and no others: "
        f"give the checkpoint of an unchanged VAN"
    )


def _missing(names: list[str], path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} lacks {len(names)} of a VAN's tensors (official names): {first_names(names)}; it is cut short or no "
        f"VAN: get the checkpoint anew"
    )
