"""Draws what was measured: the report of one bundle, or of two beside each other.

In: bundles, results of ``edge-van benchmark``, or a report. Out: ``report.html``, ``report.md`` and ``report.json``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import REPORT_HTML, REPORT_JSON, REPORT_MD
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.progress import UNWATCHED, Work
from edge_van.reports.collect import Collected, ReportOptions, collect
from edge_van.reports.record import Report, encode_report, read_report
from edge_van.reports.write import check_output, is_report, write_report

DEFAULT_OUTPUT = Path("edge_van_report")


@dataclass(frozen=True)
class WrittenReport:
    """What the pages show, and where they lie: by the names ``report.html``, ``report.md`` and ``report.json``."""

    report: Report
    files: dict[str, Path]
    collected: Collected | None = None
    """What it was made from; None where a report was drawn again."""

    @property
    def html(self) -> Path:
        return self.files[REPORT_HTML]


def report(
    subjects: Bundle | str | Path | Sequence[Bundle | str | Path],
    *,
    output: str | Path | None = None,
    options: ReportOptions | None = None,
    work: Work = UNWATCHED,
) -> WrittenReport:
    """Draw a bundle, or two subjects beside each other, into ``output``: by default the bundle's own folder.

    A subject is a bundle or a result file of ``edge-van benchmark``; a single ``report.json`` is drawn again.

    Raises ``UsageError`` for subjects that are not there or are the same, and for an output that holds other files;
    ``BundleError`` for a damaged bundle or a folder that cannot be written; ``DataError`` for images that do not fit;
    ``MissingRuntimeError`` without what draws (``pip install 'edge-van[report]'``).
    """
    paths = _paths(subjects)
    there = [_stat(path) for path in paths]
    if len(paths) == 2 and os.path.samestat(*there):
        raise UsageError(f"{paths[1]} was given twice: give another subject to compare it with")
    _check_libraries(images=options is not None and options.data is not None)
    from edge_van.reports.html import html
    from edge_van.reports.markdown import markdown
    from edge_van.reports.page import page_of

    one_bundle = len(paths) == 1 and paths[0].is_dir()
    folder = Path(output) if output is not None else paths[0] if one_bundle else DEFAULT_OUTPUT
    check_output(folder)
    collected = None
    if len(paths) == 1 and is_report(paths[0]):
        if options is not None:
            raise UsageError(f"{paths[0]} is drawn from itself: leave the options out, or give the bundle in its place")
        drawn = read_report(paths[0])
    else:
        collected = collect(paths, options or ReportOptions(), work.reporter)
        drawn = collected.report
    with work.reporter.stage("Drawing"):
        page = page_of(drawn)
        files = {REPORT_JSON: encode_report(drawn), REPORT_MD: markdown(page), REPORT_HTML: html(page)}
    return WrittenReport(drawn, write_report(folder, files), collected)


def _paths(subjects: Bundle | str | Path | Sequence[Bundle | str | Path]) -> list[Path]:
    every = [subjects] if isinstance(subjects, Bundle | str | Path) else list(subjects)
    if not 1 <= len(every) <= 2:
        raise UsageError(f"a report is of one or two subjects, {len(every)} were given: leave some out")
    return [subject.path if isinstance(subject, Bundle) else Path(subject) for subject in every]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:  # a ring of links, a name too long
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        raise UsageError(f"{path} {why}: give a bundle's folder or a result of edge-van benchmark") from error


def _check_libraries(*, images: bool) -> None:
    """Said before anything is measured. With ``images`` also what the machine that runs them is described with."""
    needed = ("matplotlib", "jinja2", *(("psutil", "cpuinfo") if images else ()))
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingRuntimeError(
            f"a report is made with {' and '.join(missing)}, not installed here: pip install 'edge-van[report]'"
        )
