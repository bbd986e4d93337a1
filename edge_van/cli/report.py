"""The verb ``report``: its flags. What it needs is imported inside it.

In: arguments. Out: three files and a summary, or with ``--json`` the report as one JSON document.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import click
from click.core import ParameterSource

from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.reports import IMAGE_LIMIT

_PATH = click.Path(path_type=Path)
DEFAULT_OUTPUT = Path("edge_van_report")


@click.command()
@click.argument("subjects", type=_PATH, nargs=-1, required=True, metavar="SUBJECT [SUBJECT]")
@click.option(
    "--data",
    type=_PATH,
    help="Labelled images (folder or zip, one folder a class) for flipped predictions and Grad-CAM.  [default: the "
    "demo's for the demo]",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10**7),
    default=IMAGE_LIMIT,
    show_default=True,
    help="Look for flips among so many images, spread evenly over all.",
)
@click.option(
    "--output",
    type=_PATH,
    help="Folder for the files.  [default: the bundle's; for two subjects, a result or a report edge_van_report]",
)
@click.option("--json", "as_json", is_flag=True, help="The content of report.json on standard output.")
def report(subjects: tuple[Path, ...], data: Path | None, limit: int, output: Path | None, as_json: bool) -> None:
    """Draw what was measured: report.html, report.md and report.json of a bundle, or of two beside each other.

    A SUBJECT is a bundle's folder or a result file of edge-van benchmark. A single report.json is drawn again.
    """
    if len(subjects) > 2:
        raise UsageError(f"a report is of one or two subjects, {len(subjects)} were given: leave some out")
    there = [_stat(path) for path in subjects]
    if len(subjects) == 2 and os.path.samestat(*there):
        raise UsageError(f"{subjects[1]} was given twice: give another subject to compare it with")
    _check_libraries(images=data is not None)
    from edge_van.bundle.layout import REPORT_HTML, REPORT_JSON, REPORT_MD
    from edge_van.progress import Terminal
    from edge_van.reports.collect import ReportOptions, collect
    from edge_van.reports.html import html
    from edge_van.reports.markdown import markdown
    from edge_van.reports.page import page_of
    from edge_van.reports.record import encode_report, read_report
    from edge_van.reports.terminal import next_command, show_report
    from edge_van.reports.write import check_output, is_report, write_report

    one_bundle = len(subjects) == 1 and subjects[0].is_dir()
    folder = output or (subjects[0] if one_bundle else DEFAULT_OUTPUT)
    check_output(folder)
    reporter = Terminal()
    redrawn = len(subjects) == 1 and is_report(subjects[0])
    after = None
    if redrawn:
        if given := _given("data", "limit"):
            raise UsageError(f"{subjects[0]} is drawn from itself: leave {given} out, or give the bundle in its place")
        drawn = read_report(subjects[0])
    else:
        collected = collect(subjects, ReportOptions(data, limit), reporter)
        drawn, after = collected.report, next_command(collected)
    with reporter.stage("Drawing"):
        page = page_of(drawn)
        content = encode_report(drawn)
        files = {REPORT_JSON: content, REPORT_MD: markdown(page), REPORT_HTML: html(page)}
    written = write_report(folder, files)
    if as_json:
        click.echo(content, nl=False)
    else:
        show_report(drawn, written, after)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:  # a ring of links, a name too long
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        raise UsageError(f"{path} {why}: give a bundle's folder or a result of edge-van benchmark") from error


def _given(*names: str) -> str:
    """Those of the flags that stand on the command line, as they stand there; empty where none does."""
    context = click.get_current_context()
    return " and ".join(f"--{n}" for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE)


def _check_libraries(*, images: bool) -> None:
    """Said before anything is measured. With ``images`` also what the machine that runs them is described with."""
    needed = ("matplotlib", "jinja2", *(("psutil", "cpuinfo") if images else ()))
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingRuntimeError(
            f"a report is made with {' and '.join(missing)}, not installed here: pip install 'edge-van[report]'"
        )
