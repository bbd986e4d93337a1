"""Key points of heat maps, and how near they are. Beside OpenMMLab's own decoder: ``benchmarks/parity_heads.py``."""

from __future__ import annotations

import numpy as np
import pytest

from edge_van.errors import DataError
from edge_van.tasks.pose import FALLOFF, PoseTally, key_points

SIZE = (64, 48)


def maps_of(*places: tuple[float, float]) -> np.ndarray:
    """One image; a Gaussian of sigma 2 cells around each (x, y) in pixels."""
    rows, columns = np.mgrid[: SIZE[0] // 4, : SIZE[1] // 4]
    maps = [np.exp(-((columns - x / 4) ** 2 + (rows - y / 4) ** 2) / 8) for x, y in places]
    return np.stack(maps)[None].astype(np.float32)


def test_a_quarter_nearer_to_the_higher_neighbour() -> None:
    found = key_points(maps_of((20.0, 30.0), (21.2, 32.0), (19.2, 29.0)), SIZE)
    assert found.shape == (1, 3, 3)
    assert found[0, :, :2].tolist() == [[20.0, 29.0], [21.0, 32.0], [19.0, 29.0]]
    assert found[0, 1, 2] == pytest.approx(maps_of((21.2, 32.0)).max())


def test_at_the_edge_nothing_is_shifted() -> None:
    assert key_points(maps_of((0.0, 0.0), (44.0, 60.0)), SIZE)[0, :, :2].tolist() == [[0.0, 0.0], [44.0, 60.0]]


def test_pck_and_oks() -> None:
    tally = PoseTally(2, SIZE)
    truth = np.array([[[20, 32, 1], [8, 8, 1]], [[20, 32, 1], [8, 8, 0]]], np.float32)
    right = np.concatenate([maps_of((20, 32), (8, 8))] * 2)
    wrong = np.concatenate([maps_of((20, 32), (16, 8)), maps_of((20, 32), (40, 8))])
    tally.add_points(right[:1], wrong[:1], truth[:1], np.array([40.0]))
    tally.add_points(right[1:], wrong[1:], truth[1:], np.array([20.0]))
    figures = tally.figures(("a", "b"))
    [oks] = figures.others
    assert (figures.metric.name, figures.metric.fp32_percent) == ("PCK", 100)
    assert figures.metric.int8_percent == pytest.approx(100 * 2 / 3)  # the last point counts for nothing
    assert figures.metric.drop_interval.low < figures.metric.drop_points < figures.metric.drop_interval.high
    assert (oks.name, oks.fp32_percent) == ("OKS", 100)
    assert oks.int8_percent == pytest.approx(100 * (2 + np.exp(-(0.2**2) / (2 * FALLOFF**2))) / 3)
    assert tally.agreement_percent == 50


def test_no_point_counts() -> None:
    tally = PoseTally(1, SIZE)
    tally.add_points(maps_of((8, 8)), maps_of((8, 8)), np.zeros((1, 1, 3), np.float32), np.array([10.0]))
    with pytest.raises(DataError, match="none of the 1 images has a key point"):
        tally.figures(())
