"""How a training goes: its numbers, checked. Imports no torch.

In: values, or a recipe's TOML file. Out: ``TrainSettings``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_van.errors import UsageError
from edge_van.recipe_file import read_recipe_file, require_known
from edge_van.schedule import warm_up_and_cosine


@dataclass(frozen=True)
class TrainSettings:
    """What a training is made of.

    epochs           times every image is seen, on average
    batch            images an update, over all processes together
    size             side of the network's input in pixels
    learning_rate    AdamW's at its highest; linear over the first ``warm_up`` of the updates, then a cosine to 0
    weight_decay     of matrices and kernels; vectors (biases, norms, layer scales) have none
    warm_up          share of the updates, 0 to 1
    label_smoothing  0 to 1
    crop             the smallest share of an image's area that a random crop keeps, over 0 to 1
    flip             mirror half of the images
    mixup, cutmix    the Beta distributions' parameters; 0 is off. Where both are on, they take turns at random
    ema              decay of the averaged weights an update; they are what is saved. 0: the plain weights
    drop_path        rate of the last block's stochastic depth, 0 to under 1
    first_size       side at the start; it grows to ``size`` over the first ``growing`` of the updates. None: ``size``
    growing          share of the updates, 0 to 1
    seed             of the weights, the order and the augmentation
    """

    epochs: int
    batch: int = 256
    size: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: float = 0.04
    label_smoothing: float = 0.1
    crop: float = 0.35
    flip: bool = True
    mixup: float = 0.2
    cutmix: float = 1.0
    ema: float = 0.9995
    drop_path: float = 0.0
    first_size: int | None = None
    growing: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        whole = (("epochs", 1, 100_000), ("batch", 2, 65_536), ("size", 16, 2048), ("seed", 0, 2**63 - 1))
        for name, low, high in whole:
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:  # True is no number of epochs
                raise UsageError(f"{name} is a whole number from {low} to {high}; got {value!r}")
        if self.batch % 2:
            raise UsageError(f"batch is even, for images are mixed in pairs; got {self.batch}")
        if self.first_size is not None and not (type(self.first_size) is int and 16 <= self.first_size <= self.size):
            raise UsageError(f"first_size is a whole number from 16 to size, {self.size}; got {self.first_size!r}")
        limits = {"learning_rate": 10.0, "weight_decay": 10.0, "mixup": 10.0, "cutmix": 10.0}
        shares = ("warm_up", "label_smoothing", "crop", "ema", "drop_path", "growing")
        for name, high_number in {**limits, **dict.fromkeys(shares, 1.0)}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= high_number:
                raise UsageError(f"{name} is a number from 0 to {high_number:g}; got {value!r}")
        if type(self.flip) is not bool:
            raise UsageError(f"flip is true or false; got {self.flip!r}")
        if self.crop == 0:
            raise UsageError("crop is over 0, for a crop without area has no pixels; got 0")
        for name in ("drop_path", "ema"):
            if getattr(self, name) == 1:
                raise UsageError(f"{name} is under 1, for at 1 nothing would be learnt; got 1")

    def steps(self, images: int) -> int:
        """Updates of the whole training: the last batch of an epoch goes on into the next."""
        return max(math.ceil(self.epochs * images / self.batch), 1)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of an update."""
        return self.learning_rate * warm_up_and_cosine(step, steps, round(self.warm_up * steps))

    def size_at(self, step: int, steps: int) -> int:
        """Pixels, in steps of 16: progressive learning (Tan and Le, EfficientNetV2, 2021, section 4)."""
        if self.first_size is None or step >= self.growing * steps:
            return self.size
        grown = self.first_size + (self.size - self.first_size) * step / (self.growing * steps)
        return min(max(16 * round(grown / 16), self.first_size), self.size)


def load_train_settings(path: str | Path | None, **given: Any) -> TrainSettings:
    """The settings in the TOML file ``path``, those ``given`` before them; without a file, ``given`` and the defaults.

    A ``UsageError`` in one line: a file that is missing or no TOML, an unknown key, a value that does not fit.
    """
    values: dict[str, Any] = {}
    if path is not None:
        path = Path(path)
        values = read_recipe_file(path, advice="leave it out and give --epochs")
        require_known(path, values, [field.name for field in fields(TrainSettings)])
        _settings({"epochs": 1} | values, f"recipe {path}: ")  # so that a flag is not blamed on the file
    if "epochs" not in values | given:
        raise UsageError("a training needs --epochs N, or --recipe FILE with epochs = N in it")
    return _settings(values | given)


def _settings(values: dict[str, Any], where: str = "") -> TrainSettings:
    try:
        return TrainSettings(**values)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None
    except ValueError:  # Python does not print an integer of thousands of digits
        raise UsageError(f"{where}a number is far too large; see edge-van train --help") from None
