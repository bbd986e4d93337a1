"""``InputSpec``: the one description of a network's input, shared by calibration, validation, exports and devices.

In: sizes, crop, interpolation, mean, std, class names. Out: a frozen record that checks itself, and the geometry.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge_van.errors import UsageError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
MAX_SIDE = 8192
LARGEST_MEAN, SMALLEST_STD = 1e3, 1e-6
"""Beyond these a normalised pixel says nothing in float32."""


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be written: a file's name may hold bytes that are no text, and JSON half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class InputSpec:
    """How an RGB image becomes the network's input.

    size           (height, width) in pixels of what the network sees
    crop           share of the resized image's side that the centre crop keeps, in (0, 1]
    interpolation  Pillow's resampling filter for the resize
    mean, std      per channel, on values scaled to 0..1
    classes        class names in the order of the logits; None where they are not known
    source_size    (height, width) of every image a device will send, where that is fixed (a camera): the resize and
                   the crop then go into the exported graph; None: images come in any size and the host resizes
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 0.9
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    classes: tuple[str, ...] | None = None
    source_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("size", "source_size"):
            value = getattr(self, name)
            if value is None and name == "source_size":
                continue
            if len(value) != 2 or not all(type(v) is int and 1 <= v <= MAX_SIDE for v in value):  # True is no side
                raise UsageError(f"{name} is (height, width), each from 1 to {MAX_SIDE}; got {value!r}")
        if isinstance(self.crop, bool) or not 0.0 < self.crop <= 1.0:
            raise UsageError(f"crop is a share of the resized side, over 0 and up to 1; got {self.crop!r}")
        if max(self.size) > MAX_SIDE * self.crop:
            raise UsageError(
                f"crop {self.crop!r} of {self.size[0]}x{self.size[1]} px asks for a resize to over {MAX_SIDE} px: "
                f"give a larger share"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {self.interpolation!r}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3 or not all(math.isfinite(v) and abs(v) <= LARGEST_MEAN for v in value):
                raise UsageError(
                    f"{name} is three finite numbers (R, G, B, on a 0..1 scale) up to {LARGEST_MEAN:g}; got {value!r}"
                )
        if min(self.std) < SMALLEST_STD:
            raise UsageError(f"std must be over 0 in every channel, at least {SMALLEST_STD:g}; got {self.std!r}")
        if self.classes is not None:
            if not isinstance(self.classes, tuple) or not all(isinstance(c, str) for c in self.classes):
                raise UsageError(f"class names are a list of strings; got {str(self.classes)[:80]}")
            if unwritable := [c for c in self.classes if not is_utf8(c)]:
                raise UsageError(f"class names are written as UTF-8, which {unwritable[0]!r} is not: rename it")
            repeated = sorted(c for c, count in Counter(self.classes).items() if count > 1)
            if not self.classes or repeated:
                raise UsageError(
                    f"class names must be there and differ; repeated: {', '.join(repeated) or 'none, there are none'}"
                )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) an image of that size is resized to: it covers ``floor(size / crop)``, aspect kept.

        Truncates as torchvision's Resize does, so that published accuracies hold (224 at crop 0.9: shorter side 248).
        """
        target_h, target_w = math.floor(self.size[0] / self.crop), math.floor(self.size[1] / self.crop)
        if target_h * width >= target_w * height:
            return target_h, max(int(target_h * width / height), target_w)
        return max(int(target_w * height / width), target_h), target_w

    def crop_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the centre crop in a resized image of (height, width)."""
        top, left = round((height - self.size[0]) / 2.0), round((width - self.size[1]) / 2.0)
        return left, top, left + self.size[1], top + self.size[0]

    def with_overrides(self, **overrides: Any) -> InputSpec:
        """A copy with every override that is not None put in place."""
        return replace(self, **{k: v for k, v in overrides.items() if v is not None})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputSpec:
        """The inverse of ``to_dict``; a ``UsageError`` names what is unknown or of the wrong type."""
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(values) - known):
            raise UsageError(f"unknown InputSpec entries {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        entries: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**entries)
        except TypeError as error:
            raise UsageError(f"an InputSpec entry has the wrong type: {error}") from None


OFFICIAL = InputSpec()
"""The preprocessing of the official ImageNet weights: 224 px, crop 0.9, bicubic, mean and std 0.5."""
