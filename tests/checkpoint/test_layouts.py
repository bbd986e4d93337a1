"""The layouts' key maps: bijective for every published variant and for any numbers a name can hold."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_van.checkpoint.layouts import KEY_MAPS, OFFICIAL_KEYS, KeyMap, Network, detect_networks, strip_wrappers
from edge_van.model.van import VAN
from edge_van.model.variants import VARIANTS

BY_NAME = {key_map.name: key_map for key_map in KEY_MAPS}


@cache  # when it is asked for: every worker, and whoever runs another file, imports this module
def official_names(variant: str) -> list[str]:
    with torch.device("meta"):
        return list(VAN(variant).state_dict())


block_modules = st.sampled_from(
    ["norm1", "norm2", "attn.proj_1", "attn.proj_2", "mlp.fc1", "mlp.fc2", "mlp.dwconv.dwconv"]
    + [f"attn.spatial_gating_unit.{conv}" for conv in ("conv0", "conv_spatial", "conv1")]
)
leaves = st.sampled_from(["weight", "bias", "running_mean", "running_var", "num_batches_tracked"])
blocks = st.builds("block{}.{}".format, st.integers(1, 4), st.integers(0, 9999))
official_keys = st.one_of(
    st.builds("{}.{}.{}".format, blocks, block_modules, leaves),
    st.builds("{}.layer_scale_{}".format, blocks, st.integers(1, 2)),
    st.builds("patch_embed{}.{}.{}".format, st.integers(1, 4), st.sampled_from(["proj", "norm"]), leaves),
    st.builds("norm{}.{}".format, st.integers(1, 4), leaves),
    st.builds("head.{}".format, leaves),
)


@pytest.mark.parametrize("key_map", KEY_MAPS, ids=lambda m: m.name)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_of_every_variant_goes_there_and_back(key_map: KeyMap, variant: str):
    theirs = [key_map.from_official(name) for name in official_names(variant)]
    assert None not in theirs
    assert len(set(theirs)) == len(theirs)
    assert [key_map.to_official(name) for name in theirs] == official_names(variant)


@given(st.sampled_from(KEY_MAPS), official_keys)
def test_any_official_key_goes_there_and_back(key_map: KeyMap, key: str):
    theirs = key_map.from_official(key)
    assert theirs is not None
    assert key_map.to_official(theirs) == key


@given(st.sampled_from(KEY_MAPS), official_keys, official_keys)
def test_no_two_keys_share_a_name(key_map: KeyMap, one: str, other: str):
    assert (key_map.from_official(one) == key_map.from_official(other)) == (one == other)


@given(st.sampled_from(KEY_MAPS), st.text(max_size=60))
def test_a_name_that_is_read_is_written_the_same(key_map: KeyMap, text: str):
    official = key_map.to_official(text)
    assert official is None or key_map.from_official(official) == text


@given(
    st.lists(st.sampled_from(["module.", "_orig_mod.", "model."]), max_size=4), st.sampled_from(KEY_MAPS), official_keys
)
def test_wrappers_come_off_however_nested(wrappers: list[str], key_map: KeyMap, key: str):
    theirs = key_map.from_official(key)
    assert theirs is not None
    assert strip_wrappers("".join(wrappers) + theirs) == theirs


def test_a_compiled_part_loses_its_wrapper():
    assert strip_wrappers("block1.0._orig_mod.mlp.fc1.weight") == "block1.0.mlp.fc1.weight"


@pytest.mark.parametrize("name", ["official", "huggingface", "mmpretrain", "mmseg", "huggingface-base"])
def test_a_layout_is_known_by_its_names(name: str):
    theirs = [BY_NAME[name].from_official(key) for key in official_names("b0")]
    assert detect_networks(theirs) == [Network(BY_NAME[name])]


@pytest.mark.parametrize("name", ["official", "huggingface", "mmpretrain", "mmseg", "huggingface-base"])
@given(prefix=st.lists(st.sampled_from(["net", "student", "x1", "layers.0"]), min_size=1, max_size=3))
def test_a_layout_is_known_behind_any_prefix(name: str, prefix: list[str]):
    before = "".join(f"{part}." for part in prefix)
    theirs = [f"{before}{BY_NAME[name].from_official(key)}" for key in official_names("b0")]
    [found] = detect_networks(theirs)
    assert [found.to_official(key) for key in theirs] == official_names("b0")
    assert found == Network(BY_NAME[name], before)


def test_two_networks_are_two():
    names = official_names("b0")
    found = detect_networks([*names, *(f"teacher.{name}" for name in names[:-2])])
    assert found == [Network(OFFICIAL_KEYS), Network(OFFICIAL_KEYS, "teacher.")]


def test_relatives_with_the_same_stem_are_no_van():
    pvt = ["patch_embed1.proj.weight", "block1.0.norm1.weight", "block1.0.attn.q.weight", "norm1.weight", "head.weight"]
    assert detect_networks(pvt) == []
    assert detect_networks(["conv1.weight", "fc.bias"]) == []
    assert detect_networks([]) == []


@pytest.mark.parametrize(
    "key",
    [
        "patch_embed5.proj.weight",
        "patch_embed0.proj.weight",
        "block1.00.norm1.weight",
        "block1.-1.norm1.weight",
        "block1.99999.norm1.weight",
        "block1.0.norm1.weight\n",
        "block1.٣.norm1.weight",
        "block1.0.layer_scale_1.weight",
        "block1.0.attn.spatial_gating_unit.DW_conv.weight",
        "norm1.gamma",
        " head.weight",
    ],
)
def test_what_only_looks_like_a_name_is_none(key: str):
    assert OFFICIAL_KEYS.to_official(key) is None


@pytest.mark.parametrize(
    ("official", "layout", "theirs"),
    [
        # as the published files have them
        ("patch_embed1.proj.bias", "huggingface", "van.encoder.stages.0.embeddings.convolution.bias"),
        ("block4.1.norm1.running_var", "huggingface", "van.encoder.stages.3.layers.1.pre_normomalization.running_var"),
        ("block2.0.layer_scale_2", "huggingface", "van.encoder.stages.1.layers.0.mlp_scaling.weight"),
        ("norm4.weight", "huggingface", "van.encoder.stages.3.normalization.weight"),
        ("head.weight", "huggingface", "classifier.weight"),
        ("patch_embed1.proj.bias", "mmpretrain", "backbone.patch_embed1.projection.bias"),
        ("block3.10.mlp.dwconv.dwconv.weight", "mmpretrain", "backbone.blocks3.10.mlp.dwconv.weight"),
        (
            "block1.0.attn.spatial_gating_unit.conv_spatial.weight",
            "mmpretrain",
            "backbone.blocks1.0.attn.spatial_gating_unit.DW_D_conv.weight",
        ),
        ("head.weight", "mmpretrain", "head.fc.weight"),
        ("block3.10.mlp.dwconv.dwconv.weight", "mmseg", "backbone.block3.10.mlp.dwconv.dwconv.weight"),
    ],
)
def test_names_as_they_are_in_the_wild(official: str, layout: str, theirs: str):
    assert BY_NAME[layout].from_official(official) == theirs
    assert BY_NAME[layout].to_official(theirs) == official


def test_hugging_face_names_are_those_of_its_own_class():
    transformers = pytest.importorskip("transformers", minversion="4.57", reason="the last releases with a VAN")
    if not hasattr(transformers, "VanConfig"):
        pytest.skip("this transformers has no VAN")
    with torch.device("meta"):
        theirs = set(transformers.VanForImageClassification(transformers.VanConfig(num_labels=1000)).state_dict())
    layout = BY_NAME["huggingface"]
    assert theirs == {layout.from_official(name) for name in official_names("b2")} | set(layout.unused)
