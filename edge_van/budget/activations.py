"""Where another activation than GELU pays first: what it gains in time, for the noise that it makes.

In: the folded network, kernels' times with GELU and with hard-swish, calibration images. Out: places, the best first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.export.job import ExportJob
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.activations import with_activation, writers
from edge_van.statistics import sqnr_db_per_image

KIND = "hardswish"
IMAGES = 64
LEAST_GAIN = 0.003
"""Share of all layers' time that a place must gain: less is not told from noise, and no drop is risked for it."""


@torch.no_grad()
def activation_bargains(job: ExportJob, gelu: Mapping[str, float], other: Mapping[str, float]) -> tuple[str, ...]:
    """Of ``ACTIVATION_PLACES`` those that gain time, by the noise of the float network for each millisecond.

    ``gelu`` and ``other`` are the milliseconds of the INT8 model's kernels by layer, with either activation
    everywhere. The images are of calibration: those that accuracy is measured on choose nothing here.
    """
    images = job.images.first(IMAGES)

    def logits(model: FoldedVAN) -> NDArray[np.float32]:
        found: NDArray[np.float32] = torch.cat([model(batch) for batch in images]).numpy()
        return found

    with job.work.reporter.stage("Weighing each place of the activation", len(ACTIVATION_PLACES)) as advance:
        reference = logits(job.folded)
        cost: dict[str, float] = {}
        for place in ACTIVATION_PLACES:
            gain = sum(gelu.get(name, 0.0) - other.get(name, 0.0) for name in writers(job.folded, place))
            if gain > 0.0 and gain >= LEAST_GAIN * sum(gelu.values()):
                each_db = sqnr_db_per_image(reference, logits(with_activation(job.folded, KIND, (place,))))
                cost[place] = float(10.0 ** (-each_db.mean() / 10.0)) / gain
            advance(1)
    return tuple(sorted(cost, key=lambda place: cost[place]))
