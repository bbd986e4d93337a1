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
RESIZES = ("crop", "squash", "pad")
ORDERS = ("rgb", "bgr")
CHANNELS = (1, 3, 4)
MAX_SIDE = 8192
LARGEST_MEAN, LARGEST_STD, SMALLEST_STD = 2.0, 2.0, 1e-6
"""Of values scaled to 0..1: larger ones are those of a 0..255 scale, smaller ones say nothing in float32."""


def is_utf8(text: str) -> bool:
    """Whether ``text`` can be written: a file's name may hold bytes that are no text, and JSON half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the network's input.

    size           (height, width) in pixels of what the network sees
    crop           share of the resized image's side that the centre crop keeps, in (0, 1]
    interpolation  Pillow's resampling filter for the resize
    mean, std      per channel in ``channel_order``, on values scaled to 0..1; their number is that of the channels:
                   1 is grey, 3 a colour image, 4 one with a further band (depth, infrared) where others have alpha
    classes        class names in the order of the logits; None where they are not known
    source_size    (height, width) of every image a device will send, where that is fixed (a camera): the resize and
                   the crop then go into the exported graph; None: images come in any size and the host resizes
    resize         "crop" keeps the aspect and crops what is over, "squash" does not keep it, "pad" keeps it and adds
                   bars; the last two before the centre crop, which ``crop`` 1.0 leaves out
    pad_color      of the bars, 0 to 255 a channel, red first; None is black
    channel_order  of the images that the network was trained on
    source_order   of the pixels that a device will send. A bundle's graphs take these: the swap is inside
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 0.9
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    classes: tuple[str, ...] | None = None
    source_size: tuple[int, int] | None = None
    resize: str = "crop"
    pad_color: tuple[int, ...] | None = None
    channel_order: str = "rgb"
    source_order: str = "rgb"

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
        choices = {"interpolation": INTERPOLATIONS, "resize": RESIZES, "channel_order": ORDERS, "source_order": ORDERS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}; got {getattr(self, name)!r}")
        self._check_normalisation()
        self._check_padding()
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

    def _check_normalisation(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) not in CHANNELS or not all(math.isfinite(v) for v in value):
                raise UsageError(
                    f"{name} is a finite number a channel on a 0..1 scale, for 1, 3 (R, G, B) or 4 channels; got "
                    f"{value!r}"
                )
        if len(self.mean) != len(self.std):
            raise UsageError(f"mean is of {len(self.mean)} channels and std of {len(self.std)}: give as many of both")
        if min(self.std) < SMALLEST_STD:
            raise UsageError(f"std must be over 0 in every channel, at least {SMALLEST_STD:g}; got {self.std!r}")
        if max(map(abs, self.mean)) > LARGEST_MEAN or max(self.std) > LARGEST_STD:
            # 1 stands for no division on the scale of the pixels; a smaller std is on 0..1 already
            mean, std = (
                [v / 255.0 for v in values] if max(values) >= 1.0 else values for values in (self.mean, self.std)
            )
            offer = (",".join(f"{v:.4g}" for v in values) for values in (mean, std))
            raise UsageError(
                f"mean {self.mean!r} and std {self.std!r} are on a 0..255 scale, expected 0..1: divided by 255 they "
                f"are mean {next(offer)} and std {next(offer)}"
            )
        if self.channels == 1 and "bgr" in (self.channel_order, self.source_order):
            raise UsageError("one channel has no order: leave channel_order and source_order out")

    def _check_padding(self) -> None:
        if self.resize == "pad" and self.crop != 1.0:
            raise UsageError(f"resize pad shows the whole image, crop {self.crop!r} cuts its edges off: give crop 1.0")
        if self.pad_color is None:
            return
        if self.resize != "pad":
            raise UsageError(f"pad_color is that of resize pad, not of {self.resize}: leave it out")
        if len(self.pad_color) != self.channels or not all(type(v) is int and 0 <= v <= 255 for v in self.pad_color):
            raise UsageError(
                f"pad_color is {self.channels} whole numbers from 0 to 255, red first; got {self.pad_color!r}"
            )

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def swaps_channels(self) -> bool:
        """Whether the pixels come in another order than the network was trained on."""
        return self.channel_order != self.source_order

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """``mean`` in the order of the pixels."""
        return self._in_source_order(self.mean)

    @property
    def pixel_std(self) -> tuple[float, ...]:
        """``std`` in the order of the pixels."""
        return self._in_source_order(self.std)

    @property
    def pixel_pad_color(self) -> tuple[int, ...]:
        """``pad_color``, black where it is None, in the order of the pixels."""
        color = self.pad_color or (0,) * self.channels
        return (*color[2::-1], *color[3:]) if self.source_order == "bgr" else color

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image as it is sent."""
        return (*(self.source_size or self.size), self.channels)

    def _in_source_order(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Values in ``channel_order`` in the order of the pixels; that of a fourth channel stays last."""
        return (*values[2::-1], *values[3:]) if self.swaps_channels else values

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) an image of that size is resized to: ``floor(size / crop)``, which with the aspect kept it
        covers ("crop") or fits into ("pad").

        Truncates as torchvision's Resize does, so that published accuracies hold (224 at crop 0.9: shorter side 248);
        to fit it rounds as Pillow's ``ImageOps.contain`` does.
        """
        target_h, target_w = math.floor(self.size[0] / self.crop), math.floor(self.size[1] / self.crop)
        if self.resize == "squash":
            return target_h, target_w
        if self.resize == "pad":
            if width * target_h > target_w * height:
                return max(round(height / width * target_w), 1), target_w
            return target_h, max(round(width / height * target_h), 1)
        if target_h * width >= target_w * height:
            return target_h, max(int(target_h * width / height), target_w)
        return max(int(target_w * height / width), target_h), target_w

    def crop_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the centre crop in a resized image of (height, width)."""
        top, left = round((height - self.size[0]) / 2.0), round((width - self.size[1]) / 2.0)
        return left, top, left + self.size[1], top + self.size[0]

    def bars(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels to add (left, top, right, bottom) to a resized image of (height, width), as ``ImageOps.pad`` does."""
        left, top = round((self.size[1] - width) * 0.5), round((self.size[0] - height) * 0.5)
        return left, top, self.size[1] - width - left, self.size[0] - height - top

    def with_overrides(self, **overrides: Any) -> InputSpec:
        """A copy with every override that is not None put in place.

        A resize that is asked for is the whole of it: the crop that stood there belonged to another, and is 1.0. Where
        another ``channel_order`` is asked for, a mean or std that is not stays with its colours.
        """
        given = {k: v for k, v in overrides.items() if v is not None}
        if given.get("resize", self.resize) != self.resize:
            given = {"crop": 1.0, "pad_color": None, **given}
        if given.get("channel_order", self.channel_order) != self.channel_order:
            turned = {name: (*getattr(self, name)[2::-1], *getattr(self, name)[3:]) for name in ("mean", "std")}
            given = {**turned, **given}
        return replace(self, **given)

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
