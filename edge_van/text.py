"""Commands and messages as a file keeps them: paths without the folders that they lie in, which are the user's own.

In: paths, and texts that name them. Out: the same with names only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def file_name(path: Path) -> str:
    """The last part; of ``.`` and ``/``, which have none, that of the folder it stands for, or the path itself."""
    return path.name if path.name not in ("", "..") else path.resolve().name or str(path)


def without_folders(text: object, paths: Iterable[Path]) -> str:
    """``text`` with each of ``paths``, as given and as resolved, and what lies in it, told from its own name on."""
    found = str(text)
    names = {
        str(spelt): file_name(path)
        for path in paths
        for spelt in (path, path.resolve())
        if spelt.name not in ("", "..")
    }
    for spelt in sorted(names, key=len, reverse=True):  # the folder of another after it
        found = found.replace(spelt, names[spelt])
    return found
