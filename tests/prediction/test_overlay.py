"""``overlay``: a colour map whose lightness grows, a heat map at the right place, blending by its formula."""

from __future__ import annotations

import numpy as np
import pytest

from edge_van.errors import UsageError
from edge_van.prediction.overlay import INFERNO, colours, overlay


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB bytes (..., 3)."""
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def test_lightness_grows_evenly_with_the_value() -> None:
    steps = np.diff(lightness(colours(np.linspace(0, 1, 17)).astype(float)))
    assert (steps > 0).all()
    assert steps.max() < 2.5 * steps.mean()
    assert tuple(colours(np.array(0.0))) == INFERNO[0]
    assert tuple(colours(np.array(1.0))) == INFERNO[-1]
    assert np.array_equal(colours(np.array([-1.0, 2.0])), colours(np.array([0.0, 1.0])))


def test_the_heat_lies_where_it_belongs() -> None:
    heat = np.zeros((4, 4))
    heat[1, 2] = 1.0
    image = np.full((64, 96, 3), 100, np.uint8)
    found = np.asarray(overlay(image, heat, opacity=1.0)).astype(float).sum(2)
    assert found.shape == (64, 96)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 16 <= row < 32
    assert 48 <= column < 72
    assert (found[40:] == found[63, 0]).all()


def test_blending_is_by_its_formula() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    heat = np.full((2, 2), 0.5)
    blended = np.asarray(overlay(image, heat, opacity=0.25)).astype(float)
    assert np.abs(blended - (0.75 * image + 0.25 * np.array(INFERNO[4]))).max() <= 1
    assert np.array_equal(np.asarray(overlay(image, heat, opacity=0.0)), image)


@pytest.mark.parametrize(
    ("image", "heat", "opacity"),
    [
        (np.zeros((8, 8, 3)), np.zeros((2, 2)), 0.5),
        (np.zeros((8, 8), np.uint8), np.zeros((2, 2)), 0.5),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((1, 2, 2)), 0.5),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2)), 1.5),
    ],
)
def test_what_is_no_overlay_is_refused(image: np.ndarray, heat: np.ndarray, opacity: float) -> None:
    with pytest.raises(UsageError, match=r"opacity|overlay takes"):
        overlay(image, heat, opacity=opacity)
