"""What ``edge-van deploy`` and ``edge-van device`` print.

In: records of ``edge_van.deployment``. Out: tables on standard output.
"""

from __future__ import annotations

import shlex
from typing import Any

from rich.table import Table

from edge_van.cli.tables import console_for_results
from edge_van.deployment.releases import Releases
from edge_van.deployment.rollout import Deployed
from edge_van.text import one_line

_SHOWN = ("module", "system", "architecture", "jetpack", "l4t", "cuda", "tensorrt", "python", "power_mode")


def show_deployed(done: Deployed) -> None:
    """Every candidate, what was chosen and why, and the next commands."""
    console = console_for_results()
    table = Table(title=f"{done.target}: {one_line(done.host)}, each candidate in turns")
    for column in ("candidate", "top-1 drop", "golden logits", "median ms", "p99 ms", ""):
        table.add_column(column, justify="left" if column in ("candidate", "") else "right", overflow="fold")
    for row in done.rows:
        drop = "-" if row.top1_drop_points is None else f"{row.top1_drop_points:+.2f}"
        golden = "failed" if not row.passed_check else "equal" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB"
        times = ("-" if ms is None else f"{ms:.3f}" for ms in (row.median_ms, row.p99_ms))
        note = "active" if row.name == done.choice.active else one_line(row.error)
        table.add_row(row.name, drop, golden, *times, note)
    console.print(table)
    console.print(f"{done.choice.reason} ({done.choice.timed_by})", soft_wrap=True)
    console.print(f"Active: {done.release}; before: {done.before or 'none'}; sent {done.sent_bytes / 1e6:.1f} MB")
    console.print(f"Next:   edge-van device list {shlex.quote(done.host)}", soft_wrap=True)
    console.print(f"Back:   edge-van device rollback {shlex.quote(done.host)}", soft_wrap=True)


def show_releases(found: Releases) -> None:
    """One row a release, the latest last."""
    console = console_for_results()
    table = Table(title=f"Releases on {one_line(found.host)}")
    for column in ("release", "deployment", "candidate", ""):
        table.add_column(column, overflow="fold")
    for release in found.releases:
        table.add_row(release.name, release.identity, release.candidate, "active" if release == found.active else "")
    console.print(table)


def show_device(found: dict[str, Any]) -> None:
    """What a person wants to know of a device; ``--json`` has the rest."""
    console = console_for_results()
    table = Table(show_header=False)
    rows = {key.replace("_", " "): found[key] for key in _SHOWN}
    rows["cpu"] = f"{found['cpu']['name'] or found['cpu']['part']}, {found['cores']} cores"
    about = found["openvino"]
    rows["openvino"] = None if about is None else f"{about['version']} ({', '.join(about['capabilities'])})"
    for key in ("memory_free_bytes", "disk_free_bytes"):
        rows[key.removesuffix("_bytes").replace("_", " ")] = (
            None if found[key] is None else f"{found[key] / 1e9:.1f} GB"
        )
    degrees = found["temperatures_c"]
    rows["temperatures"] = ", ".join(f"{name} {value:.0f} °C" for name, value in degrees.items()) or None
    for key, value in rows.items():
        table.add_row(key, "-" if value is None else one_line(str(value)))
    console.print(table)
