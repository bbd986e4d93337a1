"""Reading a JSON file of ours of one kind, in the versions that are read.

In: a path and what is expected there. Out: the record, its types checked; an error of one line for all else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from edge_van.errors import EdgeVanError, UsageError
from edge_van.text import single_line

T = TypeVar("T")
R = TypeVar("R")
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON; for JSON of other types it is a ``ValidationError``."""


class _Head(msgspec.Struct):
    """What a file of every kind and version starts from; read first, so that the rest may change."""

    schema_version: int
    kind: str = ""
    edge_van_version: str = "of unknown version"


def kind_of(raw: bytes) -> str | None:
    """The kind that a JSON file of ours says it is of; None for anything that is none."""
    try:
        return msgspec.json.decode(raw, type=_Head).kind or None
    except (*_BROKEN, msgspec.ValidationError):
        return None


@dataclass(frozen=True)
class JSONFormat(Generic[T]):
    """A kind of file. ``called`` and ``again`` are words of its messages: "benchmark result", "measure again".

    ``kind`` is what the file says of itself, and the command that writes it; "" where the files say none. ``upgrade``
    turns the content of an older version, a dictionary it may change, into that of the present one. ``error`` is the
    class that everything wrong with a file is raised as.
    """

    record: type[T]
    kind: str
    version: int
    oldest_version: int
    max_bytes: int
    called: str
    again: str
    error: type[EdgeVanError] = UsageError
    upgrade: Callable[[dict[str, Any], int], dict[str, Any]] | None = None

    def read(self, path: Path) -> T:
        """The record in ``path``; an error where it cannot be read, and as ``decoded`` raises."""
        try:
            with path.open("rb") as file:
                raw = file.read(self.max_bytes + 1)
        except OSError as error:
            advice = "check its permissions" if isinstance(error, PermissionError) else self._advice
            raise self.error(f"{path} cannot be read ({error.strerror or error}): {advice}") from error
        return self.decoded(raw, path)

    def decoded(self, raw: bytes, where: Path | str) -> T:
        """The record in ``raw``; an error, which names ``where``: too large, broken, another kind or version."""
        if len(raw) > self.max_bytes:
            raise self.error(f"{where} is over {self.max_bytes // 2**20} MiB, no {self.called} is: {self._advice}")
        head = self._typed(raw, _Head, where)
        self._check(head, where)
        if head.schema_version == self.version or self.upgrade is None:
            return self._typed(raw, self.record, where)
        content = self._typed(raw, dict[str, Any], where)
        try:
            return msgspec.convert(self.upgrade(content, head.schema_version), self.record)
        except LookupError as error:
            raise self._invalid(where, ValueError(f"version {head.schema_version} without {error}")) from error
        except (TypeError, AttributeError, ValueError, UsageError) as error:
            raise self._invalid(where, error) from error

    def _typed(self, raw: bytes, kind: type[R], where: Path | str) -> R:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.ValidationError, UsageError) as error:  # UsageError: a record's own check
            raise self._invalid(where, error) from error
        except _BROKEN as error:
            at = "" if "byte" in str(error) else f" (byte {len(raw)})"
            reason = "nested too deep" if isinstance(error, RecursionError) else single_line(error, 200)
            raise self.error(f"{where} is no {self.called} (broken JSON, {reason}{at}): {self._advice}") from error

    def _invalid(self, where: Path | str, error: Exception) -> EdgeVanError:
        return self.error(f"{where} is no {self.called} ({single_line(error, 200)}): {self._advice}")

    @property
    def _advice(self) -> str:
        return f"give a file that {self.kind} wrote, or {self.again}" if self.kind else self.again

    def _check(self, head: _Head, where: Path | str) -> None:
        if self.kind and head.kind != self.kind:
            what = f"is a {head.kind[:40]!r}" if head.kind else "does not say what it is"
            raise self.error(f"{where} {what}, no {self.kind}: {self._advice}")
        if not self.oldest_version <= head.schema_version <= self.version:
            newer = head.schema_version > self.version
            mend = f"upgrade with pip install --upgrade edge-van, or {self.again}" if newer else self.again
            raise self.error(
                f"{where} has version {head.schema_version} of the format (written by edge-van "
                f"{head.edge_van_version[:40]}), this edge-van reads {self.oldest_version} to {self.version}: {mend}"
            )


def encode(record: Any) -> bytes:
    """Readable JSON, the same bytes for the same record."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
