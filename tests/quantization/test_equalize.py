"""``edge_van.quantization.equalize``: the same function in other numbers, with channels of like range."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edge_van.errors import VerificationError
from edge_van.model.fold import FoldedBlock, FoldedVAN, fold, relative_error
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization import equalize as equalize_module
from edge_van.quantization.equalize import equalize

Images = Callable[..., Tensor]
Spread = Callable[[nn.Module, int], nn.Module]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def batches(images: Images) -> list[Tensor]:
    return [images(4, *SIZE, seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, SIZE)[0]


@torch.no_grad()
def input_maxima(model: FoldedVAN, batches: list[Tensor]) -> dict[str, Tensor]:
    """max |x| per input channel of every layer, watched from outside."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        m.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].abs().amax((0, 2, 3)))
        )
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
    ]
    for batch in batches:
        model(batch)
    for handle in handles:
        handle.remove()
    return {name: torch.stack(highs).amax(0) for name, highs in seen.items()}


def spread(maxima: Tensor) -> float:
    return float(maxima.max() / maxima.min())


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_the_function_stays(folded: FoldedVAN, batches: list[Tensor], images: Images, strength: float):
    result = equalize(folded, batches, strength=strength)
    with torch.no_grad():
        unseen = images(4, *SIZE, seed=9) * 3
        assert relative_error(result(unseen), folded(unseen)) < 1e-4
        double = copy.deepcopy(result).double(), copy.deepcopy(folded).double()
        assert relative_error(double[0](unseen.double()), double[1](unseen.double())) < 1e-5


def test_the_ranges_get_equal(folded: FoldedVAN, batches: list[Tensor]):
    result = equalize(folded, batches)
    before, after = (input_maxima(m, batches) for m in (folded, result))
    for name in before:
        if name.endswith(("conv_spatial", "conv1", "mlp.dwconv.dwconv")) and not name.startswith("block4"):
            assert spread(before[name]) > 2
            assert spread(after[name]) == pytest.approx(1, abs=1e-3), name
            # the tensor's scale as a whole, the geometric mean of its channels, is kept
            assert float(after[name].log().mean()) == pytest.approx(float(before[name].log().mean()), abs=1e-3)
        if name.endswith(("conv0", "fc2")):  # behind a GELU nothing may be rescaled
            assert torch.allclose(after[name], before[name], rtol=1e-3)
    for s, depth in enumerate(folded.variant.depths, 1):
        # blocks joined by plain additions share one factor: the largest range over all of them is alike
        shared = after[f"block{s}.0.attn.proj_1"]
        for j in range(depth):
            if result.get_submodule(f"block{s}.{j}").residual_scale is not None:
                assert spread(shared) == pytest.approx(1, abs=1e-3)
                shared = torch.zeros_like(shared)
            own = after[f"block{s}.{j}.mlp.fc1"]
            if j + 1 < depth:  # one scale for the residual after the attention and after the feed-forward
                own = torch.maximum(own, after[f"block{s}.{j + 1}.attn.proj_1"])
            shared = torch.maximum(shared, own)
        assert spread(shared) == pytest.approx(1, abs=1e-3)


def test_shortcuts_become_plain_additions(folded: FoldedVAN, batches: list[Tensor]):
    gentle = copy.deepcopy(folded)
    for module in gentle.modules():
        if isinstance(module, FoldedBlock):
            module.residual_scale = module.residual_scale.abs() + 0.2
    result = equalize(gentle, batches)
    blocks = [m for m in result.modules() if isinstance(m, FoldedBlock)]
    assert all(b.residual_scale is None for b in blocks)
    assert sum(b.output_scale is not None for b in blocks) == 4
    assert relative_error(result(batches[0]), gentle(batches[0])) < 1e-4


def test_a_residual_scale_near_zero_stays_a_multiplication(folded: FoldedVAN, batches: list[Tensor]):
    model = copy.deepcopy(folded)
    model.block2[0].residual_scale[0, 1] = 1e-4
    result = equalize(model, batches)
    assert result.block2[0].residual_scale is not None
    assert relative_error(result(batches[0]), model(batches[0])) < 1e-4


