"""``storage.json_format``: what is of another kind, version or type is refused in one line that names the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundle_samples import one_line

from edge_van.errors import UsageError
from edge_van.storage.json_format import JSONFormat, kind_of


@dataclass(frozen=True)
class Found:
    kind: str
    schema_version: int
    name: str

    def __post_init__(self) -> None:
        if self.name == "refused":
            raise UsageError("the name is refused: give another")


FORMAT = JSONFormat(Found, "edge-van find", 2, 2, 1000, "finding", "find it again")
GOOD = {"kind": "edge-van find", "schema_version": 2, "name": "x"}


def test_what_fits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(GOOD))
    assert FORMAT.read(path) == Found("edge-van find", 2, "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"kind": "\xff", "schema_version": 2, "name": "x"}', "is no finding"),
        (b'{"kind": "edge-van find", "schema_version": 2, "name": "\xff"}', "is no finding"),
        (json.dumps({**GOOD, "name": "refused"}).encode(), "(the name is refused: give another)"),
        (json.dumps({**GOOD, "name": 3}).encode(), "$.name"),
        (json.dumps({**GOOD, "kind": "edge-van lose"}).encode(), "'edge-van lose', no edge-van find"),
        (json.dumps({**GOOD, "schema_version": 1}).encode(), "version 1 of the format"),
        (b" " * 2000, "no finding is"),
        (b"[" * 900, "is no finding"),
    ],
    ids=["head", "name", "own-check", "type", "kind", "version", "size", "depth"],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        FORMAT.read(path)
    one_line(caught, str(path), words, "find it again")


def test_the_kind_is_read_however_the_file_is_laid_out() -> None:
    for content in (json.dumps(GOOD), json.dumps(GOOD, indent=8), json.dumps(GOOD, separators=(",", ":"))):
        assert kind_of(content.encode()) == "edge-van find"
    for raw in (b"", b"{}", b"[]", b"\xff", b'{"kind": "\xff"}', b'"edge-van find"', b"[" * 100_000):
        assert kind_of(raw) is None
