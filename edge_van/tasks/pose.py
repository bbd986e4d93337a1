"""Key points of one object an image: where they are said to be, and how near that is, with a paired interval.

In: heat maps (N, points, h, w), the truth (N, points, 3), x and y in pixels of the image and 1 where the point counts.
Out: ``Figures`` whose metric is PCK; OKS beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import DataError
from edge_van.tasks.base import Figures, Tally, change
from edge_van.tasks.ranking import Drawn, Metric, Shares, of_all, paired_bootstrap

SHIFT = 0.25
NEAR = 0.1
"""A point is right within this share of the object's longer side (Yang and Ramanan, 2013, "Articulated Human Detection
with Flexible Mixtures of Parts", section 6.1)."""
FALLOFF = 0.1
"""COCO's k, twice a point's sigma, where points have none of their own: about that of a wrist or an ankle there."""


def key_points(heat_maps: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """(N, points, 3): x and y in pixels of an image of ``size``, (height, width), and the highest value of the map.

    The place is that of the highest value, a quarter of a cell nearer to its higher neighbour each way (Xiao et al.,
    2018, "Simple Baselines", section 2). Not in the first two columns and rows, nor in the last: as OpenMMLab's
    ``MSRAHeatmap``, with which a network's points are to agree.
    """
    n, points, height, width = heat_maps.shape
    flat = heat_maps.reshape(n, points, -1)
    best = flat.argmax(-1)
    rows, columns = np.divmod(best, width)
    values = flat.max(-1)
    found = np.stack([columns, rows], -1).astype(np.float64)
    padded = np.pad(heat_maps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    image, point = np.ogrid[:n, :points]
    for axis, (left, right, place, other, end) in enumerate(
        (((0, -1), (0, 1), columns, rows, width), ((-1, 0), (1, 0), rows, columns, height))
    ):
        before, after = (padded[image, point, rows + 1 + down, columns + 1 + along] for down, along in (left, right))
        inside = (place > 1) & (place < end - 1) & (other > 0)
        found[..., axis] += np.where(inside, SHIFT * np.sign(after.astype(np.float64) - before), 0.0)
    scale = np.array([size[1] / width, size[0] / height])
    return np.concatenate([found * scale, values[..., None]], -1).astype(np.float32)


class PoseTally(Tally):
    """PCK and the mean OKS of points that count. ``size`` is the image's, (height, width)."""

    def __init__(self, points: int, size: tuple[int, int]) -> None:
        super().__init__(points)
        self.size = size
        self._sides: list[NDArray[Any]] = []  # of each image's object, its longer one
        self._counts: list[NDArray[np.bool_]] = []
        self._distances: dict[str, list[NDArray[Any]]] = {"fp32": [], "int8": []}

    def add_points(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any], sides: NDArray[Any]) -> None:
        """One batch with the longer side (N,) of each object in pixels; raises as ``add``."""
        self._sides.append(sides)
        self.add(fp32, int8, truth)

    def _agreeing(self, fp32: NDArray[Any], int8: NDArray[Any]) -> float:
        """Of points in the same cell."""
        first, second = (maps.reshape(*maps.shape[:2], -1).argmax(-1) for maps in (fp32, int8))
        return float((first == second).mean(1).sum())

    def _add(self, fp32: NDArray[Any], int8: NDArray[Any], truth: NDArray[Any]) -> None:
        self._counts.append(truth[..., 2] > 0)
        for name, maps in (("fp32", fp32), ("int8", int8)):
            found = key_points(maps, self.size)[..., :2]
            self._distances[name].append(np.linalg.norm(found - truth[..., :2], axis=-1))

    def figures(self, names: tuple[str, ...]) -> Figures:
        """``names`` are not shown. ``DataError`` where no point counts."""
        counts, sides = np.concatenate(self._counts), np.concatenate(self._sides)[:, None]
        if not counts.any():
            raise DataError(
                f"none of the {self.images} images has a key point that counts: there is nothing to measure"
            )
        shares = {n: np.concatenate(distances) / sides for n, distances in self._distances.items()}
        near = [_mean_of((shares[n] <= NEAR).astype(float), counts) for n in ("fp32", "int8")]
        alike = [_mean_of(np.exp(-(shares[n] ** 2) / (2 * FALLOFF**2)), counts) for n in ("fp32", "int8")]
        return Figures(self._change("PCK", near), 0.0, (self._change("OKS", alike),))

    def _change(self, name: str, metrics: list[Metric]) -> Any:
        first, second = (of_all(metric, self.images) for metric in metrics)
        return change(name, first, second, paired_bootstrap(metrics[0], metrics[1], self.images, self.outputs))


def _mean_of(values: NDArray[Any], counts: NDArray[np.bool_]) -> Metric:
    """Over the points that count, of the images of a resample."""
    total, there = np.where(counts, values, 0.0).sum(1), counts.sum(1).astype(np.float64)

    def metric(drawn: Drawn) -> Shares:
        out: Shares = np.full(len(drawn), np.nan)
        wholes = drawn @ there
        np.divide(drawn @ total, wholes, out=out, where=wholes > 0)
        return out

    return metric
