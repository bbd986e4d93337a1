"""Random crops, mirroring, mixup and cutmix, of a whole batch at once, on the device that trains.

In: uint8 images and a ``Plan``. Out: float images, normalised, and whose labels they have how much of. A plan is drawn
for the batch of all processes, from a generator of its own, so that it does not matter how many share the work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_van.training.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """What happens to each image of a batch of n. Images 2k and 2k + 1 are mixed with each other.

    boxes     (n, 4) float32: centre x and y, half the width and the height, where the image is -1 to 1
    mirrored  (n,) bool
    mixed     the share that an image keeps of its own pixels and label
    box       of cutmix: left, top, right, bottom as shares of the side; None is mixup
    """

    boxes: NDArray[np.float32]
    mirrored: NDArray[np.bool_]
    mixed: float
    box: tuple[float, float, float, float] | None

    def part(self, first: int, last: int) -> Plan:
        """Of the images from ``first``, which is even, up to ``last``."""
        return Plan(self.boxes[first:last], self.mirrored[first:last], self.mixed, self.box)


def draw_plan(generator: np.random.Generator, settings: TrainSettings) -> Plan:
    """Crops as torchvision's RandomResizedCrop: the area uniform, the aspect ratio log-uniform in 3/4 to 4/3."""
    n = settings.batch
    area = generator.uniform(settings.crop, 1.0, n)
    aspect = np.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3), n))
    half = np.minimum(np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], 1), 1.0)
    centre = generator.uniform(-1.0, 1.0, (n, 2)) * (1.0 - half)
    mirrored = (generator.random(n) < 0.5) & settings.flip
    ways = [way for way, parameter in (("mixup", settings.mixup), ("cutmix", settings.cutmix)) if parameter > 0]
    mixed, box = 1.0, None
    if ways:
        way = ways[int(generator.integers(len(ways)))]
        parameter = settings.mixup if way == "mixup" else settings.cutmix
        mixed = float(generator.beta(parameter, parameter))
        if way == "cutmix":  # (Yun et al., 2019, equation 2)
            side = math.sqrt(1.0 - mixed) / 2.0
            x, y = generator.random(2)
            box = (max(x - side, 0.0), max(y - side, 0.0), min(x + side, 1.0), min(y + side, 1.0))
    return Plan(np.concatenate([centre, half], 1).astype(np.float32), mirrored, mixed, box)


def augment(pixels: Tensor, plan: Plan, size: int, mean: Tensor, std: Tensor) -> tuple[Tensor, float]:
    """(n, C, size, size) float, normalised, of uint8 (n, H, W, C); and the share of an image's own label.

    ``mean`` and ``std`` are (1, C, 1, 1). Of cutmix the share is that of the pixels that are left.
    """
    images = (pixels.permute(0, 3, 1, 2).float() / 255.0 - mean) / std
    boxes = torch.from_numpy(plan.boxes).to(images.device)
    width = torch.where(torch.from_numpy(plan.mirrored).to(images.device), -boxes[:, 2], boxes[:, 2])
    zero = torch.zeros_like(width)
    rows = [torch.stack([width, zero, boxes[:, 0]], 1), torch.stack([zero, boxes[:, 3], boxes[:, 1]], 1)]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), [*images.shape[:2], size, size], align_corners=False)
    images = torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    if plan.mixed == 1.0:
        return images, 1.0
    other = images.view(-1, 2, *images.shape[1:]).flip(1).reshape(images.shape)
    if plan.box is None:
        return plan.mixed * images + (1.0 - plan.mixed) * other, plan.mixed
    left, top, right, bottom = (round(size * share) for share in plan.box)
    images = images.clone()
    images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return images, 1.0 - (bottom - top) * (right - left) / size**2
