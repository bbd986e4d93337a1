"""How each known checkpoint layout names a VAN's tensors: one column of templates per layout.

In: a tensor's name in some layout. Out: its official name (the one ``VAN.state_dict`` uses), and back; which layout the
names of a file are in, and what stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

# In a template {s} is the stage from 1, {z} the stage from 0, {i} the block, and a final * the tensor of a module.
_FIELDS = {
    "{s}": r"(?P<s>[1-4])",
    "{z}": r"(?P<z>[0-3])",
    "{i}": r"(?P<i>0|[1-9][0-9]{0,3})",
    "*": r"(?P<leaf>weight|bias|running_mean|running_var|num_batches_tracked)",
}

_HF = "van.encoder.stages.{z}"
_HF_BLOCK = _HF + ".layers.{i}"
_HF_LKA = _HF_BLOCK + ".attention.attention_layer.attention"
_MM = "backbone."
_MM_BLOCK = "backbone.blocks{s}.{i}"

_TABLE = (
    # official, Hugging Face ("pre_normomalization" is their spelling), mmpretrain
    ("patch_embed{s}.proj.*", f"{_HF}.embeddings.convolution.*", f"{_MM}patch_embed{{s}}.projection.*"),
    ("patch_embed{s}.norm.*", f"{_HF}.embeddings.normalization.*", f"{_MM}patch_embed{{s}}.norm.*"),
    ("block{s}.{i}.norm1.*", f"{_HF_BLOCK}.pre_normomalization.*", f"{_MM_BLOCK}.norm1.*"),
    ("block{s}.{i}.attn.proj_1.*", f"{_HF_BLOCK}.attention.pre_projection.conv.*", f"{_MM_BLOCK}.attn.proj_1.*"),
    (
        "block{s}.{i}.attn.spatial_gating_unit.conv0.*",
        f"{_HF_LKA}.depth_wise.*",
        f"{_MM_BLOCK}.attn.spatial_gating_unit.DW_conv.*",
    ),
    (
        "block{s}.{i}.attn.spatial_gating_unit.conv_spatial.*",
        f"{_HF_LKA}.depth_wise_dilated.*",
        f"{_MM_BLOCK}.attn.spatial_gating_unit.DW_D_conv.*",
    ),
    (
        "block{s}.{i}.attn.spatial_gating_unit.conv1.*",
        f"{_HF_LKA}.point_wise.*",
        f"{_MM_BLOCK}.attn.spatial_gating_unit.conv1.*",
    ),
    ("block{s}.{i}.attn.proj_2.*", f"{_HF_BLOCK}.attention.post_projection.*", f"{_MM_BLOCK}.attn.proj_2.*"),
    ("block{s}.{i}.layer_scale_1", f"{_HF_BLOCK}.attention_scaling.weight", f"{_MM_BLOCK}.layer_scale_1"),
    ("block{s}.{i}.norm2.*", f"{_HF_BLOCK}.post_normalization.*", f"{_MM_BLOCK}.norm2.*"),
    ("block{s}.{i}.mlp.fc1.*", f"{_HF_BLOCK}.mlp.in_dense.*", f"{_MM_BLOCK}.mlp.fc1.*"),
    ("block{s}.{i}.mlp.dwconv.dwconv.*", f"{_HF_BLOCK}.mlp.depth_wise.*", f"{_MM_BLOCK}.mlp.dwconv.*"),
    ("block{s}.{i}.mlp.fc2.*", f"{_HF_BLOCK}.mlp.out_dense.*", f"{_MM_BLOCK}.mlp.fc2.*"),
    ("block{s}.{i}.layer_scale_2", f"{_HF_BLOCK}.mlp_scaling.weight", f"{_MM_BLOCK}.layer_scale_2"),
    ("norm{s}.*", f"{_HF}.normalization.*", f"{_MM}norm{{s}}.*"),
    ("head.*", "classifier.*", "head.fc.*"),
)

SIGNATURE = "spatial_gating_unit.conv0.weight"
"""End of an official name that a VAN has and its relatives with the same stem (PVTv2, SegFormer) have not."""


@dataclass(frozen=True)
class KeyMap:
    """One layout. ``rows`` pair an official template with this layout's; ``unused`` are names it holds for nothing."""

    name: str
    rows: tuple[tuple[str, str], ...]
    unused: tuple[str, ...] = ()

    def to_official(self, key: str) -> str | None:
        """Official name of this layout's ``key``; None where the layout has no such name."""
        return _translate(key, ((theirs, official) for official, theirs in self.rows))

    def from_official(self, key: str) -> str | None:
        """This layout's name of the official ``key``; None where it is no official name."""
        return _translate(key, self.rows)


