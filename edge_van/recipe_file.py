"""A recipe's TOML file, of whatever it is a recipe of. Imports no torch.

In: a path, and the keys that are known. Out: the file's values, or a ``UsageError`` in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_van.errors import UsageError
from edge_van.text import single_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_recipe_file(path: Path, *, advice: str, called: str = "recipe") -> dict[str, Any]:
    """The values in ``path``. ``advice`` ends the message where it is not there: "check the path, or <advice>"."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return values
    except FileNotFoundError:
        raise UsageError(f"{called} {path} does not exist; check the path, or {advice}") from None
    except OSError as error:
        raise UsageError(f"{called} {path} cannot be read ({error.strerror}); give a TOML file") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or brackets without end
        reason = single_line(error)
        raise UsageError(f"{called} {path} is no TOML ({reason}); mend it, or {advice}") from None


def require_known(path: Path, values: Iterable[str], known: Iterable[str], prefix: str = "") -> None:
    """Refuse a key that nothing reads: it would be a setting that is not set. ``prefix``: of the table it is in."""
    known = list(known)
    if unknown := [prefix + key for key in sorted(set(values) - set(known))]:
        raise UsageError(f"recipe {path} has unknown keys: {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
