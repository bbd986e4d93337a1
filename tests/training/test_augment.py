"""``edge_van.training.augment``: crops, mirrors and mixtures are those of their plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_van.training.augment import Plan, augment, draw_plan
from edge_van.training.settings import TrainSettings

MEAN, STD = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
SETTINGS = TrainSettings(epochs=1, batch=8)


def whole(n: int) -> Plan:
    return Plan(np.tile(np.float32([0, 0, 1, 1]), (n, 1)), np.zeros(n, bool), 1.0, None)


def pixels(n: int, size: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8))


def as_float(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def test_the_whole_image_is_the_image() -> None:
    found, share = augment(pixels(2), whole(2), 16, MEAN, STD)
    assert torch.allclose(found, as_float(pixels(2)), atol=1e-5)
    assert share == 1.0


def test_it_is_normalised() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
    found, _ = augment(pixels(2), whole(2), 16, mean, std)
    assert torch.allclose(found, (as_float(pixels(2)) - mean) / std, atol=1e-5)


def test_a_mirrored_image_is_the_mirror() -> None:
    plan = replace(whole(2), mirrored=np.array([True, False]))
    found, _ = augment(pixels(2), plan, 16, MEAN, STD)
    expected = as_float(pixels(2))
    assert torch.allclose(found[0], expected[0].flip(2), atol=1e-5)
    assert torch.allclose(found[1], expected[1], atol=1e-5)


def test_a_quarter_is_that_quarter_enlarged() -> None:
    plan = replace(whole(1), boxes=np.float32([[0.5, -0.5, 0.5, 0.5]]))  # right, above
    found, _ = augment(pixels(1), plan, 8, MEAN, STD)
    assert torch.allclose(found, as_float(pixels(1))[:, :, :8, 8:], atol=1e-5)


def test_mixup_mixes_neighbours() -> None:
    found, share = augment(pixels(4), replace(whole(4), mixed=0.7), 16, MEAN, STD)
    images = as_float(pixels(4))
    assert share == 0.7
    assert torch.allclose(found, 0.7 * images + 0.3 * images[[1, 0, 3, 2]], atol=1e-5)


def test_cutmix_pastes_and_counts_pixels() -> None:
    found, share = augment(pixels(2), replace(whole(2), mixed=0.5, box=(0.0, 0.25, 0.5, 0.75)), 16, MEAN, STD)
    images = as_float(pixels(2))
    assert share == 1.0 - 8 * 8 / 16**2
    assert torch.allclose(found[0, :, 4:12, :8], images[1, :, 4:12, :8], atol=1e-5)
    assert torch.allclose(found[0, :, :, 8:], images[0, :, :, 8:], atol=1e-5)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), crop=st.floats(0.05, 1.0))
def test_no_crop_leaves_the_image(seed: int, crop: float) -> None:
    plan = draw_plan(np.random.default_rng(seed), replace(SETTINGS, crop=crop))
    centre, half = plan.boxes[:, :2], plan.boxes[:, 2:]
    assert (np.abs(centre) + half <= 1.0 + 1e-6).all()
    assert 0.0 <= plan.mixed <= 1.0
    if plan.box is not None:
        left, top, right, bottom = plan.box
        assert 0.0 <= left <= right <= 1.0
        assert 0.0 <= top <= bottom <= 1.0


@pytest.mark.parametrize(("changes", "boxed"), [({"mixup": 0.0}, {True}), ({"cutmix": 0.0}, {False})])
def test_what_is_off_is_never_drawn(changes: dict[str, float], boxed: set[bool]) -> None:
    plans = [draw_plan(np.random.default_rng(seed), replace(SETTINGS, **changes)) for seed in range(20)]
    assert {plan.box is not None for plan in plans} == boxed
    off = draw_plan(np.random.default_rng(0), replace(SETTINGS, mixup=0.0, cutmix=0.0, flip=False))
    assert (off.mixed, off.box, off.mirrored.any()) == (1.0, None, False)
