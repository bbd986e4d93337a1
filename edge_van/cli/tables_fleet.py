"""What ``edge-van deploy --inventory`` prints.

In: a ``Rollout``. Out: a table on standard output.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.deployment.rollout_record import Rollout, hosts_in_words

MOST_ROWS = 40
"""Of a large fleet those that failed come first; the record has all."""


def show_rollout(done: Rollout, folder: Path) -> None:
    """One row a host, what became of all, where it is written, and the next commands."""
    console = console_for_results()
    titles = ("host", "", "release", "candidate", "median ms", "drop", " ")
    table = table_for_results(hosts_in_words(len(done.rows)), titles, left=("host", "", "release", "candidate", " "))
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
    states = {row.state for row in done.rows if row.state != "active" or row.before}
    if "active" in states and "rolled back" not in states:  # else this is the way back
        back = shlex.join(["edge-van", "fleet-rollback", str(folder)])
        console.print(f"Back:   {back}", soft_wrap=True)
