"""The verb ``report``: its flags. What it needs is imported inside it.

In: arguments. Out: three files and a summary, or with ``--json`` the report as one JSON document.
"""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from edge_van.bundle.layout import REPORT_JSON
from edge_van.cli.types import LABELS_HELP, FilePath
from edge_van.errors import UsageError
from edge_van.progress import Terminal, Work
from edge_van.reports import IMAGE_LIMIT

_PATH = FilePath()


@click.command()
@click.argument("subjects", type=_PATH, nargs=-1, required=True, metavar="SUBJECT [SUBJECT]")
@click.option(
    "--data",
    type=_PATH,
    help="Labelled images (folder or zip, one folder a class) for flipped predictions and Grad-CAM.  [default: the "
    "demo's for the demo]",
)
@click.option("--labels", type=_PATH, help=LABELS_HELP)
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
def report(
    subjects: tuple[Path, ...], data: Path | None, labels: Path | None, limit: int, output: Path | None, as_json: bool
) -> None:
    """Draw what was measured: report.html, report.md and report.json of a bundle, or of two beside each other.

    A SUBJECT is a bundle's folder or a result file of edge-van benchmark. A single report.json is drawn again.
    """
    import edge_van
    from edge_van.reports.collect import ReportOptions
    from edge_van.reports.terminal import next_command, show_report
    from edge_van.reports.write import is_report

    given = _given("data", "labels", "limit")
    if given and len(subjects) == 1 and is_report(subjects[0]):
        raise UsageError(f"{subjects[0]} is drawn from itself: leave {given} out, or give the bundle in its place")
    options = ReportOptions(data, limit, labels=labels) if given else None
    written = edge_van.report(subjects, output=output, options=options, work=Work(Terminal()))
    if as_json:
        click.echo(written.files[REPORT_JSON].read_bytes(), nl=False)
    else:
        after = None if written.collected is None else next_command(written.collected)
        show_report(written.report, written.files, after)


def _given(*names: str) -> str:
    """Those of the flags that stand on the command line, as they stand there; empty where none does."""
    context = click.get_current_context()
    return " and ".join(f"--{n}" for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE)
