"""Reading a JSON file of ours of one kind, in the versions that are read.

In: a path and what is expected there. Out: the record, its types checked; a ``UsageError`` of one line for all else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edge_van.errors import UsageError
from edge_van.text import single_line

T = TypeVar("T")
R = TypeVar("R")
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot read as the type that was asked for."""


class _Head(msgspec.Struct):
    """What a file of every kind and version starts from; read first, so that the rest may change."""

    kind: str
    schema_version: int
    edge_van_version: str = "of unknown version"


def kind_of(raw: bytes) -> str | None:
    """The kind that a JSON file of ours says it is of; None for anything that is none."""
    try:
        return msgspec.json.decode(raw, type=_Head).kind
    except _BROKEN:
        return None


@dataclass(frozen=True)
class JSONFormat(Generic[T]):
    """A kind of file. ``called`` and ``again`` are words of its messages: "benchmark result", "measure again"."""

    record: type[T]
    kind: str  # also the command that writes it
    version: int
    oldest_version: int
    max_bytes: int
    called: str
    again: str

    def read(self, path: Path) -> T:
        """The record in ``path``; ``UsageError`` where it cannot be read, and as ``decoded`` raises."""
        try:
            with path.open("rb") as file:
                raw = file.read(self.max_bytes + 1)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}): {self._advice}") from error
        return self.decoded(raw, path)

    def decoded(self, raw: bytes, path: Path) -> T:
        """The record in ``raw``; ``UsageError``, which names ``path``: too large, broken, another kind or version."""
        if len(raw) > self.max_bytes:
            raise UsageError(f"{path} is over {self.max_bytes // 2**20} MiB, no {self.called} is: {self._advice}")
        self._check(self._typed(raw, _Head, path), path)
        return self._typed(raw, self.record, path)

    def _typed(self, raw: bytes, kind: type[R], path: Path) -> R:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (*_BROKEN, UsageError) as error:  # UsageError: a record's own check
            reason = single_line(error, 200)
            raise UsageError(f"{path} is no {self.called} ({reason}): {self._advice}") from error

    @property
    def _advice(self) -> str:
        return f"give a file that {self.kind} wrote, or {self.again}"

    def _check(self, head: _Head, path: Path) -> None:
        if head.kind != self.kind:
            raise UsageError(f"{path} is a {head.kind[:40]!r}, no {self.kind}: {self._advice}")
        if not self.oldest_version <= head.schema_version <= self.version:
            raise UsageError(
                f"{path} has version {head.schema_version} of the format (written by edge-van "
                f"{head.edge_van_version[:40]}), this edge-van reads {self.oldest_version} to {self.version}: "
                f"{self.again}, or take the edge-van that wrote it"
            )
