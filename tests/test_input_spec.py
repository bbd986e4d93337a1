"""``edge_van.input_spec``: the geometry in hand-computed numbers, what it refuses, and the way to JSON and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edge_van.errors import UsageError
from edge_van.input_spec import INTERPOLATIONS, OFFICIAL, ORDERS, InputSpec

sides = st.integers(1, 4096)  # a crop of a half asks for twice as many
sizes = st.tuples(sides, sides)
finite = st.floats(-2, 2)
positive = st.floats(1e-3, 2)
specs = st.builds(
    InputSpec,
    size=sizes,
    crop=st.floats(0.5, 1.0),
    interpolation=st.sampled_from(INTERPOLATIONS),
    mean=st.tuples(finite, finite, finite),
    std=st.tuples(positive, positive, positive),
    classes=st.none() | st.lists(st.text(max_size=5), min_size=1, max_size=5, unique=True).map(tuple),
    source_size=st.none() | sizes,
    resize=st.sampled_from(["crop", "squash"]),
    channel_order=st.sampled_from(ORDERS),
    source_order=st.sampled_from(ORDERS),
)
bytes_of_color = st.integers(0, 255)
padded = st.builds(
    InputSpec,
    size=sizes,
    crop=st.just(1.0),
    resize=st.just("pad"),
    pad_color=st.none() | st.tuples(bytes_of_color, bytes_of_color, bytes_of_color),
)


def test_official_preprocessing():
    assert (OFFICIAL.size, OFFICIAL.crop, OFFICIAL.interpolation) == ((224, 224), 0.9, "bicubic")
    assert OFFICIAL.mean == OFFICIAL.std == (0.5, 0.5, 0.5)
    assert OFFICIAL.classes is None


@pytest.mark.parametrize(
    ("size", "crop", "image", "resized", "box"),
    [  # sizes are (height, width); boxes (left, top, right, bottom); as torchvision's Resize(int) and CenterCrop
        ((224, 224), 0.9, (375, 500), (248, 330), (53, 12, 277, 236)),  # int(248 * 500 / 375 = 330.67)
        ((224, 224), 0.9, (500, 375), (330, 248), (12, 53, 236, 277)),
        ((224, 224), 0.9, (248, 248), (248, 248), (12, 12, 236, 236)),
        ((224, 224), 0.875, (480, 640), (256, 341), (58, 16, 282, 240)),  # (341 - 224) / 2 = 58.5 rounds to even
        ((224, 224), 0.9, (10, 10), (248, 248), (12, 12, 236, 236)),
        ((224, 224), 0.9, (1, 8000), (248, 1984000), (991888, 12, 992112, 236)),
        ((64, 64), 1.0, (64, 64), (64, 64), (0, 0, 64, 64)),
        ((64, 64), 1.0, (100, 133), (64, 85), (10, 0, 74, 64)),  # 85.12; 10.5 rounds to even
        ((96, 128), 1.0, (100, 100), (128, 128), (0, 16, 128, 112)),
        ((128, 96), 1.0, (100, 100), (128, 128), (16, 0, 112, 128)),
        ((96, 128), 0.8, (480, 640), (120, 160), (16, 12, 144, 108)),
        ((96, 128), 1.0, (200, 200), (128, 128), (0, 16, 128, 112)),
    ],
)
def test_geometry(size: tuple, crop: float, image: tuple, resized: tuple, box: tuple):
    spec = InputSpec(size=size, crop=crop)
    assert spec.resized(*image) == resized
    assert spec.crop_box(*resized) == box


@given(spec=specs, image=sizes)
def test_the_crop_lies_in_the_resized_image(spec: InputSpec, image: tuple[int, int]):
    height, width = spec.resized(*image)
    left, top, right, bottom = spec.crop_box(height, width)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (bottom - top, right - left) == spec.size


@given(spec=padded, image=sizes)
def test_bars_fill_what_the_whole_image_leaves(spec: InputSpec, image: tuple[int, int]):
    height, width = spec.resized(*image)
    left, top, right, bottom = spec.bars(height, width)
    assert min(left, top, right, bottom) >= 0
    assert (top + height + bottom, left + width + right) == spec.size
    assert height == spec.size[0] or width == spec.size[1]
    assert abs(left - right) <= 1
    assert abs(top - bottom) <= 1


@pytest.mark.parametrize("image", [(100, 300), (300, 100), (64, 64), (97, 203), (20, 900), (900, 30), (63, 65)])
@pytest.mark.parametrize("size", [(64, 64), (96, 61), (48, 224)])
def test_padding_is_pillows(image: tuple[int, int], size: tuple[int, int]):
    """``ImageOps.pad`` of a white image on black: where the white begins and ends. (Of an image that is so long that it
    would be under half a row, Pillow shows nothing; a row is kept here.)"""
    white = np.asarray(ImageOps.pad(Image.new("L", image[::-1], 255), size[::-1]))
    spec = InputSpec(size=size, crop=1.0, resize="pad")
    height, width = spec.resized(*image)
    left, top, right, bottom = spec.bars(height, width)
    ours = np.zeros(size, np.uint8)
    ours[top : size[0] - bottom, left : size[1] - right] = 255
    np.testing.assert_array_equal(ours, white)


@given(spec=specs, image=sizes)
def test_a_squash_is_of_one_size(spec: InputSpec, image: tuple[int, int]):
    squashed = replace(spec, resize="squash")
    assert squashed.resized(*image) == squashed.resized(1, 1)


@given(image=sizes)
def test_the_resize_keeps_the_aspect(image: tuple[int, int]):
    height, width = OFFICIAL.resized(*image)
    assert min(height, width) == 248
    long, short = max(image), min(image)
    assert max(height, width) == max(int(248 * long / short), 248)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("size", (0, 224)),
        ("size", (224, 8193)),
        ("size", (224,)),
        ("size", (224, 224, 3)),
        ("size", (224.0, 224)),
        ("source_size", (0, 1)),
        ("source_size", (480, 640, 3)),
        ("crop", 0.0),
        ("crop", 1.01),
        ("crop", -0.5),
        ("crop", float("nan")),
        ("interpolation", "cubic"),
        ("size", (True, 64)),
        ("crop", True),
        ("crop", 1e-9),
        ("crop", 5e-324),
        ("interpolation", ""),
        ("mean", (0.5, 0.5, 1e300)),
        ("std", (0.5, 0.5, 1e-45)),
        ("classes", ("cat", "\udcff")),
        ("mean", (0.5, 0.5)),
        ("mean", (0.5, 0.5, float("nan"))),
        ("std", (0.5, 0.5, 0.0)),
        ("std", (0.5, -0.5, 0.5)),
        ("std", (0.5, 0.5, float("inf"))),
        ("classes", ()),
        ("classes", ("cat", "dog", "cat")),
        ("resize", "stretch"),
        ("channel_order", "RGB"),
        ("source_order", "grb"),
        ("pad_color", (0, 0, 0)),  # without bars
        ("mean", (0.5,)),  # of one channel, and std of three
        ("mean", (0.5,) * 5),
    ],
)
def test_what_cannot_be_meant_is_refused(entry: str, value: object):
    name = "class names" if entry == "classes" else entry
    with pytest.raises(UsageError, match=name):
        InputSpec(**{entry: value})


def test_a_repeated_class_is_named():
    with pytest.raises(UsageError, match="repeated: cat, dog"):
        InputSpec(classes=("dog", "cat", "dog", "cat", "cow"))


@given(spec=specs)
def test_dict_round_trip(spec: InputSpec):
    assert InputSpec.from_dict(spec.to_dict()) == spec
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_from_dict_fills_in_the_defaults():
    assert InputSpec.from_dict({}) == OFFICIAL
    assert InputSpec.from_dict({"size": [64, 96]}) == InputSpec(size=(64, 96))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"colour": 1}, "unknown InputSpec entries colour; known: channel_order, classes, crop"),
        ({"size": 224}, "size|type"),
        ({"size": ["224", "224"]}, "size"),
        ({"crop": "0.9"}, "type"),
        ({"crop": None}, "type"),
        ({"interpolation": 3}, "interpolation"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"mean": ["a", "b", "c"]}, "type"),
        ({"std": 0.5}, "type"),
        ({"classes": "cat"}, "class"),
        ({"classes": [1, 2]}, "class"),
        ({"classes": 5}, "class|type"),
    ],
)
def test_from_dict_names_what_is_wrong(values: dict, match: str):
    with pytest.raises(UsageError, match=match):
        InputSpec.from_dict(values)


@pytest.mark.parametrize(
    ("mean", "std", "offer"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "mean 0.485,0.456,0.406 and std 0.229,0.224,0.225"),
        ((123.675, 116.28, 103.53), (1.0, 1.0, 1.0), "mean 0.485,0.456,0.406 and std 0.003922,0.003922,0.003922"),
        ((127.5,) * 3, (0.5,) * 3, "mean 0.5,0.5,0.5 and std 0.5,0.5,0.5"),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375), "mean 0.485,0.456,0.406 and std 0.229,0.224,0.225"),
        ((128.0,), (64.0,), "mean 0.502 and std 0.251"),
    ],
)
def test_a_scale_of_255_is_said_with_the_division(mean: tuple[float, ...], std: tuple[float, ...], offer: str):
    with pytest.raises(UsageError, match=r"are on a 0\.\.255 scale, expected 0\.\.1: divided by 255 they are " + offer):
        InputSpec(mean=mean, std=std)


@pytest.mark.parametrize(
    "values",
    [
        {"resize": "pad"},  # with the official crop of 0.9
        {"resize": "pad", "crop": 1.0, "pad_color": (0, 0)},
        {"resize": "pad", "crop": 1.0, "pad_color": (0, 0, 256)},
        {"resize": "pad", "crop": 1.0, "pad_color": (0, 0, 0.5)},
        {"mean": (0.5,), "std": (0.5,), "channel_order": "bgr"},
        {"mean": (0.5,), "std": (0.5,), "source_order": "bgr"},
    ],
)
def test_what_contradicts_is_refused(values: dict):
    with pytest.raises(UsageError):
        InputSpec(**values)


def test_the_pixels_order():
    spec = InputSpec(mean=(0.1, 0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7, 0.8), channel_order="bgr")
    assert spec.pixel_mean == (0.3, 0.2, 0.1, 0.4)
    assert spec.pixel_std == (0.7, 0.6, 0.5, 0.8)
    assert (spec.channels, spec.source_shape) == (4, (224, 224, 4))
    same = replace(spec, source_order="bgr")
    assert (same.pixel_mean, same.swaps_channels) == (spec.mean, False)


def test_another_resize_is_the_whole_of_it():
    assert OFFICIAL.with_overrides(resize="squash") == InputSpec(crop=1.0, resize="squash")
    assert OFFICIAL.with_overrides(resize="squash", crop=0.8) == InputSpec(crop=0.8, resize="squash")
    padded = InputSpec(crop=1.0, resize="pad", pad_color=(1, 2, 3))
    assert padded.with_overrides(resize="crop") == InputSpec(crop=1.0)
    assert padded.with_overrides(resize="pad") == padded


def test_a_mean_stays_with_its_colours():
    spec = InputSpec(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert spec.with_overrides(channel_order="bgr") == InputSpec(
        mean=(0.3, 0.2, 0.1), std=(0.6, 0.5, 0.4), channel_order="bgr"
    )
    by_hand = spec.with_overrides(channel_order="bgr", mean=(0.1, 0.2, 0.3))
    assert (by_hand.mean, by_hand.std) == ((0.1, 0.2, 0.3), (0.6, 0.5, 0.4))


def test_with_overrides():
    spec = OFFICIAL.with_overrides(size=(64, 64), crop=None)
    assert spec == InputSpec(size=(64, 64))
    with pytest.raises(UsageError):
        OFFICIAL.with_overrides(crop=2.0)
