"""What a person reads at the end of ``edge-van report``: the verdict, its reasons, the files, the next command.

In: a ``Report`` and where it was written. Out: lines on standard output, everything unprintable escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from edge_van.bundle.layout import REPORT_HTML
from edge_van.reports.collect import Collected
from edge_van.reports.record import Report
from edge_van.reports.verdict import STATUS_WORDS
from edge_van.text import one_line


def show_report(report: Report, files: Mapping[str, Path], next_command: str | None) -> None:
    """``next_command``: None for a report that is drawn again, whose bundles may be on another machine."""
    several = len(report.sides) > 1
    for verdict in report.verdicts:
        name = f"{verdict.side}: " if several else ""
        _line(f"{name}{STATUS_WORDS[verdict.status]}. {verdict.sentence}")
        for reason in verdict.against:
            _line(f"  against: {reason}")
        for reason in verdict.reservations:
            _line(f"  reservation: {reason}")
    for comparison in report.comparisons:
        for sentence in comparison.sentences:
            _line(sentence)
    for path in files.values():
        _line(f"Wrote:  {path}")
    _line(f"Open:   xdg-open {shlex.quote(str(files[REPORT_HTML]))}")
    if next_command is not None:
        _line(f"Next:   {next_command}")


def _line(text: str) -> None:
    """Not broken, so that a command can be copied."""
    click.echo(one_line(text))


def next_command(collected: Collected) -> str:
    """What tells more: a bundle for a result alone, a benchmark where there is none, then a second bundle to compare
    with, then the accuracy on other images."""
    sides, paths = collected.report.sides, collected.paths
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return f"edge-van report BUNDLE {shlex.quote(str(paths[0]))}"
    for path, side in zip(paths, sides, strict=True):
        if side.run is None:
            return f"edge-van benchmark {shlex.quote(str(path))}"
    if len(sides) == 1:
        return f"edge-van report {shlex.quote(str(folders[0]))} OTHER_BUNDLE"
    return f"edge-van validate {shlex.quote(str(folders[0]))} --data YOUR_IMAGES"
