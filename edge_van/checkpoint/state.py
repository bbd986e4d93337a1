"""Fills a VAN with the tensors of a file: shapes, types and values are checked, none is guessed.

In: a ``NamedState``. Out: the VAN it fills exactly.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edge_van.checkpoint.file import MAX_BYTES
from edge_van.checkpoint.names import NamedState, no_part
from edge_van.checkpoint.stand_ins import Skipped
from edge_van.errors import CheckpointError
from edge_van.input_spec import CHANNELS
from edge_van.model.van import VAN
from edge_van.model.variants import Variant, get_variant, match_variant
from edge_van.text import first_names, printable

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_COUNTER = "num_batches_tracked"
_PUBLISHED_KERNELS = (5, 7)
_LKA = "attn.spatial_gating_unit"


def build_van(state: NamedState, path: Path) -> tuple[VAN, str | None]:
    """(VAN in eval mode filled with ``state`` as float32, its published name or None).

    A ``CheckpointError`` names the first tensors that are missing, too many, of a wrong shape, or not finite.
    """
    check_tensors(state, path)
    row, kernel_size, dilation = _architecture(state, path, has_head=True)
    channels, classes = state.tensors["patch_embed1.proj.weight"].shape[1], state.tensors["head.weight"].shape[0]
    with torch.device("meta"):  # shapes alone: the values come from the file
        van = VAN(row, classes, in_channels=channels, kernel_size=kernel_size, dilation=dilation)
    fill(van, state, path)
    return van.eval(), None if row.name == "custom" else row.name


def backbone_row(state: NamedState, path: Path) -> tuple[Variant, int, int]:
    """(variant, the LKA's kernel size and dilation) of a VAN without a classification head, of tensors that were
    checked; raises as ``build_van``."""
    return _architecture(state, path, has_head=False)


def fill(network: nn.Module, state: NamedState, path: Path) -> None:
    """Give ``network``, made on the meta device, the tensors of ``state`` as float32; raises as ``build_van``."""
    expected = network.state_dict()
    if missing := [name for name in expected if name not in state.tensors and not name.endswith(_COUNTER)]:
        raise _missing(missing, path)
    if extra := [state.origin[name] for name in state.tensors if name not in expected]:
        raise no_part(extra, path)
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
    network.load_state_dict(filled, assign=True)


def check_tensors(state: NamedState, path: Path) -> None:
    """Each is a dense tensor of floats (counters: integers), and all are small enough to unpack."""
    values = 0
    for official, value in state.tensors.items():
        key = state.origin[official]
        if not isinstance(value, Tensor):
            kind = value.full_name if isinstance(value, Skipped) else type(value).__name__
            raise CheckpointError(
                f"{path}: entry {printable(key)} of the state dict is of type {printable(kind)}; expected "
                f"names and tensors only: save model.state_dict() alone"
            )
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
            raise CheckpointError(
                f"{path}: {printable(key)} is not a plain dense tensor; save the float model's state dict"
            )
        if value.dtype not in _FLOATS and not (key.endswith(_COUNTER) and value.dtype in (torch.int64, torch.int32)):
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


def _architecture(state: NamedState, path: Path, *, has_head: bool) -> tuple[Variant, int, int]:
    """(variant, LKA kernel size and dilation) as the tensors' shapes and the blocks' numbers have them."""
    tensors = state.tensors
    wanted = {f"patch_embed{s}.proj.weight": 4 for s in range(1, 5)}
    wanted |= {f"block{s}.0.mlp.fc1.weight": 4 for s in range(1, 5)}
    wanted |= {f"block1.0.{_LKA}.conv0.weight": 4, f"block1.0.{_LKA}.conv_spatial.weight": 4}
    wanted |= {"head.weight": 2} if has_head else {}
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
    if (channels := tensors["patch_embed1.proj.weight"].shape[1]) not in CHANNELS:
        raise CheckpointError(
            f"{path} takes images of {channels} channels; expected 1 (grey), 3 (colour) or 4: give a VAN trained on "
            f"such images"
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
    return (get_variant(published) if published else row), dilated * dilation, dilation


def _missing(names: list[str], path: Path) -> CheckpointError:
    if names == ["head.bias"]:
        return CheckpointError(
            f"{path} lacks 1 of a VAN's tensors, head.bias: if the head was made with bias=False, save it with zeros, "
            f"state['head.bias'] = torch.zeros(len(state['head.weight'])); else get the checkpoint anew"
        )
    return CheckpointError(
        f"{path} lacks {len(names)} of a VAN's tensors (official names): {first_names(names)}; it is cut short or no "
        f"VAN: get the checkpoint anew"
    )
