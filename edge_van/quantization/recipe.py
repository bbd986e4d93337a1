"""The recipe of a quantisation, read from TOML over the packaged defaults. Imports no torch.

In: a ``.toml`` file, or nothing. Out: a ``Recipe``.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_van.assets import DEFAULT_RECIPE, asset
from edge_van.bundle.recipe import QATSettings, Recipe
from edge_van.errors import UsageError
from edge_van.text import single_line


def load_recipe(path: Path | None = None) -> Recipe:
    """The recipe in ``path``, whose missing keys come from the packaged default; without ``path``, that default.

    A ``UsageError`` in one line: a file that is missing or no TOML, an unknown key, a value that does not fit.
    """
    default = asset(DEFAULT_RECIPE)
    values = _read(default)
    if path is not None:
        own = _read(path)
        values |= own | {"qat": values.get("qat", {}) | own.get("qat", {})}
    if isinstance(names := values.get("tensorrt_schemes"), list):
        values["tensorrt_schemes"] = tuple(names)
    try:
        return Recipe(**(values | {"qat": QATSettings(**values.get("qat", {}))}))
    except UsageError as error:
        raise UsageError(f"recipe {path or default}: {error}") from None
    except ValueError:  # Python does not print an integer of thousands of digits
        raise UsageError(f"recipe {path or default}: a number is far too large; see the default recipe") from None
    except TypeError:  # only the default can lack a key, and only where it was edited
        missing = [field.name for field in fields(Recipe) if field.name not in values]
        raise UsageError(f"{default} lacks {', '.join(missing)}; install edge-van again") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"recipe {path} does not exist; check the path, or leave it out for the default") from None
    except OSError as error:
        raise UsageError(f"recipe {path} cannot be read ({error.strerror}); give a TOML file") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or brackets without end
        reason = single_line(error)
        raise UsageError(f"recipe {path} is no TOML ({reason}); mend it, or start from a copy of the default") from None
    _require_known(path, values, Recipe, "")
    table = values.get("qat", {})
    if not isinstance(table, dict):
        raise UsageError(f"recipe {path}: qat is a table, [qat] on a line of its own and its keys below; got {table!r}")
    _require_known(path, table, QATSettings, "qat.")
    return values


def _require_known(path: Path, values: dict[str, Any], record: type[Recipe | QATSettings], prefix: str) -> None:
    known = [field.name for field in fields(record)]
    if unknown := [prefix + key for key in sorted(set(values) - set(known))]:
        raise UsageError(f"recipe {path} has unknown keys: {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
