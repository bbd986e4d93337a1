"""The published JSON Schemas of every file edge-van writes, one file a format and version.

In: the records. Out: the schemas as text. ``python -m edge_van.schemas`` writes them anew after a record has changed.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published() -> dict[str, str]:
    """File name to content, generated from the records as they are now; sorted keys, so that a change is seen."""
    from edge_van.bundle.manifest import manifest_schema
    from edge_van.bundle.records import MANIFEST_SCHEMA_VERSION
    from edge_van.evaluation.sensitivity_record import SENSITIVITY_SCHEMA_VERSION, sensitivity_schema
    from edge_van.reports.record import REPORT_SCHEMA_VERSION, report_schema
    from edge_van.timing.record import BENCHMARK_SCHEMA_VERSION, benchmark_schema

    schemas = {
        f"benchmark-{BENCHMARK_SCHEMA_VERSION}.json": benchmark_schema(),
        f"manifest-{MANIFEST_SCHEMA_VERSION}.json": manifest_schema(),
        f"report-{REPORT_SCHEMA_VERSION}.json": report_schema(),
        f"sensitivity-{SENSITIVITY_SCHEMA_VERSION}.json": sensitivity_schema(),
    }
    return {
        name: json.dumps({"$schema": _DIALECT, **_settled(schema)}, indent=2, sort_keys=True) + "\n"
        for name, schema in schemas.items()
    }


def _settled(schema: Any) -> Any:
    """The same schema from every Python and msgspec.

    Python 3.13 takes the indent off docstrings, msgspec 0.23 does too and names the empty object as a default, which
    older ones leave out.
    """
    if isinstance(schema, list):
        return [_settled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    settled = {key: _settled(value) for key, value in schema.items() if (key, value) != ("default", {})}
    if isinstance(description := settled.get("description"), str):
        settled["description"] = inspect.cleandoc(description)
    return settled
