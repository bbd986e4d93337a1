"""Reads a checkpoint of any known layout into a VAN and its InputSpec, checked tensor by tensor; writes one of its own.

In: a file, a Hugging Face model folder, or the word ``imagenet1k``. Out: a ``LoadedCheckpoint``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_van.checkpoint.class_names import find_class_names
from edge_van.checkpoint.entries import weights_entry
from edge_van.checkpoint.file import read_weights, sniff
from edge_van.checkpoint.heads import About, find_head, head_in_any_case
from edge_van.checkpoint.hub import fetch_official
from edge_van.checkpoint.names import named_state
from edge_van.checkpoint.preprocessing import (
    METADATA_EPS,
    METADATA_SPEC,
    METADATA_VARIANT,
    FoundSpec,
    claimed_variant,
    find_spec,
    read_sidecar,
)
from edge_van.checkpoint.shards import INDEX_SUFFIX, is_index, read_shards
from edge_van.checkpoint.state import build_van
from edge_van.errors import BundleError, CheckpointError, UsageError
from edge_van.head import Head
from edge_van.input_spec import OFFICIAL, InputSpec
from edge_van.model.van import LAYER_NORM_EPS, VAN
from edge_van.model.variants import get_variant
from edge_van.storage.files import replace_file, sha256_of
from edge_van.text import first_names, printable

OFFICIAL_WORD = "imagenet1k"

_FOLDER_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    f"model.safetensors{INDEX_SUFFIX}",
    f"pytorch_model.bin{INDEX_SUFFIX}",
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin)$")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that was read whole and found in order.

    van              the network, float32, in eval mode; it takes pixels in ``spec.source_order``
    variant          its published name, or None for widths, depths or kernels of one's own
    spec             how its images are prepared; ``spec_is_default`` where nothing said so
    sha256           of the weights file; of a sharded one that of its index and its shards' own
    source           what was given: a path or ``imagenet1k``
    layout           whose names the tensors had: edge-van, official, huggingface, mmpretrain or mmseg
    entry            the entry of the file the weights came from ("state_dict_ema"), None for a bare state dict
    unused_keys      entries of the file that are no weights of the network, left out
    warnings         what the user should know, a line each
    head             what its outputs become
    notes            what was found or left out, a line each; nothing of it asks for anything
    """

    van: VAN
    variant: str | None
    spec: InputSpec
    spec_is_default: bool
    sha256: str
    source: str
    layout: str
    entry: str | None
    unused_keys: tuple[str, ...]
    warnings: tuple[str, ...]
    head: Head = field(default_factory=Head)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file or folder that ``source`` leads to, without the way there."""
        path = Path(self.source).expanduser()
        return path.resolve().name if path.name in ("", "..") else path.name


def load_checkpoint(
    source: str | Path, *, variant: str | None = None, use_ema: bool = True, by_hand: Collection[str] = ()
) -> LoadedCheckpoint:
    """Read ``source`` into a VAN; nothing in the file is run and every tensor is accounted for.

    ``source`` is a weights file (torch.save or safetensors), a Hugging Face model folder, or ``imagenet1k``: the
    official weights of ``variant`` (b0 to b3), fetched once. ``variant`` otherwise only checks: the shapes decide.
    ``use_ema`` takes averaged weights where the file has them. ``by_hand`` are the fields of the spec that the caller
    puts in place afterwards: no warning for what the checkpoint does not say of them, and where they are all that a
    preprocessor_config.json says (``preprocessing.FLAGS``), that file is not read. With "head" among them nothing that
    the checkpoint says of its head is refused or warned of.

    A ``UsageError``: no such path or variant, or another variant than the file's. A ``CheckpointError``: the file is
    damaged, unsafe, not a VAN, or lacks a classification head.
    """
    if variant is not None:
        get_variant(variant)
    official = source == OFFICIAL_WORD
    path = fetch_official(variant) if official else _weights_path(Path(source))
    if is_index(path):
        file, sha256 = read_shards(path)
    else:
        kind = sniff(path)
        sha256 = sha256_of(path)
        file = read_weights(path, kind)
    metadata = file.metadata
    sidecar = {} if official else read_sidecar(path, sha256)
    entries, entry, choices = weights_entry(file.content, path, use_ema)
    state = named_state(entries, path, use_ema)
    van, name = build_van(state, path)
    if variant is not None and variant != name:
        raise UsageError(
            f"variant {variant} was asked for, but {path} holds {_described(van, name)}; "
            f"leave the variant out or give its own checkpoint"
        )
    claim = claimed_variant(metadata, sidecar)
    if claim is not None and claim != name:
        raise CheckpointError(
            f"{path} or the JSON beside it says that it is {printable(claim)!r}, but its tensors are those of "
            f"{_described(van, name)}; mend what it says, or get the right weights"
        )
    preprocessing = FoundSpec(OFFICIAL) if official else find_spec(path, state.layout, metadata, sidecar, van, by_hand)
    for _, _, norm in van.stages():
        norm.eps = preprocessing.layer_norm_eps
    # as the network was trained: what a device sends is for the caller to say
    spec, notes = replace(preprocessing.spec, source_order=preprocessing.spec.channel_order), state.notes
    if spec.classes is None and "classes" not in by_hand:
        spec, said = _with_class_names(spec, file.content, van.num_classes, path)
        notes = (*notes, *said)
    about = About(file.content, path, sidecar, state.layout)
    found = (head_in_any_case if "head" in by_hand else find_head)(about, van.num_classes)
    return LoadedCheckpoint(
        van=van,
        variant=name,
        spec=spec,
        spec_is_default=preprocessing.is_default,
        sha256=sha256,
        source=str(source),
        layout="edge-van" if METADATA_SPEC in metadata else state.layout,
        entry=entry,
        unused_keys=state.unused,
        warnings=(*choices, *state.choices, *preprocessing.warnings, *((found.warning,) if found.warning else ())),
        head=found.head,
        notes=(*notes, *((found.note,) if found.note else ())),
    )


def save_safetensors(
    path: str | Path,
    van_state_dict: Mapping[str, Tensor],
    spec: InputSpec,
    variant: str | None,
    *,
    half: bool,
    layer_norm_eps: float = LAYER_NORM_EPS,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Write a VAN's state dict (official names) with its spec in the header; returns the file's sha256.

    ``layer_norm_eps`` is no part of a state dict: one that is not the official 1e-6 must come along. ``half`` stores
    weights of two and more dimensions as float16; norms, biases and layer scales stay float32, which costs 2 % of the
    size and keeps BatchNorm's statistics exact. The same input always gives the same bytes.
    A ``CheckpointError``: a weight over float16's range, or a path that cannot be written.
    """
    from safetensors.torch import save

    if reserved := [key for key in extra or {} if key.startswith("edge_van.") or key == "format"]:
        raise UsageError(f"extra metadata may not set {first_names(reserved)}; choose other names")
    target = Path(path)
    tensors = {}
    for key, tensor in van_state_dict.items():
        stored = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        if half and stored.ndim >= 2 and stored.is_floating_point():
            stored = stored.to(torch.float16)
            if not stored.isfinite().all():
                raise CheckpointError(f"{key} goes over float16's range (65504); save {target.name} with half=False")
        tensors[key] = stored
    metadata = {**(extra or {}), "format": "pt", METADATA_SPEC: json.dumps(spec.to_dict(), sort_keys=True)}
    if variant is not None:
        metadata[METADATA_VARIANT] = variant
    if layer_norm_eps != LAYER_NORM_EPS:
        metadata[METADATA_EPS] = repr(layer_norm_eps)
    blob = _sorted_header(save(tensors, metadata))
    try:
        replace_file(target, blob)
    except (BundleError, OSError) as error:
        raise CheckpointError(str(error)) from error
    return hashlib.sha256(blob).hexdigest()


