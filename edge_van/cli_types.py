"""The kinds of values that flags take, beyond click's own.

In: the text of a flag. Out: a checked value, or click's usage error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _SizesBase = click.ParamType[tuple[int, int]]
    _TripleBase = click.ParamType[tuple[float, ...]]
    _NumberBase = click.ParamType[float]
else:  # not generic at run time before click 8.4
    _SizesBase = _TripleBase = _NumberBase = click.ParamType


class Sizes(_SizesBase):
    """``224`` or ``HEIGHTxWIDTH``."""

    name = "PIXELS|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(p.isdecimal() for p in parts):
            self.fail(f"{value!r} is no size: give pixels (224) or height x width (224x320)", param, ctx)
        return int(parts[0]), int(parts[-1])


class Triple(_TripleBase):
    """Three numbers with commas, or one for all channels."""

    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(p) for p in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is not one number or three with commas (0.485,0.456,0.406)", param, ctx)
        return numbers * (3 // len(numbers))


class Limit(_NumberBase):
    """A finite number within bounds: ``click.FloatRange`` lets NaN through, which no limit is ever under."""

    name = "FLOAT"

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not self.low <= number <= self.high:
            self.fail(f"{value!r} is not a number from {self.low:g} to {self.high:g}", param, ctx)
        return number
