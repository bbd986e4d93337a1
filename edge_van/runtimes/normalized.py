"""A model that takes normalised float images, as one that takes the camera's bytes: the same input for every runtime.

In: a ``Session`` with one float input (N, 3, H, W) and an ``InputSpec``. Out: a ``Session`` whose input is uint8
(N, H, W, 3), RGB. One that takes uint8 already is passed through.
"""

from __future__ import annotations

import numpy as np

from edge_van.errors import BundleError
from edge_van.input_spec import InputSpec
from edge_van.runtimes.base import Session, TensorInfo


class NormalizedSession(Session):
    """(x / 255 - mean) / std on the host, in float32, then the model. Closes what it wraps."""

    def __init__(self, session: Session, spec: InputSpec) -> None:
        if len(session.inputs) != 1:
            raise BundleError(f"{session.runtime}: a VAN has one input, this model has {len(session.inputs)}")
        self._session = session
        self.runtime = session.runtime
        self.threads = session.threads
        self.outputs = session.outputs
        [info] = session.inputs
        self._inner = info
        if info.dtype == np.uint8:
            self.inputs = session.inputs
        else:
            self.inputs = (TensorInfo(info.name, (info.shape[0], *spec.size, 3), np.dtype(np.uint8)),)
        self._scale = (1.0 / (255.0 * np.array(spec.std))).astype(np.float32)
        self._offset = (-np.array(spec.mean) / np.array(spec.std)).astype(np.float32)

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        [pixels] = feed.values()
        if self._inner.dtype != np.uint8:
            normalized = pixels.astype(np.float32) * self._scale + self._offset
            pixels = np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)).astype(self._inner.dtype, copy=False)
        return self._session.run({self._inner.name: pixels})

    def close(self) -> None:
        self._session.close()
