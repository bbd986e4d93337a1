"""A model that computes each image once, for whoever is shown the same set several times.

In: an opened ``ImageModel``. Out: the logits of images by their place in the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.runtimes.image_model import ImageModel


class Remembered(ImageModel):
    def __init__(self, model: ImageModel) -> None:
        self.__dict__.update(vars(model))
        self._model = model
        self._known: dict[int, NDArray[np.floating[Any]]] = {}

    def logits_at(self, indices: Sequence[int], images: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """(N, classes) of ``images``, which are those at ``indices`` of the set."""
        if any(index not in self._known for index in indices):
            self._known |= zip(indices, self._model.logits(images), strict=True)
        return np.stack([self._known[index] for index in indices])
