"""What every verb shares: the kinds of values that flags take, beyond click's own, ``--verbose``, JSON output.

In: the text of a flag. Out: a checked value, or click's usage error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_van.errors import UsageError
from edge_van.input_spec import CHANNELS

if TYPE_CHECKING:
    _SizesBase = click.ParamType[tuple[int, int]]
    _WordBase = click.ParamType[str]
    _TripleBase = click.ParamType[tuple[float, ...]]
    _NumberBase = click.ParamType[float]
    _NumbersBase = click.ParamType[tuple[int, ...]]
else:  # not generic at run time before click 8.4
    _SizesBase = _WordBase = _TripleBase = _NumberBase = _NumbersBase = click.ParamType


class FilePath(click.Path):
    """A path. An empty one, of a variable that is not set in a script, is no path: it would be the folder one is in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty: give a path", param, ctx)
        return super().convert(value, param, ctx)


class Word(_WordBase):
    """A path or a word. An empty one, of a variable that is not set in a script, is neither."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail("it is empty: give a path, or leave the flag out", param, ctx)
        return str(value)


class Sizes(_SizesBase):
    """``224`` or ``HEIGHTxWIDTH``."""

    name = "PIXELS|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(p.isdecimal() and len(p) < 10 for p in parts):
            self.fail(f"{str(value)[:40]!r} is no size: give pixels (224) or height x width (224x320)", param, ctx)
        return int(parts[0]), int(parts[-1])


class PerChannel(_TripleBase):
    """A number a channel with commas, or one for all of them."""

    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(p) for p in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in CHANNELS:
            self.fail(f"{value!r} is not one number, or one a channel with commas (0.485,0.456,0.406)", param, ctx)
        return numbers


class Color(_NumbersBase):
    """Whole numbers from 0 to 255 with commas, red first."""

    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and len(part) <= 3 and int(part) <= 255 for part in parts):
            self.fail(f"{str(value)[:40]!r} is no colour: give numbers from 0 to 255 (114,114,114)", param, ctx)
        return tuple(map(int, parts))


class Limit(_NumberBase):
    """A finite number within bounds: ``click.FloatRange`` lets NaN through, which no limit is ever under."""

    name = "FLOAT"

    def __init__(self, low: float, high: float, unit: str = "") -> None:
        """``unit`` may stand behind the number."""
        self.low, self.high, self.unit = low, high, unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value).removesuffix(self.unit))
        except ValueError:
            number = float("nan")
        if not self.low <= number <= self.high:
            self.fail(f"{value!r} is not a number from {self.low:g} to {self.high:g}", param, ctx)
        return number


LABELS_HELP = (
    "CSV or JSON of what is true of the images of --data.  [default: their folders; of several labels an image the "
    "file labels.csv or labels.json with them]"
)


def labelled_images(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of what is measured on: ``--data``, ``--labels`` and ``--threshold``."""
    data = "Labelled images: folder or zip, one folder a class, or with a file of labels."
    threshold = "Of a head of sigmoid: from this probability on.  [default: the bundle's]"
    for option in (
        click.option("--threshold", type=float, help=threshold),
        click.option("--labels", type=FilePath(), help=LABELS_HELP),
        click.option("--data", type=FilePath(), required=True, help=data),
    ):
        function = option(function)
    return function


POINTS = Limit(0, 100)
"""Percentage points of accuracy."""
PERCENT = Limit(0, 100, unit="%")


class Numbers(_NumbersBase):
    """Whole numbers from 1 to 1024 with commas, each once, in ascending order."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):  # click converts a default twice
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and len(part) <= 4 and 1 <= int(part) <= 1024 for part in parts):
            self.fail(f"{str(value)[:40]!r} is no list of whole numbers from 1 to 1024 with commas (1,4,8)", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


class Verbs(click.Group):
    """Every verb takes ``--verbose`` too, so that it can be appended to a command line that failed."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(verbose_option())
        super().add_command(cmd, name)


def verbose_option() -> click.Option:
    return click.Option(["--verbose"], is_flag=True, expose_value=False, help="Show the traceback of an error.")


def class_names(path: Path | None) -> tuple[str, ...] | None:
    """The names in the file of ``--classes``, None without one; a ``UsageError`` for a file that is no text."""
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes takes a text file, one name a line; {path} cannot be read: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def print_json(value: Any) -> None:
    """``value`` as one JSON document on standard output."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
