"""``model.van``: the official names and numbers, any input size, and every box of the paper's figure on its own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edge_van.errors import UsageError
from edge_van.model.van import LKA, VAN, DropPath, lka_kernels, stage_sizes
from edge_van.model.variants import VARIANTS, Variant

Images = Callable[..., Tensor]
PARAMS_M = {"b0": 4.11, "b1": 13.86, "b2": 26.58, "b3": 44.77, "b4": 60.28, "b5": 89.97, "b6": 199.83}


def official_keys(depths: tuple[int, ...]) -> set[str]:
    """Written from the official repository's names, not from this package's modules."""

    def layer(*names: str) -> set[str]:
        return {f"{n}.{p}" for n in names for p in ("weight", "bias")}

    def batch_norm(name: str) -> set[str]:
        return layer(name) | {f"{name}.{b}" for b in ("running_mean", "running_var", "num_batches_tracked")}

    keys = layer("head")
    for s, depth in enumerate(depths, 1):
        keys |= layer(f"patch_embed{s}.proj", f"norm{s}") | batch_norm(f"patch_embed{s}.norm")
        for i in range(depth):
            block = f"block{s}.{i}"
            gate = f"{block}.attn.spatial_gating_unit"
            keys |= batch_norm(f"{block}.norm1") | batch_norm(f"{block}.norm2")
            keys |= {f"{block}.layer_scale_1", f"{block}.layer_scale_2"}
            keys |= layer(f"{block}.attn.proj_1", f"{block}.attn.proj_2")
            keys |= layer(f"{gate}.conv0", f"{gate}.conv_spatial", f"{gate}.conv1")
            keys |= layer(f"{block}.mlp.fc1", f"{block}.mlp.dwconv.dwconv", f"{block}.mlp.fc2")
    return keys


def reference(state: dict[str, Tensor], depths: tuple[int, ...], x: Tensor) -> Tensor:
    """The paper's network as plain function calls on official weights, in evaluation."""

    def conv(name: str, y: Tensor, **kwargs: int) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], **kwargs)

    def bn(name: str, y: Tensor) -> Tensor:
        w = [state[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias")]
        return (y - w[0]) / (w[1] + 1e-5).sqrt() * w[2] + w[3]

    for s, depth in enumerate(depths, 1):
        x = conv(f"patch_embed{s}.proj", x, stride=4 if s == 1 else 2, padding=3 if s == 1 else 1)
        x = bn(f"patch_embed{s}.norm", x)
        c = x.shape[1]
        for i in range(depth):
            block = f"block{s}.{i}"
            unit = f"{block}.attn.spatial_gating_unit"
            shortcut = bn(f"{block}.norm1", x)
            y = F.gelu(conv(f"{block}.attn.proj_1", shortcut))
            gate = conv(f"{unit}.conv0", y, padding=2, groups=c)
            gate = conv(f"{unit}.conv1", conv(f"{unit}.conv_spatial", gate, padding=9, dilation=3, groups=c))
            y = conv(f"{block}.attn.proj_2", gate * y) + shortcut
            x = x + state[f"{block}.layer_scale_1"][:, None, None] * y
            y = conv(f"{block}.mlp.fc1", bn(f"{block}.norm2", x))
            y = F.gelu(conv(f"{block}.mlp.dwconv.dwconv", y, padding=1, groups=y.shape[1]))
            x = x + state[f"{block}.layer_scale_2"][:, None, None] * conv(f"{block}.mlp.fc2", y)
        mean, var = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        w = [state[f"norm{s}.{p}"][:, None, None] for p in ("weight", "bias")]
        x = (x - mean) / (var + 1e-6).sqrt() * w[0] + w[1]
    return F.linear(x.mean((2, 3)), state["head.weight"], state["head.bias"])


@pytest.mark.parametrize("name", VARIANTS)
def test_official_names_and_parameter_counts(name: str):
    with torch.device("meta"):
        van = VAN(name)
    assert set(van.state_dict()) == official_keys(VARIANTS[name].depths)
    params = sum(p.numel() for p in van.parameters()) / 1e6
    assert round(params, 2) == PARAMS_M[name]
    assert params == pytest.approx(VARIANTS[name].paper_params_m, abs=0.2)


def test_forward_is_the_papers(narrow_van: VAN, images: Images):
    x = images(2, 64, 96).double()
    van = VAN(narrow_van.variant, 7).double().eval()
    van.load_state_dict(narrow_van.state_dict())
    expected = reference(van.state_dict(), van.variant.depths, x)
    assert torch.allclose(van(x), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_input_size(narrow_van: VAN, images: Images, height: int, width: int):
    x = images(1, height, width)
    with torch.no_grad():
        maps = narrow_van.forward_features(x)
        assert narrow_van(x).shape == (1, 7)
    assert [tuple(m.shape[2:]) for m in maps] == stage_sizes(height, width)
    for m, stride in zip(maps, (4, 8, 16, 32), strict=True):
        assert tuple(m.shape[2:]) == (-(-height // stride), -(-width // stride))
        assert m.isfinite().all()


def test_features_only(narrow_van: VAN, images: Images):
    van = VAN(narrow_van.variant, features_only=True).eval()
    result = van.load_state_dict(narrow_van.state_dict(), strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], ["head.weight", "head.bias"])
    x = images(2, 96, 64)
    with torch.no_grad():
        maps = van(x)
        assert [tuple(m.shape) for m in maps] == [(2, 8, 24, 16), (2, 12, 12, 8), (2, 20, 6, 4), (2, 24, 3, 2)]
        for ours, theirs in zip(maps, narrow_van.forward_features(x), strict=True):
            assert torch.equal(ours, theirs)
        logits = narrow_van.head(maps[-1].mean((2, 3)))
        assert torch.equal(logits, narrow_van(x))


def test_no_head_and_other_channels(narrow_variant: Variant, images: Images):
    van = VAN(narrow_variant, 0, in_channels=4).eval()
    assert isinstance(van.head, nn.Identity)
    with torch.no_grad():
        assert van(images(2, 32, 32, channels=4)).shape == (2, 24)


def test_every_parameter_learns(narrow_variant: Variant, images: Images):
    torch.manual_seed(0)
    van = VAN(narrow_variant, 5).train()
    van(images(4, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in van.parameters())


def test_official_initialisation():
    torch.manual_seed(0)
    van = VAN(Variant("wide", (64, 64, 64, 128), (1, 1, 1, 1), 0.0, 0.0, None), 500)
    assert float(van.head.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    block = van.block1[0]
    assert float(block.mlp.fc1.weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.1)
    assert float(block.mlp.dwconv.dwconv.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert torch.equal(block.layer_scale_1.detach(), torch.full((64,), 0.01))
    assert not any(m.bias.any() for m in van.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert {m.eps for m in van.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("bad", [{"num_classes": -1}, {"in_channels": 0}, {"drop_path_rate": 1.0}, {"dilation": 0}])
def test_arguments_that_make_no_network(narrow_variant: Variant, bad: dict):
    with pytest.raises(UsageError):
        VAN(narrow_variant, **bad)


# --- drop path ---


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2, 2) + 0.5
    y = DropPath(0.3).train()(x)
    kept = y.flatten(1).abs().sum(1) > 0
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=4 * (0.7 * 0.3 / 4000) ** 0.5)
    assert torch.allclose(y[kept], x[kept] / 0.7)
    assert not y[~kept].any()
    assert float(y.mean()) == pytest.approx(float(x.mean()), rel=0.05)


def test_drop_path_is_nothing_in_evaluation_or_at_rate_zero():
    x = torch.rand(8, 3, 2, 2)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_rates_grow_linearly_and_act_in_training_alone(narrow_variant: Variant, images: Images):
    van = VAN(narrow_variant, 5, drop_path_rate=0.8)
    rates = [m.rate for m in van.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    for p in van.parameters():  # the initial LayerScale would hide the branch
        p.data.add_(0.1)
    x = images(4, 32, 32)
    with torch.no_grad():
        van.eval()
        assert torch.equal(van(x), van(x))
        van.train()
        assert not torch.equal(van(x), van(x))


# --- large kernel attention ---


@given(k=st.integers(1, 200), d=st.integers(1, 30))
def test_lka_kernels(k: int, d: int):
    local, dilated = lka_kernels(k, d)
    assert local == 2 * d - 1
    assert (dilated - 1) * d < k <= dilated * d  # ceil(K/d) without a division
    assert (dilated - 1) * d + local >= k


def test_lka_kernels_of_the_paper_and_refusals():
    assert lka_kernels(21, 3) == (5, 7)
    for k, d in [(0, 1), (1, 0), (-3, 2)]:
        with pytest.raises(UsageError, match="at least 1"):
            lka_kernels(k, d)


@pytest.mark.parametrize(
    ("k", "d"), [(21, 3), (7, 2), (14, 3), (21, 2), (35, 3), (8, 1), (11, 3), (24, 3), (6, 2), (1, 1), (1, 4)]
)
def test_lka_keeps_the_size_and_sees_its_extent(k: int, d: int):
    lka = LKA(1, k, d).double()
    for conv in (lka.conv0, lka.conv_spatial, lka.conv1):
        nn.init.constant_(conv.weight, 1.0)
    local, dilated = 2 * d - 1, -(-k // d)
    extent = local + (dilated - 1) * d
    side = 2 * extent + 3
    x = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    seen = lka.conv1(lka.conv_spatial(lka.conv0(x)))
    assert seen.shape == x.shape
    seen[0, 0, side // 2, side // 2].backward()
    rows, columns = (x.grad[0, 0].abs().sum(dim) > 0 for dim in (1, 0))
    for line in (rows, columns):
        touched = line.nonzero().flatten()
        assert len(touched) == extent  # no hole between the dilated taps
        assert int(touched[-1] - touched[0]) + 1 == extent
        # centred; an even kernel of odd dilation has one pixel more after the centre than before it
        before, after = side // 2 - int(touched[0]), int(touched[-1]) - side // 2
        assert after - before in ((0,) if extent % 2 else (1,))


@settings(max_examples=25)
@given(k=st.integers(1, 24), d=st.integers(1, 5), height=st.integers(1, 12), width=st.integers(1, 12))
def test_lka_gates_its_input_at_any_size(k: int, d: int, height: int, width: int):
    lka = LKA(2, k, d)
    x = torch.randn(1, 2, height, width)
    with torch.no_grad():
        y = lka(x)
        assert y.shape == x.shape
        assert torch.equal(y, x * lka.conv1(lka.conv_spatial(lka.conv0(x))))
        assert torch.equal(lka(torch.zeros_like(x)), torch.zeros_like(x))
