"""What was tried to keep within a budget, on standard output.

In: a ``BudgetRecord``. Out: a table, one row a rung in the order they were tried, and what came of it.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from edge_van.bundle.budget_record import BudgetRecord


def show_budget(console: Console, table: Table, record: BudgetRecord) -> None:
    """``table`` is an empty one with its title."""
    for column in ("rung", "drop in points (95 % interval)", "SQNR dB", "ms", "times FP32", "made in s", "inside"):
        table.add_column(column, justify="left" if column in ("rung", "inside") else "right", overflow="fold")
    for index, rung in enumerate(record.rungs):
        table.add_row(
            rung.name,
            f"{rung.drop_points:+.2f} ({rung.drop_interval.low:+.2f} to {rung.drop_interval.high:+.2f})",
            f"{rung.logit_sqnr_db:.1f}",
            f"{rung.median_ms:.2f}",
            f"{rung.speedup:.2f} ({rung.speedup_interval.low:.2f} to {rung.speedup_interval.high:.2f})",
            f"{rung.seconds:.0f}",
            record.verdict(rung) + (", taken" if index == record.chosen else ""),
        )
    console.print(table)
    for reason in record.failed:
        console.print(reason)
    console.print(record.reason)
