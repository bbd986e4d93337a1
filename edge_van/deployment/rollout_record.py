"""What became of every host of a fleet, as a record, a page and a folder.

In: what each host's command said. Out: ``HostRow``s, ``rollout.json`` and ``rollout.md``.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_van.deployment.connection import IN_DOUBT
from edge_van.deployment.inventory import FleetHost
from edge_van.errors import UsageError
from edge_van.storage.files import replace_file
from edge_van.storage.json_format import JSONFormat, encode
from edge_van.text import single_line

ROLLOUT_SCHEMA_VERSION = 1
ROLLOUT_NAME, PAGE_NAME, LOG_NAME = "rollout.json", "rollout.md", "ansible.log"
NOT_KNOWN, NOT_BACK = "not known", "not rolled back: "
STATES = ("active", "failed", NOT_KNOWN, "not tried", "rolled back")


@dataclass(frozen=True)
class HostRow:
    """One host. ``release`` is what is active there as far as this rollout knows, ``before`` what was. Of a host that
    is "not known" it may be either: it was lost while the new release became active, or who asked it was killed."""

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
    destination: str = ""
    reach: tuple[str, ...] = ()  # flags of edge-van device for it
    is_new: bool = True  # False where this very release was active already: there is nothing to take back


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


def row_of(host: FleetHost, answer: dict[str, Any] | None, *, is_canary: bool) -> HostRow:
    """Of what ``edge-van deploy --json`` said there; None is of a host that it was not run for."""
    row = HostRow(host.name, "not tried", is_canary, destination=host.destination, reach=host.reach)
    if answer is None:
        return row
    if code := answer["code"]:
        why = _why(answer)
        is_known = code >= 0 and IN_DOUBT not in why
        return replace(row, state="failed" if is_known else NOT_KNOWN, exit_code=code, error=why)
    try:
        done = json.loads(answer["out"])
        chosen = done["choice"]["active"]
        timed = next(candidate for candidate in done["rows"] if candidate["name"] == chosen)
        release, before = str(done["release"]), done["before"]
        return replace(
            row,
            state="active",
            release=release,
            before=None if before is None else str(before),
            candidate=str(chosen),
            median_ms=timed["median_ms"],
            drop_points=timed["drop_points"],
            exit_code=0,
            is_new=bool(done["is_new"]),
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        return replace(row, state="failed", exit_code=0, error=f"what it said cannot be read: {single_line(error)}")


def rolled_back(row: HostRow, answer: dict[str, Any] | None) -> HostRow:
    """The row after ``edge-van device rollback --json`` said that; None where it was not run."""
    if answer is None:
        return replace(row, error=f"{NOT_BACK}Ansible did not come to it")
    try:
        if not answer["code"]:
            row = replace(row, candidate=None, median_ms=None, drop_points=None)  # they were the other release's
            return replace(
                row, state="rolled back", release=json.loads(answer["out"])["name"], before=row.release, error=""
            )
        return replace(row, error=f"{NOT_BACK}{_why(answer)}")
    except (ValueError, KeyError, TypeError) as error:
        return replace(row, error=f"{NOT_BACK}what it said cannot be read: {single_line(error)}")


def _why(answer: dict[str, Any]) -> str:
    lines = [line.strip() for line in answer["err"].splitlines() if line.strip()]
    return single_line(lines[-1].removeprefix("edge-van: error: ") if lines else f"exit code {answer['code']}")


def hosts_in_words(count: int) -> str:
    """ "1 host", "2 hosts"."""
    return f"{count} {'host' if count == 1 else 'hosts'}"


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
