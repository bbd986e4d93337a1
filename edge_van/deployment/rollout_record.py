"""What became of every host of a fleet, as a record, a page and a folder.

In: what each host's command said. Out: ``HostRow``s, ``rollout.json`` and ``rollout.md``.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.errors import UsageError
from edge_van.storage.files import replace_file
from edge_van.storage.json_format import JSONFormat, encode
from edge_van.text import single_line

ROLLOUT_SCHEMA_VERSION = 1
ROLLOUT_NAME, PAGE_NAME, LOG_NAME = "rollout.json", "rollout.md", "ansible.log"
STATES = ("active", "failed", "not tried", "rolled back")


@dataclass(frozen=True)
class HostRow:
    """One host. ``release`` is what is active there as far as this rollout knows, ``before`` what was."""

    host: str
    state: str  # one of STATES
    is_canary: bool
    release: str | None = None
    before: str | None = None
    candidate: str | None = None
    median_ms: float | None = None
    drop_points: float | None = None
    exit_code: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Rollout:
    """``stopped`` says why the last hosts were not tried, "" where all were. ``rows`` are in the inventory's order."""

    schema_version: int
    bundle: str
    inventory: str
    began: str
    seconds: float
    stopped: str
    rows: tuple[HostRow, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the bundle is active on every host."""
        return all(row.state == "active" and not row.error for row in self.rows)

    @property
    def summary(self) -> str:
        """ "5 active, 2 failed, 1 not tried"."""
        counted = Counter(row.state for row in self.rows)
        return ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])


_FORMAT = JSONFormat(
    Rollout,
    kind="",
    version=ROLLOUT_SCHEMA_VERSION,
    oldest_version=1,
    max_bytes=2**28,
    called="record of a rollout",
    again="give the folder that edge-van deploy --inventory made",
    error=UsageError,
)


def row_of(host: str, answer: dict[str, Any] | None, *, is_canary: bool) -> HostRow:
    """Of what ``edge-van deploy --json`` said there; None is of a host that it was not run for."""
    if answer is None:
        return HostRow(host, "not tried", is_canary)
    code = int(answer["code"])
    if code:
        lines = [line.strip() for line in str(answer["err"]).splitlines() if line.strip()]
        error = lines[-1].removeprefix("edge-van: error: ") if lines else f"exit code {code}"
        return HostRow(host, "failed", is_canary, exit_code=code, error=single_line(error))
    done = json.loads(answer["out"])
    chosen = done["choice"]["active"]
    row = next(row for row in done["rows"] if row["name"] == chosen)
    return HostRow(
        host=host,
        state="active",
        is_canary=is_canary,
        release=done["release"],
        before=done["before"],
        candidate=chosen,
        median_ms=row["median_ms"],
        drop_points=row["drop_points"],
        exit_code=0,
    )


def write_rollout(folder: Path, rollout: Rollout) -> None:
    """Both files, each in one step."""
    replace_file(folder / ROLLOUT_NAME, encode(rollout))
    replace_file(folder / PAGE_NAME, page(rollout).encode())


def read_rollout(folder: Path) -> Rollout:
    """``UsageError`` where there is none."""
    return _FORMAT.read(folder / ROLLOUT_NAME)


def page(rollout: Rollout) -> str:
    """The table for people, in Markdown."""
    stopped = f" The rollout stopped: {rollout.stopped}." if rollout.stopped else ""
    lines = [
        "# Rollout",
        "",
        f"`{rollout.bundle}` to `{rollout.inventory}`, began {rollout.began}, {rollout.seconds:.0f} s: "
        f"{rollout.summary}.{stopped}",
        "",
        "| host | | active | candidate | median ms | drop | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rollout.rows:
        state = f"{row.state} (canary)" if row.is_canary else row.state
        times = "" if row.median_ms is None else f"{row.median_ms:.3f}"
        drop = "" if row.drop_points is None else f"{row.drop_points:+.2f}"
        cells = (row.host, state, row.release or "", row.candidate or "", times, drop, row.error)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
