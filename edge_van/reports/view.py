"""What a page consists of, before it is HTML or Markdown: sections of text, tables, plots and pictures.

In: nothing. Out: frozen records that the templates walk through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_van.reports.record import CAMPair, Flip, Verdict


class Code(str):
    """Text in a table that is to be copied as it is: a command."""

    __slots__ = ()


@dataclass(frozen=True)
class Text:
    """A paragraph; a hint says what to run for more."""

    text: str
    kind: Literal["text", "hint"] = "text"
    block: Literal["text"] = "text"


@dataclass(frozen=True)
class Column:
    """A table's column; figures stand to the right."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of text under ``columns``; ``folded`` ones open on demand, and are open in print. ``note`` stands below."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    note: str = ""
    block: Literal["table"] = "table"


@dataclass(frozen=True)
class Plot:
    """One figure drawn for a wide (720 px) and a narrow (350 px) column, as SVG; the table holds its figures."""

    name: str  # unique on the page
    title: str
    wide: str
    narrow: str
    table: Table
    caption: str = ""
    block: Literal["plot"] = "plot"


@dataclass(frozen=True)
class Flips:
    """Images whose predicted class is another one in INT8."""

    flips: tuple[Flip, ...]
    block: Literal["flips"] = "flips"


@dataclass(frozen=True)
class CAMCards:
    """Grad-CAM of both models beside each other."""

    pairs: tuple[CAMPair, ...]
    block: Literal["cams"] = "cams"


Block = Text | Table | Plot | Flips | CAMCards


@dataclass(frozen=True)
class Group:
    """The blocks of one side; without a name those of the whole report."""

    blocks: tuple[Block, ...]
    side: str = ""


@dataclass(frozen=True)
class Section:
    name: str  # the anchor
    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Fact:
    """A figure of the summary at the top, with what it is and its interval."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class VerdictView:
    """A verdict with the figures that stand beside it."""

    verdict: Verdict
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    verdicts: tuple[VerdictView, ...]
    comparison: tuple[str, ...]
    sections: tuple[Section, ...]
    created: str
    version: str


def columns(*names: str, text: tuple[int, ...] = (0,)) -> tuple[Column, ...]:
    """Columns by name; those at the positions ``text`` hold words."""
    return tuple(Column(name, i not in text) for i, name in enumerate(names))
