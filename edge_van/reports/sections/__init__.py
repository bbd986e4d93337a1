"""The report's sections, one function each, in the order of the page.

In: a ``Report``. Out: ``Section`` records.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_van.reports.lookup import Runs
from edge_van.reports.record import Report, Side
from edge_van.reports.view import Block, Group, Section

Build = Callable[[Side, Runs, str], tuple[Block, ...]]
"""From a side, the runs, and what its plots' names start with."""


def for_each_side(report: Report, name: str, title: str, build: Build) -> Section:
    """A section with every side's blocks beside each other; without a heading of their own where there is one side."""
    several = len(report.sides) > 1
    return Section(
        name,
        title,
        tuple(
            Group(build(side, report.runs, f"{name}-{i}"), side.name if several else "")
            for i, side in enumerate(report.sides)
        ),
    )
