"""What ``edge-van deploy`` and ``edge-van device`` print.

In: records of ``edge_van.deployment``. Out: tables on standard output.
"""

from __future__ import annotations

import shlex
from typing import Any

from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.deployment.releases import Releases
from edge_van.deployment.rollout import Deployed

_SHOWN = ("module", "system", "architecture", "jetpack", "l4t", "cuda", "gpu", "tensorrt", "python", "power_mode")


def show_deployed(done: Deployed, flags: list[str]) -> None:
    """Every candidate, what was chosen and why, and the next commands, with the ``flags`` by which they reach it."""
    console = console_for_results()
    titles = ("candidate", "drop", "golden logits", "median ms", "p99 ms", "")
    table = table_for_results(f"{done.target}: {done.host}, each candidate in turns", titles, left=("candidate", ""))
    for row in done.rows:
        drop = "-" if row.drop_points is None else f"{row.drop_points:+.2f}"
        golden = "failed" if not row.passed_check else "equal" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB"
        times = ("-" if ms is None else f"{ms:.3f}" for ms in (row.median_ms, row.p99_ms))
        note = "active" if row.name == done.choice.active else row.error
        table.add_row(row.name, drop, golden, *times, note)
    console.print(table)
    console.print(f"{done.choice.reason} ({done.choice.timed_by})", soft_wrap=True)
    console.print(f"Active: {done.release}; before: {done.before or 'none'}; sent {done.sent_bytes / 1e6:.1f} MB")
    for word, verb in (("Next:  ", "list"), ("Back:  ", "rollback")):
        console.print(f"{word} {shlex.join(['edge-van', 'device', verb, done.host, *flags])}", soft_wrap=True)


def show_releases(found: Releases) -> None:
    """One row a release, the latest last."""
    console = console_for_results()
    if not found.releases:
        console.print(f"No releases on {found.host}: deploy one, or give the --root or --target it was deployed with")
        return
    titles = ("release", "deployment", "candidate", "")
    table = table_for_results(f"Releases on {found.host}", titles, left=titles)
    for release in found.releases:
        table.add_row(release.name, release.identity, release.candidate, "active" if release == found.active else "")
    console.print(table)


def show_device(found: dict[str, Any], *, with_errors: bool) -> None:
    """What a person wants to know of a device; ``--json`` has the rest. ``with_errors`` says why a runtime is missing,
    which counts where a target has said in which Python it should be."""
    console = console_for_results()
    table = table_for_results("The device", ("", " "), left=("", " "))
    rows = {key.replace("_", " "): found[key] for key in _SHOWN}
    rows["cpu"] = f"{found['cpu']['name'] or found['cpu']['part']}, {found['cores']} cores"
    about = found["openvino"]
    rows["openvino"] = None if about is None else f"{about['version']} ({', '.join(about['capabilities'])})"
    if (about := found["tensorrt_rtx"]) is not None:
        rows["tensorrt for rtx"] = (
            f"{about['version']} ({about['gpu']}, compute capability {about['compute_capability']})"
        )
    for name, why in found["errors"].items() if with_errors else ():
        rows[f"{name.replace('_', ' ')} does not run"] = why
    for key in ("memory_free_bytes", "disk_free_bytes"):
        rows[key.removesuffix("_bytes").replace("_", " ")] = (
            None if found[key] is None else f"{found[key] / 1e9:.1f} GB"
        )
    degrees = found["temperatures_c"]
    rows["temperatures"] = ", ".join(f"{name} {value:.0f} °C" for name, value in degrees.items()) or None
    for key, value in rows.items():
        table.add_row(key, "-" if value is None else str(value))
    console.print(table)
