"""Pages of made-up evidence, and what stands on them."""

from __future__ import annotations

from edge_van.bundle.records import Manifest
from edge_van.reports.page import page_of
from edge_van.reports.record import Report, Side
from edge_van.reports.verdict import judge
from edge_van.reports.view import Page, Plot, Table, Text
from edge_van.timing.record import BenchmarkResult


def plots(page: Page) -> list[Plot]:
    return [b for s in page.sections for g in s.groups for b in g.blocks if isinstance(b, Plot)]


def report_of(*sides: Side, runs: tuple[BenchmarkResult, ...] = ()) -> Report:
    verdicts = tuple(judge(side, runs) for side in sides)
    return Report(1, "edge-van report", "0.1.0", "2026", "edge-van report demo", sides, runs, verdicts)


def bare(content: Manifest | None, result: BenchmarkResult | None = None) -> Page:
    """The page of a side without images."""
    side = Side("demo", content, None if result is None else 0, "demo", None, "no images")
    return page_of(report_of(side, runs=() if result is None else (result,)))


def text_of(page: Page, section: str) -> str:
    """Its paragraphs."""
    [found] = [s for s in page.sections if s.name == section]
    return "\n".join(b.text for g in found.groups for b in g.blocks if isinstance(b, Text))


def table_of(page: Page, section: str, title: str) -> Table:
    """Its first table with ``title`` in its title."""
    found = [b for s in page.sections if s.name == section for g in s.groups for b in g.blocks if isinstance(b, Table)]
    return next(table for table in found if title in table.title)
