"""Checkpoints of every layout load exactly, and the package's own files come back as they were written."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_samples import SMALL, SPEC, State, assert_same, official_file, refused, renamed, saved, small_van

from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.checkpoint.preprocessing import FLAGS
from edge_van.errors import CheckpointError, UsageError
from edge_van.input_spec import OFFICIAL
from edge_van.model.van import VAN


@pytest.fixture(scope="module")
def van() -> VAN:
    return small_van()


@pytest.fixture
def state(van: VAN) -> State:
    return {name: tensor.clone() for name, tensor in van.state_dict().items()}


@pytest.fixture(scope="module")
def b0_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("b0") / "b0.pth.tar", official_file(VAN("b0", 1000).state_dict()))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_official_layout(tmp_path: Path, state: State, van: VAN, legacy: bool):
    path = saved(tmp_path / "v.pth.tar", official_file(state), _use_new_zipfile_serialization=not legacy)
    loaded = load_checkpoint(path)
    assert_same(loaded, state)
    assert (loaded.layout, loaded.entry, loaded.variant, loaded.unused_keys) == ("official", "state_dict", None, ())
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.source == str(path)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.van(image), van(image))


@pytest.mark.parametrize("layout", ["official", "huggingface", "mmpretrain", "mmseg"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
def test_layouts_and_wrappers(tmp_path: Path, state: State, layout: str, prefix: str):
    loaded = load_checkpoint(saved(tmp_path / "v.pth", renamed(state, layout, prefix)))
    assert_same(loaded, state)
    assert (loaded.layout, loaded.entry) == (layout, None)


@pytest.mark.parametrize("entry", ["state_dict", "model", "module", "state_dict_ema", "model_ema"])
def test_entries(tmp_path: Path, state: State, entry: str):
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"epoch": 3, entry: state}))
    assert_same(loaded, state)
    assert loaded.entry == entry


@pytest.mark.parametrize("ema", ["state_dict_ema", "model_ema"])
def test_averaged_weights_come_first_unless_unwanted(tmp_path: Path, state: State, ema: str):
    raw = {name: tensor * 2 for name, tensor in state.items()}
    path = saved(tmp_path / "v.pth", {"state_dict": raw, ema: {f"module.{k}": v for k, v in state.items()}})
    averaged, unaveraged = load_checkpoint(path), load_checkpoint(path, use_ema=False)
    assert (averaged.entry, unaveraged.entry) == (ema, "state_dict")
    said = f"v.pth holds both state_dict and {ema}: the EMA weights are taken; --no-ema takes state_dict"
    assert averaged.warnings[0] == said
    assert not any("holds both" in warning for warning in unaveraged.warnings)
    assert_same(averaged, state)
    assert_same(unaveraged, raw)


def test_an_empty_average_and_mmengines_swapped_one_are_passed_over(tmp_path: Path, state: State):
    raw = {name: tensor * 2 for name, tensor in state.items()}
    content = {"state_dict": state, "model_ema": None, "state_dict_ema": {}, "ema_state_dict": raw}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", content))
    assert loaded.entry == "state_dict"
    assert_same(loaded, state)


def test_a_choice_between_two_plain_entries_is_said(tmp_path: Path, state: State):
    content = {"model": state, "state_dict": state, "module": {"name": "van"}}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", content))
    assert loaded.entry == "state_dict"
    assert loaded.warnings[0] == "v.pth holds both model and state_dict: state_dict is taken"


def test_where_there_is_no_choice_nothing_is_said(tmp_path: Path, state: State):
    content = {"state_dict": state, "model_ema": None, "model": {"name": "van", "depth": 3}}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", content), by_hand=FLAGS)
    assert (loaded.entry, loaded.warnings) == ("state_dict", ())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("v.pth", "v.pth"),
        ("../folder/v.pth", "v.pth"),
        (".", "folder"),
        ("../folder", "folder"),
        ("../folder/sub/..", "folder"),
    ],
)
def test_the_name_is_that_of_what_was_given(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, source: str, expected: str
):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "folder")
    saved(Path("v.pth"), state)
    saved(Path("pytorch_model.bin"), state)
    assert load_checkpoint(source).name == expected


def test_nested_entries_are_named_with_their_way(tmp_path: Path, state: State):
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"model": {"state_dict": state}}))
    assert loaded.entry == "model.state_dict"


def test_an_averaged_models_counter_is_reported_unused(tmp_path: Path, state: State, van: VAN):
    averaged = torch.optim.swa_utils.AveragedModel(van, use_buffers=True)
    loaded = load_checkpoint(saved(tmp_path / "v.pth", {"model_ema": averaged.state_dict()}))
    assert loaded.unused_keys == ("n_averaged",)
    assert_same(loaded, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(tmp_path: Path, state: State, dtype: torch.dtype):
    stored = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    assert_same(load_checkpoint(saved(tmp_path / "v.pth", stored)), stored)


def test_missing_batch_counters_are_zero(tmp_path: Path, state: State):
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    loaded = load_checkpoint(saved(tmp_path / "v.pth", kept))
    assert loaded.van.state_dict()["block1.0.norm1.num_batches_tracked"] == 0
    assert torch.equal(loaded.van.state_dict()["head.weight"], state["head.weight"])


def test_the_weights_are_their_own_copy(tmp_path: Path, state: State):
    channels_last = {n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in state.items()}
    path = saved(tmp_path / "v.pth", channels_last)
    loaded = load_checkpoint(path)
    path.write_bytes(b"")  # a mapped file would now be gone from under the weights
    assert_same(loaded, state)
    assert all(p.is_contiguous() and p.requires_grad for p in loaded.van.parameters())


def test_averaged_weights_alone(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", {"model_ema": state, "epoch": 3})
    assert_same(load_checkpoint(path), state)
    assert "averaged (EMA) weights only; leave --no-ema out" in refused(path, use_ema=False)


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_checkpoint(path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("kernel_size", "dilation", "sides"), [(21, 3, (5, 7)), (7, 2, (3, 4)), (35, 4, (7, 9))])
def test_kernels_are_read_from_the_shapes(tmp_path: Path, kernel_size: int, dilation: int, sides: tuple[int, int]):
    van = VAN(SMALL, 5, kernel_size=kernel_size, dilation=dilation).eval()
    loaded = load_checkpoint(saved(tmp_path / "v.pth", van.state_dict()))
    lka = loaded.van.block1[0].attn.spatial_gating_unit
    assert (lka.conv0.kernel_size[0], lka.conv_spatial.kernel_size[0], lka.conv_spatial.dilation[0]) == (
        *sides,
        dilation,
    )
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.van(image), van(image))


def test_custom_widths_depths_and_ratios(tmp_path: Path):
    row = replace(SMALL, mlp_ratios=(1, 2, 3, 4), depths=(2, 1, 1, 3))
    loaded = load_checkpoint(saved(tmp_path / "v.pth", VAN(row, 7).state_dict()))
    found = loaded.van.variant
    assert (found.name, found.embed_dims, found.depths, found.mlp_ratios) == (
        "custom",
        row.embed_dims,
        row.depths,
        row.mlp_ratios,
    )
    assert (loaded.variant, loaded.van.num_classes) == (None, 7)


def test_a_published_variant_is_recognised_and_checked(b0_file: Path):
    assert load_checkpoint(b0_file, variant="b0").variant == load_checkpoint(b0_file).variant == "b0"
    message = refused(b0_file, UsageError, variant="b1")
    assert "variant b1 was asked for" in message
    assert "holds b0" in message


def test_b0_with_other_kernels_is_not_b0(tmp_path: Path):
    path = saved(tmp_path / "v.pth", VAN("b0", 4, kernel_size=7, dilation=2).state_dict())
    assert load_checkpoint(path).variant is None
    assert "VAN of its own" in refused(path, UsageError, variant="b0")


def test_a_variant_against_a_custom_van(tmp_path: Path, state: State):
    message = refused(saved(tmp_path / "v.pth", state), UsageError, variant="b2")
    assert "b2" in message
    assert "(8, 16, 24, 32)" in message
    assert "known: b0" in refused(tmp_path / "v.pth", UsageError, variant="b9")


@pytest.mark.parametrize("half", [True, False])
def test_own_safetensors_round_trip(tmp_path: Path, state: State, half: bool):
    path = tmp_path / "v.safetensors"
    digest = save_safetensors(path, state, SPEC, None, half=half, extra={"licence": "CC0"})
    loaded = load_checkpoint(path)
    stored = {name: tensor.half() if half and tensor.ndim >= 2 else tensor for name, tensor in state.items()}
    assert_same(loaded, stored)
    assert (loaded.spec, loaded.spec_is_default, loaded.layout) == (SPEC, False, "edge-van")
    assert (loaded.sha256, loaded.warnings) == (digest, ())
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        assert file.metadata()["licence"] == "CC0"
        assert file.get_tensor("block1.0.norm1.running_var").dtype == torch.float32
        assert file.get_tensor("block1.0.norm1.num_batches_tracked").dtype == torch.int64
        assert file.get_tensor("head.weight").dtype == (torch.float16 if half else torch.float32)
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]


def test_own_safetensors_carry_their_variant(tmp_path: Path, state: State):
    path = tmp_path / "v.safetensors"
    b0 = VAN("b0", 3).state_dict()
    save_safetensors(path, b0, OFFICIAL, "b0", half=True)
    assert load_checkpoint(path).variant == "b0"
    assert path.stat().st_size < 0.52 * sum(t.numel() * 4 for t in b0.values())
    save_safetensors(path, state, SPEC, "b0", half=True)
    assert "says that it is 'b0'" in refused(path)


def test_the_same_weights_make_the_same_file(tmp_path: Path, state: State):
    extra = {f"k{i}": str(i) for i in range(8)}
    digests = {save_safetensors(tmp_path / f"{i}", state, SPEC, None, half=True, extra=extra) for i in range(6)}
    assert len(digests) == 1


def test_what_half_precision_cannot_hold_is_not_written(tmp_path: Path, state: State):
    state["head.weight"][0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"head.weight.*half=False"):
        save_safetensors(tmp_path / "v.safetensors", state, SPEC, None, half=True)
    with pytest.raises(UsageError, match=r"edge_van\.variant"):
        save_safetensors(tmp_path / "v.safetensors", state, SPEC, None, half=False, extra={"edge_van.variant": "b1"})
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_safetensors(tmp_path / "no" / "v.safetensors", state, SPEC, None, half=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("header", "said"),
    [("{", "no JSON"), ("[]", "expected a JSON object"), ('{"zoom": 1}', "unknown InputSpec entries zoom")],
)
def test_a_header_that_is_damaged_is_refused(tmp_path: Path, state: State, header: str, said: str):
    from safetensors.torch import save_file

    save_file(state, tmp_path / "v.safetensors", metadata={"edge_van.input_spec": header})
    assert said in refused(tmp_path / "v.safetensors")
