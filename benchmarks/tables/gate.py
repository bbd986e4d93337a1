"""The table of ``gate_power.py``: how often the regression gate is right.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, source


def gate(results: Results) -> list[str]:
    """The share of pairs of runs that fail, the gate's statistic beside the one it was weighed against."""
    result = results[0]
    lines = [
        "## Gate",
        "",
        f"The regression gate on simulated pairs of runs, {result['pairs']} a row. Slower by 1.00 is a false alarm. "
        "The gate judges by the intervals that the report shows. Mann and Whitney's test of all rounds, which it was "
        "weighed against, finds more where rounds vary much, and is not what a page shows. Neither sees that a machine "
        "stays at one of two speeds for a large part of a run: then the limit must be over what lies between them.",
        "",
        "| rounds | ratios vary by | figures | limit | slower by | gate fails % | Mann-Whitney fails % |",
        "|---|---|---|---|---|---|---|",
    ]
    return [*lines, *(_row(row) for row in result["rows"]), "", source(result)]


def _row(row: dict[str, Any]) -> str:
    speeds = f", two speeds {row['apart']:g} apart, {row['dwell']} rounds each" if row["apart"] > 1 else ""
    shares = [f"{100 * row['failed'][name]:.1f}" for name in ("gate", "mann_whitney")]
    cells = [row["rounds"], f"{row['variation']:.0%}{speeds}", row["figures"], f"{row['limit']:.2f}"]
    return f"| {' | '.join(map(str, [*cells, format(row['slower'], '.2f'), *shares]))} |"