def _sorted_header(blob: bytes) -> bytes:
    """safetensors writes its metadata in a random order; sorted, the same weights make the same file."""
    size = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + blob[8 + size :]


def _weights_path(path: Path) -> Path:
    """The weights file that ``path`` is, or that the Hugging Face folder ``path`` holds."""
    try:
        path = path.expanduser()
        if not path.is_dir():
            return path
        names = sorted(file.name for file in path.iterdir())
    except (OSError, RuntimeError) as error:  # RuntimeError: a home folder that nobody has
        raise UsageError(
            f"checkpoint {printable(path)!r} cannot be looked at ({printable(error)}); check the path"
        ) from error
    for name in _FOLDER_FILES:
        if name in names:
            return path / name
    others = [name for name in names if name.endswith((".pth", ".tar", ".pt", ".safetensors", ".bin"))]
    advice = f"give one of its files: {first_names(others)}" if others else "give the weights file itself"
    if any(_SHARD.search(name) for name in others):
        advice = f"it holds parts of a sharded checkpoint ({first_names(others, 2)}): fetch its {INDEX_SUFFIX} too"
    raise CheckpointError(f"{path} is a folder without {' or '.join(_FOLDER_FILES[:2])}; {advice}")


def _with_class_names(spec: InputSpec, content: Any, num_classes: int, path: Path) -> tuple[InputSpec, list[str]]:
    """The spec with the names that the file itself has for its classes, and where they stood."""
    found = find_class_names(content, num_classes)
    if found is None:
        return spec, []
    if not Head().names_fit(len(found.names), num_classes):
        return spec, [
            f"{printable(path.name)} names {len(found.names)} classes ({found.where}), but its head has {num_classes} "
            f"outputs: not taken; give the names in the order of the outputs with --classes FILE"
        ]
    said = f"class names taken from {found.where} of {printable(path.name)}: {first_names(found.names, 3)}"
    if found.repeated:
        said += f"; more than once, numbered here: {first_names(found.repeated)}"
    return replace(spec, classes=found.names), [said]


def _described(van: VAN, name: str | None) -> str:
    row = van.variant
    return name or f"a VAN of its own (embed_dims {row.embed_dims}, depths {row.depths}, mlp_ratios {row.mlp_ratios})"
