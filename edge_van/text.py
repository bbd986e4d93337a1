"""Names, paths and messages as a person, a file or a terminal may be shown them.

In: texts and paths of any origin. Out: one line, printable, not endless, without the folders that are the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path


class TextEnum(str, Enum):
    """Members are their values wherever text is wanted: ``enum.StrEnum``, which Python 3.10 lacks."""

    def __str__(self) -> str:
        return str(self.value)


def precision_words(name: str) -> str:
    """A precision, or a scheme of a table beside precisions, for a reader."""
    return "INT8, rest BF16" if name == "int8_bf16" else name.upper().replace("_", " ")


def file_name(path: Path) -> str:
    """The last part; of ``.`` and ``/``, which have none, that of the folder it stands for, or the path itself."""
    return path.name if path.name not in ("", "..") else path.resolve().name or str(path)


def without_folders(text: object, paths: Iterable[Path]) -> str:
    """``text`` with each of ``paths``, as given and as resolved, and what lies in it, told from its own name on."""
    shortened = str(text)
    names = {
        str(spelt): file_name(path)
        for path in paths
        for spelt in (path, path.resolve())
        if spelt.name not in ("", "..")
    }
    for spelt in sorted(names, key=len, reverse=True):  # the folder of another after it
        shortened = shortened.replace(spelt, names[spelt])
    return shortened


def one_line(text: str) -> str:
    """``text`` with everything unprintable escaped: a file's name may hold line breaks and terminal codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def single_line(text: object, limit: int | None = None) -> str:
    """``text`` with every run of white space as one space, at most ``limit`` characters of it."""
    return " ".join(str(text).split())[:limit]


def printable(text: object, limit: int = 100) -> str:
    """``text`` from inside a file as a message may show it: one line, no control characters, not endless."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def first_names(names: Iterable[str], most: int = 5) -> str:
    """The first ``most`` names, and how many there are where that is more."""
    every = list(names)
    listed = ", ".join(printable(name) for name in every[:most])
    return listed if len(every) <= most else f"{listed}, ... ({len(every)} in all)"


def shown(path: Path) -> str:
    """A name for people and for JSON: bytes that are no UTF-8 are shown by their numbers."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
