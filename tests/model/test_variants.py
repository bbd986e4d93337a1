"""``edge_van.model.variants``: the published table, and rows of one's own that cannot be meant."""

import dataclasses

import pytest

from edge_van.errors import UsageError
from edge_van.model.variants import VARIANTS, Variant, get_variant, match_variant

# name: embed dims, depths, params M, GMACs, top-1, published file (the official repository's table)
PUBLISHED = {
    "b0": ((32, 64, 160, 256), (3, 3, 5, 2), 4.1, 0.9, 75.4, ("VAN-Tiny-original", "van_tiny_754.pth.tar")),
    "b1": ((64, 128, 320, 512), (2, 2, 4, 2), 13.9, 2.5, 81.1, ("VAN-Small-original", "van_small_811.pth.tar")),
    "b2": ((64, 128, 320, 512), (3, 3, 12, 3), 26.6, 5.0, 82.8, ("VAN-Base-original", "van_base_828.pth.tar")),
    "b3": ((64, 128, 320, 512), (3, 5, 27, 3), 44.8, 9.0, 83.9, ("VAN-Large-original", "van_large_839.pth.tar")),
    "b4": ((64, 128, 320, 512), (3, 6, 40, 3), 60.3, 12.2, 84.2, None),
    "b5": ((96, 192, 480, 768), (3, 3, 24, 3), 90.0, 17.2, None, None),
    "b6": ((96, 192, 384, 768), (6, 6, 90, 6), 200.0, 38.9, None, None),
}


def test_the_table():
    assert list(VARIANTS) == list(PUBLISHED)
    for name, (dims, depths, params, gmacs, top1, published) in PUBLISHED.items():
        v = get_variant(name)
        assert (v.name, v.embed_dims, v.depths, v.mlp_ratios) == (name, dims, depths, (8, 8, 4, 4))
        assert (v.paper_params_m, v.paper_gmacs, v.paper_top1_percent) == (params, gmacs, top1)
        if published is None:
            assert (v.hub_repo, v.hub_file) == (None, None)
        else:
            assert (v.hub_repo, v.hub_file) == ("Visual-Attention-Network/" + published[0], published[1])


@pytest.mark.parametrize("name", ["b7", "", "B0", "van-tiny"])
def test_an_unknown_name_lists_the_known(name: str):
    with pytest.raises(UsageError, match="b0, b1, b2, b3, b4, b5, b6"):
        get_variant(name)


def test_match_variant():
    assert [match_variant(v.embed_dims, v.depths) for v in VARIANTS.values()] == list(VARIANTS)
    assert match_variant((32, 64, 160, 256), (3, 3, 5, 3)) is None
    assert match_variant((32, 64, 160, 256), (3, 3, 5, 2), (4, 4, 4, 4)) is None
    assert match_variant((32, 64, 160), (3, 3, 5)) is None


@pytest.mark.parametrize(
    ("dims", "depths", "ratios"),
    [
        ((8, 8, 8), (1, 1, 1), (4, 4, 4)),
        ((8, 8, 8, 8), (1, 1, 1), (4, 4, 4, 4)),
        ((8, 8, 8, 8), (1, 1, 1, 1), (4, 4, 4, 4, 4)),
        ((8, 8, 8, 0), (1, 1, 1, 1), (4, 4, 4, 4)),
        ((8, 8, 8, 8), (1, 1, 0, 1), (4, 4, 4, 4)),
        ((8, 8, 8, 8), (1, 1, 1, 1), (4, 4, 4, -1)),
    ],
)
def test_rows_that_are_no_van_are_refused(dims: tuple, depths: tuple, ratios: tuple):
    with pytest.raises(UsageError, match="variant mine"):
        Variant("mine", dims, depths, 0.0, 0.0, None, ratios)


def test_a_row_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_variant("b0").name = "b1"
