"""A heat map laid over the image it belongs to.

In: uint8 (H, W, 3) RGB as the network saw it, a heat map (h, w) in 0..1. Out: a PIL image of the same size. Pillow and
numpy alone, as on a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_van.errors import UsageError

INFERNO = (
    (0, 0, 4),
    (33, 12, 74),
    (87, 16, 110),
    (138, 34, 106),
    (188, 55, 84),
    (228, 90, 49),
    (249, 142, 9),
    (249, 203, 53),
    (252, 255, 164),
)
"""The colour map "inferno" (Smith and van der Walt, 2015, CC0) at 0, 1/8 ... 1; straight lines in sRGB between them.
Perceptually even: equal steps of the value look like equal steps, and its lightness grows with the value, also in grey
and for colour-blind eyes. Black is 0, pale yellow 1."""


def colours(values: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 (..., 3) RGB for values in 0..1; what lies outside is taken to the nearer end."""
    at = np.linspace(0.0, 1.0, len(INFERNO))
    channels = [np.interp(values, at, [colour[c] for colour in INFERNO]) for c in range(3)]
    pixels: NDArray[np.uint8] = np.stack(channels, -1).round().astype(np.uint8)
    return pixels


def overlay(image: NDArray[np.uint8], heat: NDArray[Any], *, opacity: float = 0.5) -> Image.Image:
    """The image under the heat map's colours: ``(1 - opacity) * image + opacity * colour``, in sRGB.

    The map is enlarged bilinearly to the image's size, each value at the middle of the pixels it was computed from.
    Raises ``UsageError`` for an opacity outside 0..1 or arrays of another form.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or heat.ndim != 2:
        raise UsageError(
            f"an overlay takes a uint8 image (H, W, 3) and a heat map (h, w), got {image.dtype} {image.shape} and "
            f"{heat.shape}"
        )
    if not 0.0 <= opacity <= 1.0:
        raise UsageError(f"opacity is from 0 to 1, got {opacity!r}")
    height, width = image.shape[:2]
    small = Image.fromarray(heat.astype(np.float32))  # mode F: enlarged as numbers, not as colours
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    return Image.blend(Image.fromarray(image), Image.fromarray(colours(large)), opacity)
