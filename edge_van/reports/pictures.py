"""Pictures small enough to be embedded in a page.

In: uint8 (H, W, 3) RGB. Out: the same, larger, or a JPEG's bytes.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_PX = 160


def at_least(pixels: NDArray[np.uint8], side_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
    """Enlarged so that the shorter side has ``side_px``: a heat map over an image of 64 px would be as coarse as it."""
    shorter = min(pixels.shape[:2])
    if shorter >= side_px:
        return pixels
    height, width = (round(side * side_px / shorter) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: NDArray[Any]) -> bytes:
    """A JPEG of at most ``THUMBNAIL_PX`` a side: as PNG a page of photographs has megabytes."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()
