"""The recipe of a quantisation, read from TOML over the packaged defaults. Imports no torch.

In: a ``.toml`` file, or nothing. Out: a ``Recipe``.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_van.assets import DEFAULT_RECIPE, asset
from edge_van.bundle.recipe import AUTO_LAYERS, QATSettings, Recipe
from edge_van.errors import UsageError
from edge_van.recipe_file import read_recipe_file, require_known

_TABLES = ("qat", "reconstruction")


def load_recipe(path: Path | None = None) -> Recipe:
    """The recipe in ``path``, whose missing keys come from the packaged default; without ``path``, that default.

    A ``UsageError`` in one line: a file that is missing or no TOML, an unknown key, a value that does not fit.
    """
    default = asset(DEFAULT_RECIPE)
    values = _read(default)
    if path is not None:
        own = _read(path)
        values |= own | {table: values.get(table, {}) | own.get(table, {}) for table in _TABLES}
    for key in ("tensorrt_schemes", "float_layers", "activation_places"):
        if isinstance(names := values.get(key), list):
            values[key] = tuple(names)
    if values.get("float_layers") == "auto":
        values["float_layers"] = AUTO_LAYERS
    try:
        return Recipe(**(values | {table: _settings(table, values.get(table, {})) for table in _TABLES}))
    except UsageError as error:
        raise UsageError(f"recipe {path or default}: {error}") from None
    except ValueError:  # Python does not print an integer of thousands of digits
        raise UsageError(f"recipe {path or default}: a number is far too large; see the default recipe") from None
    except TypeError:  # only the default can lack a key, and only where it was edited
        missing = [field.name for field in fields(Recipe) if field.name not in values]
        raise UsageError(f"{default} lacks {', '.join(missing)}; install edge-van again") from None


def _read(path: Path) -> dict[str, Any]:
    values = read_recipe_file(path, advice="leave it out for the default")
    require_known(path, values, [field.name for field in fields(Recipe)])
    for name in _TABLES:
        table = values.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(
                f"recipe {path}: {name} is a table, [{name}] on a line of its own and its keys below; got {table!r}"
            )
        require_known(path, table, [field.name for field in fields(QATSettings)], f"{name}.")
    return values


def _settings(table: str, values: dict[str, Any]) -> QATSettings:
    try:
        return QATSettings(**values)
    except UsageError as error:
        raise UsageError(f"{table}.{error}") from None
