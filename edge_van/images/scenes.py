"""Synthetic scenes with exact truth: textured shapes on textured ground, for tests and for training in minutes.

In: a seed, a size. Out: a ``Scene``: the image, every pixel's class, and each shape's box, mask and key points. Colours
and textures are drawn for each shape anew: its class is its outline alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import UsageError

Plane = NDArray[np.float64]

_OUTLINES: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "disc": lambda u, v: np.hypot(u, v) <= 1.0,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.8,
    "triangle": lambda u, v: (v >= -0.5) & (math.sqrt(3.0) * abs(u) + v <= 1.0),
    "ring": lambda u, v: (np.hypot(u, v) <= 1.0) & (np.hypot(u, v) >= 0.55),
    "cross": lambda u, v: (np.maximum(abs(u), abs(v)) <= 1.0) & (np.minimum(abs(u), abs(v)) <= 0.3),
    "arrow": lambda u, v: (
        ((abs(u) <= 0.25) & (v >= -1.0) & (v <= 0.2)) | ((v >= 0.2) & (v <= 1.0) & (abs(u) <= 1.0 - v))
    ),
}
"""Which points (u, v) of a shape's own plane are in it; all reach about 1 from the centre."""
ARROW = "arrow"
"""The one that shows which way it is turned, so that its key points can be told."""
SHAPES = tuple(name for name in _OUTLINES if name != ARROW)
GROUND = "ground"
CLASSES = (GROUND, *SHAPES)
POINTS = ("centre", "top", "right", "bottom", "left")
"""Key points of every shape, in its own plane: they turn with it."""
_PLACES = np.array([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)], np.float64)
LEAST_PIXELS = 24
"""A shape of which less is seen, behind others or over the edge, is not in the truth, and its pixels are unknown."""
UNKNOWN = 255


@dataclass(frozen=True)
class Scene:
    """N shapes, the nearest last.

    image    uint8 (H, W, 3), RGB
    labels   uint8 (H, W): 0 of the ground, from 1 on of ``SHAPES``, 255 unknown
    classes  int64 (N,), numbers of ``SHAPES``, or of the kinds that were asked for, from 0 on
    boxes    float32 (N, 4): left, top, right, bottom in pixels, around what is seen
    masks    bool (N, H, W): what is seen
    points   float32 (N, 5, 3): x and y in pixels, and 1 where that point is in the image and not hidden, else 0
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    masks: NDArray[np.bool_]
    points: NDArray[np.float32]


def scene(
    seed: int, size: tuple[int, int], *, shapes: tuple[int, int] = (1, 5), kinds: Sequence[str] = SHAPES
) -> Scene:
    """The scene of ``seed`` at ``size``, (height, width), with as many shapes of ``kinds`` as drawn from the range
    ``shapes``.

    The same on every machine. No shapes at all is a scene, too. ``UsageError`` for less than 16 pixels a side, and for
    an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in _OUTLINES]:
        raise UsageError(f"a scene has no {unknown[0]!r}; there are {', '.join(_OUTLINES)}")
    height, width = size
    if min(size) < 16 or not 0 <= shapes[0] <= shapes[1]:
        raise UsageError(f"a scene is at least 16x16 with 0 shapes or more; got {height}x{width} with {shapes}")
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    image = _texture(rng, rows, columns)
    owner = np.full(size, -1)
    drawn, points = [], []
    for number in range(int(rng.integers(shapes[0], shapes[1] + 1))):
        kind = int(rng.integers(len(kinds)))
        radius = min(size) * rng.uniform(0.1, 0.28)
        centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        turn = rng.uniform(0, 2 * math.pi)
        across, along = np.array([math.cos(turn), math.sin(turn)]), np.array([math.sin(turn), -math.cos(turn)])
        x, y = (columns - centre[0]) / radius, (rows - centre[1]) / radius
        inside = _OUTLINES[kinds[kind]](x * across[0] + y * across[1], x * along[0] + y * along[1])
        image[inside] = _texture(rng, rows, columns)[inside]
        owner[inside] = number
        drawn.append(kind)
        points.append(centre + radius * (_PLACES[:, :1] * across + _PLACES[:, 1:] * along))
    noisy = image + rng.normal(0.0, 6.0, image.shape)
    return _with_truth(np.clip(noisy, 0, 255).astype(np.uint8), owner, drawn, points)


def _with_truth(image: NDArray[np.uint8], owner: NDArray[np.int64], kinds: list[int], points: list[Plane]) -> Scene:
    labels = np.zeros(owner.shape, np.uint8)
    kept, masks, boxes, seen = [], [], [], []
    for number, kind in enumerate(kinds):
        mask = owner == number
        if mask.sum() < LEAST_PIXELS:
            labels[mask] = UNKNOWN
            continue
        labels[mask] = 1 + kind
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        kept.append(kind)
        masks.append(mask)
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        seen.append([(x, y, _is_seen(x, y, owner, number)) for x, y in points[number]])
    return Scene(
        image,
        labels,
        np.array(kept, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(masks, np.bool_).reshape(-1, *owner.shape),
        np.array(seen, np.float32).reshape(-1, len(POINTS), 3),
    )


def _is_seen(x: float, y: float, owner: NDArray[np.int64], number: int) -> bool:
    """Whether the point is in the image and no nearer shape covers it. (It need not be in its own: a ring's centre.)"""
    height, width = owner.shape
    return 0 <= x < width and 0 <= y < height and int(owner[int(y), int(x)]) <= number


def _texture(rng: np.random.Generator, rows: Plane, columns: Plane) -> Plane:
    """(H, W, 3) in 0..255: a colour, and two waves through it."""
    colour = rng.uniform(40, 215, 3)
    texture = np.broadcast_to(colour, (*rows.shape, 3)).copy()
    for _ in range(2):
        angle, length, phase = rng.uniform(0, math.pi), rng.uniform(3, 24), rng.uniform(0, 2 * math.pi)
        wave = np.sin(2 * math.pi * (rows * math.sin(angle) + columns * math.cos(angle)) / length + phase)
        texture += wave[..., None] * rng.uniform(-30, 30, 3)
    return np.asarray(texture, np.float64)