OFFICIAL_KEYS = KeyMap("official", tuple((official, official) for official, _, _ in _TABLE))

KEY_MAPS: tuple[KeyMap, ...] = (
    OFFICIAL_KEYS,
    KeyMap(
        "huggingface",
        tuple((official, hf) for official, hf, _ in _TABLE),
        unused=("van.layernorm.weight", "van.layernorm.bias"),
    ),
    # Saved from VanModel, the part without the head.
    KeyMap(
        "huggingface-base",
        tuple((official, hf.removeprefix("van.")) for official, hf, _ in _TABLE),
        unused=("layernorm.weight", "layernorm.bias"),
    ),
    # Its own LayerNorm eps is 1e-5, but its published VANs are the official weights, trained with 1e-6 as built here.
    KeyMap("mmpretrain", tuple((official, mm) for official, _, mm in _TABLE)),
    # mmseg and mmdet: the official backbone inside a larger model; only a classifier built so has head.fc.
    KeyMap(
        "mmseg",
        (*((official, f"backbone.{official}") for official, _, _ in _TABLE[:-1]), ("head.*", "head.fc.*")),
    ),
)

_WRAPPERS = re.compile(r"^(?:(?:module|model|_orig_mod)\.)+")


def strip_wrappers(key: str) -> str:
    """``key`` without what DataParallel, torch.compile, AveragedModel or Lightning put before it, however nested."""
    return _WRAPPERS.sub("", key).replace("._orig_mod.", ".")


@dataclass(frozen=True)
class Network:
    """Where a file has a VAN: the layout of its names and the prefix before them, "" for none."""

    key_map: KeyMap
    prefix: str = ""

    def to_official(self, key: str) -> str | None:
        """Official name of the file's ``key``; None where it is none of this network's."""
        return self.key_map.to_official(key[len(self.prefix) :]) if key.startswith(self.prefix) else None


def detect_networks(keys: Iterable[str]) -> list[Network]:
    """Every VAN that ``keys`` (wrappers stripped) hold, the one with the most names first; empty where there is none.

    Any one prefix may stand before a layout's names, as the attribute that a training framework keeps the network in.
    Of several readings of one network the one that knows the most names is taken, then the shortest prefix.
    """
    names = list(keys)
    readings: dict[str, tuple[int, Network]] = {}  # by the key of the network's first LKA
    for key_map in KEY_MAPS:
        for first, prefix in _first_kernels(key_map, names):
            network = Network(key_map, prefix)
            count = sum(network.to_official(name) is not None for name in names)
            best = readings.get(first)
            if best is None or (count, -len(prefix)) > (best[0], -len(best[1].prefix)):
                readings[first] = (count, network)
    return [network for _, network in sorted(readings.values(), key=lambda reading: -reading[0])]


def _first_kernels(key_map: KeyMap, names: list[str]) -> list[tuple[str, str]]:
    """(name of the first LKA's first kernel, what stands before it) for each VAN with this layout's names.

    Without a prefix any block's will do: a file that lacks the first block's is a VAN with a gap, and is called so.
    """
    signature = key_map.from_official(f"block1.0.attn.{SIGNATURE}") or ""
    found = [(name, name[: -len(signature)]) for name in names if f".{name}".endswith(f".{signature}")]
    if signature not in names:
        others = (name for name in names if (key_map.to_official(name) or "").endswith(SIGNATURE))
        found += [(name, "") for name in others][:1]
    return found


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[szi]\}|\*)", template)
    return re.compile("".join(_FIELDS.get(part, re.escape(part)) for part in parts))


def _translate(key: str, rows: Iterable[tuple[str, str]]) -> str | None:
    """``key`` rewritten by the first of the (from, to) templates that fits the whole of it."""
    for source, target in rows:
        if match := _pattern(source).fullmatch(key):
            fields = match.groupdict()
            if "s" in fields:
                fields["z"] = str(int(fields["s"]) - 1)
            elif "z" in fields:
                fields["s"] = str(int(fields["z"]) + 1)
            for field in ("s", "z", "i"):
                target = target.replace(f"{{{field}}}", fields.get(field, ""))
            return target.replace("*", fields.get("leaf", ""))
    return None
