"""Weights in several files with an index: what transformers writes for anything over some gigabytes, or when asked to.

In: ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``. Out: all tensors as of one file, and a sha256.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edge_van.checkpoint.file import MAX_BYTES, WeightsFile, read_weights, sniff
from edge_van.checkpoint.preprocessing import read_json
from edge_van.errors import CheckpointError
from edge_van.storage.files import LONGEST_NAME_BYTES, sha256_of
from edge_van.text import first_names, printable

INDEX_SUFFIX = ".index.json"
MAX_SHARDS = 1000


def is_index(path: Path) -> bool:
    """Whether ``path`` is the index of a sharded checkpoint, by its name."""
    return path.name.endswith(INDEX_SUFFIX) and path.is_file()


def read_shards(index: Path) -> tuple[WeightsFile, str]:
    """(all tensors that ``index`` lists, sha256 of the index and of each shard's sha256, in the order of their names).

    Shards are files beside the index: a name with a way in it is refused. A ``CheckpointError`` for a shard that is not
    there, or does not hold what the index says, or holds what another one has.
    """
    listed = read_json(index).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    if not isinstance(listed, dict) or not 1 <= len(names) <= MAX_SHARDS:
        raise CheckpointError(
            f"{index} has no weight_map of tensors to files; expected the index that save_pretrained wrote: get it anew"
        )
    if strange := [name for name in names if Path(name).name != name or name in (".", "..") or "\\" in name]:
        raise CheckpointError(
            f"{index} names the shard {printable(strange[0])!r}, which points out of its folder; expected files beside "
            f"it: do not use this checkpoint"
        )
    if missing := [name for name in names if len(name) > LONGEST_NAME_BYTES or not (index.parent / name).is_file()]:
        raise CheckpointError(
            f"{index} lists shards that are not beside it: {first_names(missing)}; expected {len(names)} files: fetch "
            f"them too"
        )
    size = sum((index.parent / name).stat().st_size for name in names)
    if size > MAX_BYTES:
        raise CheckpointError(f"{index} lists {size / 2**30:.1f} GiB of shards; a VAN's checkpoint has at most 4")
    digest = hashlib.sha256(index.read_bytes())
    tensors: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for name in names:
        path = index.parent / name
        digest.update(sha256_of(path).encode())
        shard = read_weights(path, sniff(path))
        held = shard.content if isinstance(shard.content, dict) else {}
        wanted = {key for key, file in listed.items() if file == name}
        if set(held) != wanted:
            off = first_names(map(str, sorted(map(str, set(held) ^ wanted))))
            raise CheckpointError(
                f"{path} and {index.name} do not agree on what is in it: {off}; they are of two checkpoints, or the "
                f"shard is damaged: fetch both again"
            )
        tensors.update(held)
        metadata.update(shard.metadata)
    return WeightsFile(tensors, metadata), digest.hexdigest()
