"""``edge_van.schemas``: the published files are what the records generate, and what edge-van writes fits them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from samples import benchmark, manifest

from edge_van.bundle.manifest import encoded
from edge_van.schemas import FOLDER, published
from edge_van.timing.record import encode_benchmark


def test_the_published_schemas_are_those_of_the_records() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert {name: there[name] for name in published()} == published(), "a record has changed: run edge_van.schemas"
    older = sorted(there.keys() - published().keys())
    assert older == ["manifest-1.json", "manifest-2.json", "report-1.json", "report-2.json"], (
        "what is still read stays described"
    )


@pytest.mark.parametrize("name", sorted(published()))
def test_a_schema_is_one(name: str) -> None:
    schema = json.loads(published()[name])
    jsonschema.validators.validator_for(schema).check_schema(schema)


def test_what_is_written_fits() -> None:
    content = manifest()
    written = {"manifest-3.json": encoded(content), "benchmark-1.json": encode_benchmark(benchmark({"demo": content}))}
    for name, raw in written.items():
        jsonschema.validate(json.loads(raw), json.loads(published()[name]))


def test_the_command_writes_what_is_published(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "edge_van.schemas", tmp_path], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {name: (FOLDER / name).read_bytes() for name in published()}
