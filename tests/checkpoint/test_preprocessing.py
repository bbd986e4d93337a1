"""How a checkpoint's images are prepared: its header, the JSON beside it, its Hugging Face folder, or a guess."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_samples import IMAGENET, SMALL, State, assert_same, refused, renamed, saved, small_van
from PIL import Image
from torch import nn

from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.checkpoint.preprocessing import FLAGS
from edge_van.images.decode import decode
from edge_van.input_spec import OFFICIAL, InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.model.variants import MLP_RATIOS


@pytest.fixture
def state() -> State:
    return dict(small_van().state_dict())


def test_without_any_spec_the_official_one_is_announced(tmp_path: Path, state: State):
    loaded = load_checkpoint(saved(tmp_path / "v.pth", state))
    assert (loaded.spec, loaded.spec_is_default) == (OFFICIAL, True)
    (warning,) = loaded.warnings
    assert "5 classes" in warning
    assert "likely wrong" in warning
    assert "(224 px, crop 0.9, bicubic, mean 0.5, std 0.5)" in warning
    assert "give --input-size, --crop, --interpolation, --mean and --std if" in warning
    imagenet = saved(tmp_path / "w.pth", VAN(SMALL, 1000).state_dict())
    assert not any("likely wrong" in warning for warning in load_checkpoint(imagenet).warnings)


def test_what_is_given_by_hand_is_not_guessed_and_not_warned_of(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    loaded = load_checkpoint(path, by_hand=("size", "mean", "source_size"))
    assert (loaded.spec, loaded.spec_is_default) == (OFFICIAL, True)  # to put them in place is the caller's
    (warning,) = loaded.warnings
    assert "(crop 0.9, bicubic, std 0.5)" in warning
    assert "give --crop, --interpolation and --std if" in warning
    assert "give --std if" in load_checkpoint(path, by_hand=set(FLAGS) - {"std"}).warnings[0]
    loaded = load_checkpoint(path, by_hand=FLAGS)
    assert (loaded.warnings, loaded.spec_is_default) == ((), False)
    (tmp_path / "v.json").write_text('{"classes": ["a", "b", "c", "d", "e"], "crop": 1.0}')
    assert load_checkpoint(path, by_hand=("size", "mean")).warnings == (
        "the JSON beside v.pth does not give interpolation, std: taken from the official preprocessing",
    )
    assert load_checkpoint(path, by_hand=set(FLAGS) - {"crop"}).warnings == ()
    (tmp_path / "v.json").write_text('{"classes": ["a", "b", "c", "d", "e"]}')
    loaded = load_checkpoint(path, by_hand=FLAGS)
    assert (loaded.spec.classes, loaded.warnings, loaded.spec_is_default) == (tuple("abcde"), (), False)


SIDECAR = {
    "variant": None,
    "input_size": 64,
    "crop": 1.0,
    "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3],
    "std": [1, 1, 1],
    "classes": list("abcde"),
    "layout": "RGB, 0..1 before mean and std",
    "trained_on": "nothing",
}


@pytest.mark.parametrize("name", ["v.pth.tar", "v.pth", "v.pt", "v.safetensors"])
def test_the_json_beside_a_checkpoint_gives_its_spec(tmp_path: Path, state: State, name: str):
    path = saved(tmp_path / "x", state)
    path = path.rename(tmp_path / name) if name != "v.safetensors" else tmp_path / name
    if name == "v.safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "v.json").write_text(json.dumps({**SIDECAR, "sha256": digest}))
    loaded = load_checkpoint(path)
    assert loaded.spec == InputSpec((64, 64), 1.0, "bilinear", (0.1, 0.2, 0.3), (1, 1, 1), tuple("abcde"))
    assert (loaded.spec_is_default, loaded.warnings) == (False, ())


def test_a_json_that_says_less_is_filled_up_and_announced(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    (tmp_path / "v.json").write_text('{"input_size": [32, 48]}')
    loaded = load_checkpoint(path)
    assert loaded.spec == InputSpec(size=(32, 48))
    assert "crop, interpolation, mean, std" in loaded.warnings[0]
    (tmp_path / "v.json").write_text('{"classes": ["a", "b", "c", "d", "e"]}')
    loaded = load_checkpoint(path)
    assert (loaded.spec, loaded.spec_is_default) == (InputSpec(classes=tuple("abcde")), True)
    assert "input_size, crop" in loaded.warnings[0]
    (tmp_path / "v.json").write_text('{"note": "something else"}')
    assert load_checkpoint(path).spec_is_default


@pytest.mark.parametrize("spelling", ["b0", "B0", "van_b0", "VAN-B0", "van b0"])
def test_a_variant_may_be_called_in_several_ways(tmp_path: Path, spelling: str):
    path = saved(tmp_path / "v.pth", VAN("b0", 5).state_dict())
    (tmp_path / "v.json").write_text("\ufeff" + json.dumps({**SIDECAR, "variant": spelling}), encoding="utf-8")
    assert load_checkpoint(path).variant == "b0"


def test_one_number_is_for_all_channels(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    (tmp_path / "v.json").write_text(json.dumps({**SIDECAR, "mean": 0.4, "std": 1}))
    spec = load_checkpoint(path).spec
    assert (spec.mean, spec.std) == ((0.4, 0.4, 0.4), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sha256": "0" * 64}, "sha256"),
        ({"variant": "b0"}, "says that it is 'b0'"),
        ({"classes": list("abc")}, "3 class names, but the head has 5"),
        ({"classes": list("abcda")}, "repeated: a"),
        ({"classes": "abcde"}, "list of names"),
        ({"mean": [0.1, 0.2]}, "mean is a finite number a channel"),
        ({"mean": ["a", "b", "c"]}, "does not fit"),
        ({"mean": [10**400, 1, 1]}, "does not fit"),
        ({"std": [0, 1, 1]}, "std must be over 0"),
        ({"crop": "big"}, "does not fit"),
        ({"input_size": 0}, "size is (height, width)"),
        ({"interpolation": "box"}, "interpolation is one of"),
    ],
)
def test_a_json_that_contradicts_is_refused(tmp_path: Path, state: State, changed: dict[str, Any], said: str):
    path = saved(tmp_path / "v.pth", state)
    (tmp_path / "v.json").write_text(json.dumps({**SIDECAR, **changed}))
    message = refused(path)
    assert said in message
    assert "v.json" in message or "v.pth" in message


@pytest.mark.parametrize("text", ["{", "[1]", "null", "[" * 100_000, "\x00"])
def test_a_json_that_is_none_is_refused(tmp_path: Path, state: State, text: str):
    path = saved(tmp_path / "v.pth", state)
    (tmp_path / "v.json").write_text(text)
    assert "v.json" in refused(path)


def hf_folder(folder: Path, state: State, config: dict[str, Any] | None = None, processor: Any = None) -> Path:
    """A folder as ``save_pretrained`` leaves it, with changes to its config.json."""
    from safetensors.torch import save_file

    tensors = renamed(state, "huggingface")
    tensors["van.layernorm.weight"], tensors["van.layernorm.bias"] = torch.ones(32), torch.zeros(32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    base = {
        "architectures": ["VanForImageClassification"],
        "model_type": "van",
        "hidden_sizes": list(SMALL.embed_dims),
        "depths": list(SMALL.depths),
        "mlp_ratios": list(MLP_RATIOS),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": 96,
        "id2label": {str(i): name for i, name in enumerate("vwxyz")},
    }
    (folder / "config.json").write_text(json.dumps({**base, **(config or {})}))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_a_hugging_face_folder(tmp_path: Path, state: State):
    loaded = load_checkpoint(hf_folder(tmp_path, state))
    assert_same(loaded, state)
    assert loaded.layout == "huggingface"
    assert set(loaded.unused_keys) == {"van.layernorm.weight", "van.layernorm.bias"}
    assert loaded.spec == InputSpec(size=(96, 96), classes=tuple("vwxyz"))
    assert loaded.spec_is_default
    assert "(crop 0.9, bicubic, mean 0.5, std 0.5)" in loaded.warnings[0]  # the size is config.json's
    assert loaded.name == tmp_path.name
    same = load_checkpoint(tmp_path / "model.safetensors")
    assert (same.spec, same.sha256) == (loaded.spec, loaded.sha256)


def test_the_weight_file_alone_has_a_warning(tmp_path: Path, state: State):
    hf_folder(tmp_path, state)
    (tmp_path / "config.json").unlink()
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.spec == OFFICIAL
    assert any("no config.json" in warning for warning in loaded.warnings)


@pytest.mark.parametrize(
    ("processor", "spec"),
    [
        # as it lies in Visual-Attention-Network/van-base
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "resample": 3, "size": 224},
            InputSpec((224, 224), 0.875),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 192}, "crop_pct": 0.9},
            InputSpec((192, 192), 0.9, "bilinear"),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessorFast", "size": {"shortest_edge": 383}},
            InputSpec((383, 383), 0.875),
        ),
        (
            {
                "do_center_crop": True,
                "size": {"shortest_edge": 248},
                "crop_size": {"height": 224, "width": 224},
                "resample": 1,
            },
            InputSpec((224, 224), 224 / 248, "lanczos"),
        ),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 400}, "resample": 0},
            InputSpec((400, 400), 1.0, "nearest"),
        ),
        # for a VAN whose file names no processor transformers takes ConvNeXt's
        ({"size": 80}, InputSpec((80, 80), 0.875)),
        ({"size": 80, "do_normalize": False}, InputSpec((80, 80), 0.875, mean=(0, 0, 0), std=(1, 1, 1))),
        ({"size": 80, "do_rescale": True, "rescale_factor": 0.00392156862745098}, InputSpec((80, 80), 0.875)),
    ],
)
def test_hugging_face_preprocessing(tmp_path: Path, state: State, processor: dict[str, Any], spec: InputSpec):
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    loaded = load_checkpoint(hf_folder(tmp_path, state, processor={"resample": 3, **half, **processor}))
    expected = replace(spec, classes=tuple("vwxyz"))
    if "image_processor_type" in processor and "crop_pct" in processor:
        expected = replace(expected, interpolation="bicubic")
    assert replace(loaded.spec, crop=1.0) == replace(expected, crop=1.0)
    assert loaded.spec.crop == pytest.approx(expected.crop)
    assert not loaded.spec_is_default
    assert not any("ImageNet" in warning for warning in loaded.warnings)
    if "crop_size" in processor:
        assert loaded.spec.resized(500, 500) == (248, 248)


def test_imagenets_mean_is_taken_with_a_warning(tmp_path: Path, state: State):
    loaded = load_checkpoint(hf_folder(tmp_path, state, processor={"size": 224, "crop_pct": 0.875, **IMAGENET}))
    assert loaded.spec.mean == (0.485, 0.456, 0.406)
    assert any("--mean 0.5 --std 0.5" in warning for warning in loaded.warnings)
    assert load_checkpoint(tmp_path, by_hand=("mean", "std")).warnings == ()


@pytest.mark.parametrize(
    "processor",
    [
        {"size": "big"},
        {"size": {"longest_edge": 224}},
        {"size": 224, "resample": 5},
        {"size": 224, "do_resize": False},
        {"size": 224, "rescale_factor": 0.0},
        {"size": {"height": 100, "width": 300}, "do_center_crop": True, "crop_size": {"height": 90, "width": 90}},
        {"size": 224, "rescale_factor": "x"},
        {"size": 224, "crop_pct": 7},
        {"size": 224, "image_mean": 0.5},
        {"size": 224, "do_center_crop": True, "crop_size": {"height": 0, "width": 0}},
        {"size": {"height": 96, "width": 96}, "do_pad": True, "image_processor_type": "LlavaImageProcessor"},
        {"size": {"shortest_edge": 96}, "image_processor_type": "LevitImageProcessor"},  # resizes to 256 / 224 of it
        {"size": {"height": 96, "width": 96}, "include_top": True},  # divides by std twice
        {"size": {"height": 96, "width": 96}, "keep_aspect_ratio": True},
        {"size": {"shortest_edge": 96, "longest_edge": 133}},
        {"size": {"height": 96, "width": 96}, "do_thumbnail": True},
        {"feature_extractor_type": "ConvNextFeatureExtractor"},  # nothing of what it does
        [],
    ],
)
def test_a_preprocessing_that_is_not_known_is_refused(tmp_path: Path, state: State, processor: Any):
    assert "preprocessor_config.json" in refused(hf_folder(tmp_path, state, processor=processor))


PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 96}, "crop_pct": 0.875, "resample": 3}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "resample": 3}),
    ("ConvNextFeatureExtractor", {"size": 400, "crop_pct": 0.9}),
    ("ViTImageProcessor", {"size": {"height": 64, "width": 96}, "resample": 2}),
    ("ViTImageProcessor", {"size": 96}),
    ("ViTImageProcessor", {"size": {"height": 96, "width": 96}, "do_normalize": False}),
    ("ViTImageProcessor", {"size": 96, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
    ("ViTImageProcessor", {"size": 96, "do_rescale": False, "image_mean": [123.0] * 3, "image_std": [58.0] * 3}),
    ("DeiTImageProcessor", {"size": {"height": 128, "width": 128}, "crop_size": {"height": 112, "width": 112}}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 112}, "crop_size": {"height": 96, "width": 96}, "resample": 3}),
    ("MobileViTImageProcessor", {"size": {"shortest_edge": 112}, "crop_size": {"height": 96, "width": 96}}),
]


@pytest.mark.parametrize(("kind", "values"), PROCESSORS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(PROCESSORS)])
@pytest.mark.parametrize("shape", [(120, 333), (201, 97), (128, 128)], ids=["wide", "tall", "square"])
def test_pixels_are_those_of_hugging_faces_own_processor(
    tmp_path: Path, state: State, kind: str, values: dict[str, Any], shape: tuple[int, int]
):
    """From the file to the network's input, normalised, against the class that the processor's JSON names."""
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, kind.replace("FeatureExtractor", "ImageProcessor"))(**values)
    written = json.loads(processor.to_json_string()) | values | {"image_processor_type": kind}
    loaded = load_checkpoint(hf_folder(tmp_path, state, processor=written))
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), box=(0, 0, 20, 20)))  # smooth, as photos are
    theirs = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    spec = loaded.spec
    pixels = decode(buffer.getvalue(), replace(spec, source_order=spec.channel_order))
    ours = (pixels / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    assert ours.shape == theirs.transpose(1, 2, 0).shape
    # a pixel's rounding apart: theirs resizes by its own rules for odd margins
    step = 1.01 / (255.0 * min(spec.std))
    assert np.abs(ours - theirs.transpose(1, 2, 0)).max() <= step


def test_a_processor_of_another_kind_with_one_number_is_refused(tmp_path: Path, state: State):
    other = {"image_processor_type": "PoolFormerImageProcessor", "size": 224}
    folder = hf_folder(tmp_path, state, processor={**IMAGENET, **other})
    message = refused(folder)
    assert "the aspect may not be kept by PoolFormerImageProcessor with one number" in message
    assert "give --input-size, --crop, --interpolation, --mean, --std, --resize and --channel-order instead" in message
    assert "the aspect" in refused(folder, by_hand=set(FLAGS) - {"crop"})
    loaded = load_checkpoint(folder, by_hand=FLAGS)
    assert (loaded.spec.classes, loaded.warnings, loaded.spec_is_default) == (tuple("vwxyz"), (), False)


def test_values_may_stand_one_level_deeper(tmp_path: Path, state: State):
    """As newer files of processors with several parts have them."""
    inner = {"size": {"height": 99, "width": 99}, "image_processor_type": "ViTImageProcessor", **IMAGENET}
    loaded = load_checkpoint(hf_folder(tmp_path, state, processor={"image_processor": inner, "tokenizer": {}}))
    assert (loaded.spec.size, loaded.spec.resize) == ((99, 99), "squash")


def test_names_that_do_not_fit_may_be_given_by_hand(tmp_path: Path, state: State):
    folder = hf_folder(tmp_path, state, {"id2label": {"0": "a", "1": "b", "2": "c"}})
    message = refused(folder)
    assert "config.json: id2label has 3 names, the head 5 outputs" in message
    assert "--classes" in message
    assert load_checkpoint(folder, by_hand=("classes",)).spec.classes is None


def test_default_labels_are_no_class_names(tmp_path: Path, state: State):
    labels = {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}
    assert load_checkpoint(hf_folder(tmp_path, state, labels)).spec.classes is None


def test_repeated_labels_are_numbered(tmp_path: Path, state: State):
    labels = {"id2label": {"0": "crane", "1": "tench", "2": "crane", "3": "x", "4": "y"}}
    loaded = load_checkpoint(hf_folder(tmp_path, state, labels))
    assert loaded.spec.classes == ("crane (0)", "tench", "crane (2)", "x", "y")
    assert any("crane" in warning for warning in loaded.warnings)


@torch.no_grad()
def test_another_layer_norm_eps_is_computed_and_kept(tmp_path: Path, state: State):
    """Against torch's own LayerNorm, given the eps by hand."""
    (tmp_path / "hf").mkdir()
    loaded = load_checkpoint(hf_folder(tmp_path / "hf", state, {"layer_norm_eps": 1e-2}))
    by_hand, official = small_van(), small_van()
    for module in by_hand.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-2
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = by_hand(images)
    assert (expected - official(images)).abs().max() > 5e-5
    assert torch.equal(loaded.van(images), expected)
    own = tmp_path / "own.safetensors"
    save_safetensors(own, loaded.van.state_dict(), loaded.spec, None, half=False, layer_norm_eps=1e-2)
    assert torch.equal(load_checkpoint(own).van(images), expected)
    folded, check = fold(loaded.van, (64, 64))
    assert check.max_relative_error < 1e-4
    assert torch.allclose(folded(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "convnext"},
        {"layer_norm_eps": "small"},
        {"layer_norm_eps": -1e-6},
        {"layer_norm_eps": 1.0},
        {"hidden_act": "relu"},
        {"depths": [9, 9, 9, 9]},
        {"hidden_sizes": [1, 2, 3, 4]},
        {"mlp_ratios": [4, 4, 4, 4]},
        {"patch_sizes": [4, 2, 2, 2]},
        {"strides": [2, 2, 2, 2]},
        {"num_channels": 1},
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": {"1": "a", "2": "b"}},
        {"id2label": 7},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_config_that_is_another_models_is_refused(tmp_path: Path, state: State, config: dict[str, Any]):
    assert "config.json" in refused(hf_folder(tmp_path, state, config)) or "class names" in refused(tmp_path)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_transformers_own_model_agrees(tmp_path: Path, safe: bool):
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "VanConfig"):
        pytest.skip("this transformers has no VAN (it had one up to 4.57)")
    torch.manual_seed(2)
    config = transformers.VanConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 1, 1], num_labels=6)
    theirs = transformers.VanForImageClassification(config).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.ndim == 1:
            tensor.normal_(0.5, 0.3)
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875).save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        expected, found = theirs(image).logits, loaded.van(image)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert (loaded.spec.size, loaded.spec.crop, loaded.spec.classes) == ((224, 224), 0.875, None)
