"""A model that takes normalised float images, as one that takes the camera's bytes: the same input for every runtime.

In: a ``Session`` with one float input (N, C, H, W) and an ``InputSpec``. Out: a ``Session`` whose input is uint8
(N, H, W, C). One that takes uint8 already is passed through.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_van.errors import BundleError
from edge_van.input_spec import InputSpec
from edge_van.runtimes.base import Session, TensorInfo


def _fits(taken: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(taken) == len(shape) and all(t in (None, s) for t, s in zip(taken, shape, strict=True))


def normalized(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """(N, H, W, C) uint8 to (N, C, H, W) float32: (x / 255 - mean) / std."""
    return _normalized(pixels, _affine(spec))


def _affine(spec: InputSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, std = np.array(spec.pixel_mean), np.array(spec.pixel_std)
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def _normalized(
    pixels: NDArray[np.uint8], affine: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> NDArray[np.float32]:
    scale, offset = (values[:, None, None] for values in affine)
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    images *= scale
    images += offset
    return images


class NormalizedSession(Session):
    """(x / 255 - mean) / std on the host, in float32, then the model. Closes what it wraps."""

    def __init__(self, session: Session, spec: InputSpec) -> None:
        if len(session.inputs) != 1:
            raise BundleError(f"{session.runtime}: a VAN has one input, this model has {len(session.inputs)}")
        [info] = session.inputs
        taken = info.shape[1:]
        # an uint8 model of a bundle with a source size may still be one that the host resizes for
        known = (
            {spec.source_shape, (*spec.size, spec.channels)}
            if info.dtype == np.uint8
            else {(spec.channels, *spec.size)}
        )
        if not any(_fits(taken, shape) for shape in known):
            raise BundleError(
                f"{session.runtime}: the model takes images {taken}, its manifest says {sorted(known)[0]}: make the "
                f"bundle again"
            )
        self._session = session
        self.runtime = session.runtime
        self.threads = session.threads
        self.outputs = session.outputs
        self._inner = info
        if info.dtype == np.uint8:
            self.inputs = session.inputs
        else:
            self.inputs = (TensorInfo(info.name, (info.shape[0], *spec.size, spec.channels), np.dtype(np.uint8)),)
        self._affine = _affine(spec)

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        [pixels] = feed.values()
        if self._inner.dtype != np.uint8:
            pixels = _normalized(pixels, self._affine).astype(self._inner.dtype, copy=False)
        return self._session.run({self._inner.name: pixels})

    def close(self) -> None:
        self._session.close()