def test_half_the_strength_halves_the_spread(folded: FoldedVAN, batches: list[Tensor]):
    name = "block2.0.attn.spatial_gating_unit.conv_spatial"
    before, after = (input_maxima(m, batches)[name] for m in (folded, equalize(folded, batches, strength=0.5)))
    assert math.log(spread(after)) == pytest.approx(0.5 * math.log(spread(before)), rel=1e-3)


def test_no_strength_changes_nothing(folded: FoldedVAN, batches: list[Tensor]):
    result = equalize(folded, batches, strength=0.0)
    state = result.state_dict()
    for name, tensor in folded.state_dict().items():
        assert torch.equal(state.pop(name), tensor), name
    assert not state


def test_the_model_given_is_untouched(folded: FoldedVAN, batches: list[Tensor]):
    before = {name: tensor.clone() for name, tensor in folded.state_dict().items()}
    result = equalize(folded, batches)
    assert all(torch.equal(before[name], tensor) for name, tensor in folded.state_dict().items())
    assert list(folded.state_dict()) == list(before)
    assert not any(m._forward_pre_hooks for m in [*folded.modules(), *result.modules()])
    assert (result.input_size, result.variant, result.training) == (folded.input_size, folded.variant, False)
    assert {t.dtype for t in result.state_dict().values()} == {torch.float32}


def test_equalising_twice_changes_little(folded: FoldedVAN, batches: list[Tensor]):
    once = equalize(folded, batches)
    twice = equalize(once, batches)
    with torch.no_grad():
        assert relative_error(twice(batches[0]), folded(batches[0])) < 1e-4


def test_dead_channels(folded: FoldedVAN, batches: list[Tensor]):
    model = copy.deepcopy(folded)
    unit = model.block1[0].attn.spatial_gating_unit
    for conv in (unit.conv0, unit.conv_spatial, unit.conv1, model.block2[0].mlp.fc1, model.patch_embed3.proj):
        conv.weight[2] = 0.0
        conv.bias[2] = 0.0
    for layer in (model.block4[0].attn.proj_1, model.block4[0].mlp.fc1):  # not one living channel
        layer.weight.zero_()
        layer.bias.zero_()
    result = equalize(model, batches)
    assert all(t.isfinite().all() for t in result.state_dict().values())
    with torch.no_grad():
        assert relative_error(result(batches[1]), model(batches[1])) < 1e-4
    living = input_maxima(result, batches)["block1.0.attn.spatial_gating_unit.conv_spatial"]
    assert float(living[2]) == 0.0
    assert spread(living[living > 0]) == pytest.approx(1, abs=1e-3)


def test_no_images_are_refused(folded: FoldedVAN):
    with pytest.raises(VerificationError, match="at least one batch"):
        equalize(folded, [])


def test_any_iterable_of_batches(folded: FoldedVAN, batches: list[Tensor]):
    ours, theirs = equalize(folded, iter(batches)), equalize(folded, batches)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_a_broken_rescaling_is_caught(monkeypatch: pytest.MonkeyPatch, folded: FoldedVAN, batches: list[Tensor]):
    monkeypatch.setattr(equalize_module, "_multiply_columns_", lambda conv, factor: None)
    with pytest.raises(VerificationError, match="equalisation changed the network"):
        equalize(folded, batches)


@settings(max_examples=10)
@given(
    dims=st.tuples(*[st.integers(2, 20)] * 4),
    depths=st.tuples(*[st.integers(1, 3)] * 4),
    side=st.integers(8, 64),
    strength=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_narrow_van_keeps_its_function(
    randomize_bn_: Spread, images: Images, dims: tuple, depths: tuple, side: int, strength: float, seed: int
):
    torch.manual_seed(seed)
    van = VAN(Variant("any", dims, depths, 0.0, 0.0, None), 5)
    randomize_bn_(van, seed)
    folded, _ = fold(van, (side, side))
    result = equalize(folded, [images(2, side, side, seed=seed)], strength=strength)
    with torch.no_grad():
        unseen = images(2, side, side, seed=seed + 1)
        assert relative_error(result(unseen), folded(unseen)) < 1e-4
