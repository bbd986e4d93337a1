"""``model.fold``: the BN-free form computes the same function, its crop is exact, and a broken fold is caught."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edge_van.errors import UsageError, VerificationError
from edge_van.model import fold as fold_module
from edge_van.model.fold import FoldedVAN, bn_affine, crop_kernel_, fold, relative_error
from edge_van.model.van import VAN, PatchEmbed
from edge_van.model.variants import VARIANTS, Variant, get_variant

Images = Callable[..., Tensor]
Spread = Callable[[nn.Module, int], nn.Module]

# the deep ones at full width: what they add to b3 is depth, and a block is a block
REDUCED_DEPTHS = {"b4": (1, 2, 2, 1), "b5": (1, 1, 2, 1), "b6": (1, 1, 2, 1)}


@torch.no_grad()
def settle_(van: VAN, batch: Tensor) -> None:
    """Running statistics as training leaves them; made-up ones make the gates of a deep VAN overflow."""
    for m in van.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    van.train()(batch)
    van.eval()


def assert_no_batch_norm(model: nn.Module) -> None:
    assert not [m for m in model.modules() if "BatchNorm" in type(m).__name__]


def kernels(folded: FoldedVAN, layer: str) -> list[tuple[int, int]]:
    """The kernel of ``conv0`` or ``conv_spatial`` in each stage."""
    found = []
    for s in range(1, 5):
        convs = [m for name, m in folded.named_modules() if name.startswith(f"block{s}.") and name.endswith(layer)]
        [shape] = {c.kernel_size for c in convs}
        assert {tuple(c.weight.shape[2:]) for c in convs} == {shape}
        found.append(shape)
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name: str, randomize_bn_: Spread, images: Images):
    torch.manual_seed(0)
    row = get_variant(name)
    van = VAN(replace(row, depths=REDUCED_DEPTHS.get(name, row.depths)), 10)
    randomize_bn_(van, 0)
    settle_(van, images(4, 64, 64, seed=1))
    folded, check = fold(van, (64, 64))
    assert_no_batch_norm(folded)
    assert check.max_relative_error < 1e-4
    assert check.batch_norms_folded == 4 + 2 * sum(van.variant.depths)
    # at 64 px the maps are 16, 8, 4 and 2 wide: the dilated kernel loses rings in stages 2 to 4, the local in stage 4
    assert check.kernels_cropped == sum(van.variant.depths[1:]) + van.variant.depths[3]
    with torch.no_grad():
        x = images(2, 64, 64, seed=2)
        expected = van(x)
        assert expected.std() > 1e-3
        assert relative_error(folded(x), expected) < 1e-4


@settings(max_examples=12)
@given(
    dims=st.tuples(*[st.integers(1, 24)] * 4),
    depths=st.tuples(*[st.integers(1, 2)] * 4),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    seed=st.integers(0, 2**31),
)
def test_any_narrow_van(
    randomize_bn_: Spread, images: Images, dims: tuple, depths: tuple, size: tuple[int, int], seed: int
):
    torch.manual_seed(seed)
    van = VAN(Variant("any", dims, depths, 0.0, 0.0, None), 5)
    randomize_bn_(van, seed)
    van.eval()
    x = images(2, *size, seed=seed).double()
    with torch.no_grad():
        double = copy.deepcopy(van).double()
        assert relative_error(FoldedVAN(copy.deepcopy(double), size).eval()(x), double(x)) < 1e-10
        folded, check = fold(van, size)
        assert check.max_relative_error < 1e-4
        assert relative_error(folded(x.float()), van(x.float())) < 1e-4
    assert_no_batch_norm(folded)


def test_b0_at_224_in_double(randomize_bn_: Spread, images: Images):
    torch.manual_seed(1)
    van = VAN("b0", 10)
    randomize_bn_(van, 4)
    settle_(van, images(2, 64, 64))
    van.double()
    x = images(1, 224, 224).double()
    with torch.no_grad():
        assert relative_error(FoldedVAN(copy.deepcopy(van), (224, 224))(x), van(x)) < 1e-10


@pytest.mark.parametrize("k_d", [(35, 3), (14, 3), (24, 3), (6, 2), (7, 1)])
def test_other_kernels(narrow_variant: Variant, randomize_bn_: Spread, k_d: tuple[int, int]):
    van = VAN(narrow_variant, 5, in_channels=1, kernel_size=k_d[0], dilation=k_d[1])
    randomize_bn_(van, 2)
    _, check = fold(van, (48, 32))
    assert check.max_relative_error < 1e-4


def test_batch_norms_without_affine(narrow_variant: Variant):
    van = VAN(narrow_variant, 5)
    for module in list(van.modules()):
        if isinstance(module, PatchEmbed):
            module.norm = nn.BatchNorm2d(module.proj.out_channels, affine=False)
    folded, _ = fold(van, (32, 32))
    assert_no_batch_norm(folded)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_come_out_in_float32(narrow_van: VAN, dtype: torch.dtype):
    folded, check = fold(copy.deepcopy(narrow_van).to(dtype), (32, 32))
    assert {t.dtype for t in folded.state_dict().values()} == {torch.float32}
    assert check.max_relative_error < 1e-4


def test_bn_affine():
    bn = nn.BatchNorm2d(1, eps=0.25)
    for tensor, value in ((bn.running_mean, 3.0), (bn.running_var, 3.75), (bn.weight.data, -4.0), (bn.bias.data, 1.0)):
        tensor.fill_(value)
    scale, shift = bn_affine(bn)  # 4 * (x - 3) / sqrt(4), negative
    assert (float(scale), float(shift)) == (-2.0, 7.0)
    assert not scale.requires_grad
    assert not shift.requires_grad


# --- what the result is ---


def test_layer_names_and_state(narrow_van: VAN):
    folded, _ = fold(narrow_van, (64, 64))
    gone = ("norm1", "norm2", "layer_scale_1", "layer_scale_2")
    expected = {
        k
        for k in narrow_van.state_dict()
        if not (any(part in gone for part in k.split(".")) and k.startswith("block"))
        and not (k.startswith("patch_embed") and ".norm." in k)
    }
    residual = {f"block{s}.{i}.residual_scale" for s, d in enumerate(narrow_van.variant.depths, 1) for i in range(d)}
    assert set(folded.state_dict()) == expected | residual
    assert {t.dtype for t in folded.state_dict().values()} == {torch.float32}
    assert not folded.training
    assert not any(p.requires_grad for p in folded.parameters())
    assert (folded.variant, folded.num_classes, folded.input_size) == (narrow_van.variant, 7, (64, 64))


def test_the_original_is_unchanged(narrow_variant: Variant, randomize_bn_: Spread):
    van = VAN(narrow_variant, 5, drop_path_rate=0.5)
    randomize_bn_(van, 0)
    van.train()
    before = {name: tensor.clone() for name, tensor in van.state_dict().items()}
    folded, _ = fold(van, (32, 32))
    assert van.training
    assert all(m.training for m in van.modules())
    assert all(p.requires_grad for p in van.parameters())
    assert list(van.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in van.state_dict().items())
    addresses = {t.data_ptr() for t in van.state_dict().values()}
    assert not addresses & {t.data_ptr() for t in folded.state_dict().values()}


# --- the crop ---


@pytest.mark.parametrize(
    ("size", "dilated", "local"),
    [
        ((224, 224), [(7, 7), (7, 7), (7, 7), (5, 5)], [(5, 5)] * 4),
        ((64, 64), [(7, 7), (5, 5), (3, 3), (1, 1)], [(5, 5), (5, 5), (5, 5), (3, 3)]),
        ((32, 32), [(5, 5), (3, 3), (1, 1), (1, 1)], [(5, 5), (5, 5), (3, 3), (1, 1)]),
        ((64, 224), [(7, 7), (5, 7), (3, 7), (1, 5)], [(5, 5), (5, 5), (5, 5), (3, 5)]),
        ((1, 1), [(1, 1)] * 4, [(1, 1)] * 4),
    ],
)
def test_rings_that_read_only_padding_go(narrow_van: VAN, images: Images, size: tuple, dilated: list, local: list):
    folded, check = fold(narrow_van, size)
    assert kernels(folded, "conv_spatial") == dilated
    assert kernels(folded, "conv0") == local
    full = FoldedVAN(copy.deepcopy(narrow_van), (512, 512)).eval()
    assert full.kernels_cropped == 0
    assert check.kernels_cropped > 0
    with torch.no_grad():
        x = images(2, *size, seed=3)
        assert relative_error(folded(x), full(x)) < 1e-5


@settings(max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dilation=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    side=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_crop_is_exact_and_complete(kernel: tuple[int, int], dilation: tuple[int, int], side: tuple[int, int]):
    total = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    assume(not any(t % 2 for t in total))
    conv = nn.Conv2d(3, 3, kernel, padding=(total[0] // 2, total[1] // 2), dilation=dilation, groups=3).double()
    x = torch.randn(2, 3, *side, dtype=torch.float64)
    with torch.no_grad():
        expected = conv(x)
        cropped = crop_kernel_(conv, side)
        assert torch.allclose(conv(x), expected, rtol=0, atol=1e-12)
    wanted = []
    for k, d, t, s in zip(kernel, dilation, total, side, strict=True):
        offsets = [-t // 2 + i * d for i in range(k)]
        reached = sum(abs(o) <= s - 1 for o in offsets)
        wanted.append(reached or 2)  # an even kernel that reaches nothing keeps its innermost pair
    assert conv.kernel_size == tuple(wanted) == tuple(conv.weight.shape[2:])
    assert cropped == (conv.kernel_size != kernel)
    assert not crop_kernel_(conv, side)


@pytest.mark.parametrize("kwargs", [{"stride": 2, "padding": 3}, {"padding": "same"}, {"padding": 0}, {"padding": 5}])
def test_crop_leaves_other_convolutions_alone(kwargs: dict):
    conv = nn.Conv2d(2, 2, 7, **kwargs)
    weight = conv.weight.clone()
    assert not crop_kernel_(conv, (1, 1))
    assert torch.equal(conv.weight, weight)


# --- what it refuses ---


@pytest.mark.parametrize("kwargs", [{"features_only": True}, {"num_classes": 0}])
def test_a_van_without_head_is_refused(narrow_variant: Variant, kwargs: dict):
    with pytest.raises(UsageError, match="classification head"):
        fold(VAN(narrow_variant, **kwargs), (32, 32))


def test_sizes_and_statistics_that_cannot_be(narrow_van: VAN):
    with pytest.raises(UsageError, match="at least 1x1"):
        fold(narrow_van, (0, 32))
    van = copy.deepcopy(narrow_van)
    van.block2[1].norm2 = nn.BatchNorm2d(12, track_running_stats=False)
    with pytest.raises(UsageError, match="running statistics"):
        fold(van, (32, 32))


def drop_bias(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    conv.weight.data.mul_(scale.view(1, -1, 1, 1))


def drop_shift(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    conv.weight.data.mul_(scale.view(-1, 1, 1, 1))
    conv.bias.data.mul_(scale)


def over_crop(conv: nn.Conv2d, side: tuple[int, int]) -> bool:
    return crop_kernel_(conv, (2, 2))


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        ("_absorb_input_affine_", drop_bias),
        ("_scale_rows_", drop_shift),
        ("crop_kernel_", over_crop),
        ("layer_norm_map", lambda x, norm: x),
    ],
)
def test_a_broken_fold_is_caught(
    monkeypatch: pytest.MonkeyPatch, narrow_van: VAN, function: str, broken: Callable[..., object]
):
    monkeypatch.setattr(fold_module, function, broken)
    with pytest.raises(VerificationError, match="differs from the original"):
        fold(narrow_van, (64, 64))


def test_a_batch_norm_left_behind_is_caught(monkeypatch: pytest.MonkeyPatch, narrow_van: VAN):
    monkeypatch.setattr(fold_module, "_fold_patch_embed", lambda embed: embed)
    with pytest.raises(VerificationError, match=r"left 4 BatchNorm layers, the first is patch_embed1\.norm"):
        fold(narrow_van, (64, 64))


def test_weights_that_are_not_numbers_are_caught(narrow_van: VAN):
    van = copy.deepcopy(narrow_van)
    van.block3[0].mlp.fc1.weight.data[0, 0] = float("nan")
    with pytest.raises(VerificationError, match="nan"):
        fold(van, (32, 32))


def test_what_stock_fusers_make_of_a_van(randomize_bn_: Spread, images: Images):
    """The reason for this package's own fold: torchao's takes patch_embed's BatchNorm, whose output has two readers,
    for the end of a fusable chain. If this ever fails because upstream has mended it, say so in
    docs/how-it-works.md."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer import Quantizer

    class Nothing(Quantizer):
        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            return model

        def validate(self, model: torch.fx.GraphModule) -> None:
            pass

    torch.manual_seed(0)
    van = VAN("b0", 10)
    randomize_bn_(van, 0)
    settle_(van, images(4, 64, 64, seed=1))
    x = images(2, 64, 64, seed=2)
    with torch.no_grad():
        expected = van(x)
        captured = torch.export.export(van, (x,)).module()
        assert relative_error(captured(x), expected) < 1e-4
        fused = prepare_pt2e(captured, Nothing())
        assert relative_error(fused(x), expected) > 0.1
        assert relative_error(fold(van, (64, 64))[0](x), expected) < 1e-4
