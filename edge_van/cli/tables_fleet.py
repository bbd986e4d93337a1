"""What ``edge-van deploy --inventory`` prints.

In: a ``Rollout``. Out: a table on standard output.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.deployment.rollout_record import Rollout

MOST_ROWS = 40
"""Of a large fleet those that failed come first; the record has all."""


def show_rollout(done: Rollout, folder: Path) -> None:
    """One row a host, what became of all, where it is written, and the next commands."""
    console = console_for_results()
    titles = ("host", "", "release", "candidate", "median ms", "drop", " ")
    table = table_for_results(f"{len(done.rows)} hosts", titles, left=("host", "", "release", "candidate", " "))
    rows = done.rows
    if len(rows) > MOST_ROWS:
        rows = tuple(sorted(rows, key=lambda row: row.state == "active" and not row.error))[:MOST_ROWS]
    for row in rows:
        times = "-" if row.median_ms is None else f"{row.median_ms:.3f}"
        drop = "-" if row.drop_points is None else f"{row.drop_points:+.2f}"
        state = f"{row.state} (canary)" if row.is_canary else row.state
        table.add_row(row.host, state, row.release or "-", row.candidate or "-", times, drop, row.error)
    console.print(table)
    more = f", {len(done.rows) - len(rows)} more hosts in the record" if len(rows) < len(done.rows) else ""
    stopped = f"; stopped: {done.stopped}" if done.stopped else ""
    console.print(f"{done.summary}{stopped}; {done.seconds:.0f} s{more}")
    console.print(f"Record: {folder}/rollout.md", soft_wrap=True)
    if any(row.state == "active" and row.before for row in done.rows):
        back = shlex.join(["edge-van", "fleet-rollback", str(folder)])
        console.print(f"Back:   {back}", soft_wrap=True)
