"""``complexity``: counted figures against the paper's, and the paper's complexity formulas against real layers."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edge_van.errors import UsageError
from edge_van.model import van
from edge_van.model.complexity import best_dilation, complexity_table, variant_table
from edge_van.model.van import LKA
from edge_van.model.variants import VARIANTS

COUNTED_GMACS = {"b0": 0.86, "b1": 2.50, "b2": 4.99, "b3": 8.93, "b4": 12.14, "b5": 17.13, "b6": 38.71}
COUNTED_PARAMS_M = {"b0": 4.11, "b1": 13.86, "b2": 26.58, "b3": 44.77, "b4": 60.28, "b5": 89.97, "b6": 199.83}


def test_all_variants_at_224():
    rows = variant_table()
    assert [row.name for row in rows] == list(VARIANTS)
    for row in rows:
        assert round(row.macs / 1e9, 2) == COUNTED_GMACS[row.name]
        assert round(row.params / 1e6, 2) == COUNTED_PARAMS_M[row.name]
        assert row.macs / 1e9 == pytest.approx(row.paper_gmacs, abs=0.2)
        assert row.params / 1e6 == pytest.approx(row.paper_params_m, abs=0.2)
        assert (row.embed_dims, row.depths) == (VARIANTS[row.name].embed_dims, VARIANTS[row.name].depths)
    assert [row.paper_top1_percent for row in rows] == [75.4, 81.1, 82.8, 83.9, 84.2, None, None]


def test_macs_by_hand_on_one_pixel():
    # at 1x1 every map is 1x1: MACs are the weights of the convolutions and the head, with nothing for the biases
    [row] = variant_table(["b0"], (1, 1))
    weights = 49 * 3 * 32 + 9 * (32 * 64 + 64 * 160 + 160 * 256) + 256 * 1000
    for dim, ratio, depth in zip((32, 64, 160, 256), (8, 8, 4, 4), (3, 3, 5, 2), strict=True):
        weights += depth * (3 * dim * dim + (25 + 49) * dim + 2 * ratio * dim * dim + 9 * ratio * dim)
    assert row.macs == weights


def test_names_and_sizes():
    rows = variant_table(["b2", "b0"], (64, 128))
    assert [row.name for row in rows] == ["b2", "b0"]
    assert variant_table(["b0"], (448, 224))[0].macs > 1.9 * variant_table(["b0"])[0].macs
    assert variant_table([]) == []
    with pytest.raises(UsageError, match="unknown variant 'b7'"):
        variant_table(["b7"])
    for size in [(0, 224), (224, 9000), (224,)]:
        with pytest.raises(UsageError, match="input_size"):
            variant_table(["b0"], size)


def test_paper_numbers():
    rows = complexity_table(21, channels=64, height=7, width=5, dilations=range(1, 5))
    assert [(r.form, r.dilation) for r in rows] == [
        ("plain", None),
        ("depthwise_separable", None),
        *(("decomposed", d) for d in range(1, 5)),
    ]
    assert [r.params for r in rows] == [
        64 * 64 * 441,
        64 * (441 + 64),
        64 * (442 + 64),
        64 * (130 + 64),
        64 * (74 + 64),
        64 * (85 + 64),
    ]
    assert all(r.macs == 35 * r.params for r in rows)


@settings(max_examples=30)
@given(k=st.integers(1, 40), d=st.integers(1, 6), c=st.integers(1, 16))
def test_formulas_count_real_layers(k: int, d: int, c: int):
    def weights(module: nn.Module) -> int:
        return sum(p.numel() for name, p in module.named_parameters() if name.endswith("weight"))

    plain, separable, decomposed = complexity_table(k, channels=c, height=2, width=3, dilations=[d])
    assert plain.params == weights(nn.Conv2d(c, c, k))
    assert separable.params == weights(nn.Sequential(nn.Conv2d(c, c, k, groups=c), nn.Conv2d(c, c, 1)))
    assert decomposed.params == weights(LKA(c, k, d))
    assert decomposed.macs == decomposed.params * 6


@given(st.integers(1, 300))
def test_best_dilation_is_the_cheapest(k: int):
    rows = complexity_table(k, channels=1, dilations=range(1, k + 1))[2:]
    best = best_dilation(k)
    assert rows[best - 1].params == min(r.params for r in rows)
    assert all(r.params > rows[best - 1].params for r in rows[: best - 1])


def test_the_kernels_are_the_networks_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(van, "lka_kernels", lambda kernel_size, dilation: (10 * dilation, kernel_size))
    (decomposed,) = complexity_table(3, channels=1, dilations=[2])[2:]
    assert decomposed.params == 20**2 + 3**2 + 1


def test_best_dilation_of_the_paper():
    assert (best_dilation(21), best_dilation(1)) == (3, 1)


@pytest.mark.parametrize("bad", [{"kernel_size": 0}, {"channels": 0}, {"height": -1}, {"width": 0}, {"dilations": [0]}])
def test_sizes_under_one_are_refused(bad: dict):
    with pytest.raises(UsageError, match="at least 1"):
        complexity_table(**bad)


def test_best_dilation_refuses_no_kernel():
    with pytest.raises(UsageError, match="at least 1"):
        best_dilation(0)


def test_import_needs_no_torch():
    code = "import sys; import edge_van.model.complexity; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
