"""``edge-van sensitivity``: what quantising each layer of a bundle costs.

In: arguments. Out: ``sensitivity.json`` in the bundle, a table or that result on standard output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_van.cli.allocator import keep_freed_memory
from edge_van.cli.types import FilePath, labelled_images, print_json
from edge_van.progress import Terminal, Work

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH)
@labelled_images
@click.option("--scheme", help="A graph of the bundle by its scheme's name.  [default: OpenVINO's]")
@click.option("--images", type=int, default=256, show_default=True, help="How many, spread evenly over all.")
@click.option("--output", type=_PATH, help="The result's file.  [default: sensitivity.json in BUNDLE]")
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def sensitivity(bundle: Path, data: Path, output: Path | None, strict: bool, as_json: bool, **flags: Any) -> None:
    """Measure what quantising each layer costs: with only it quantised, and with all but it.

    Rows are kept as they are measured: the same command goes on where it was stopped.
    """
    keep_freed_memory()
    import edge_van
    from edge_van.evaluation.sensitivity import SensitivityOptions

    options = SensitivityOptions(**flags)
    result = edge_van.sensitivity(bundle, data, options=options, output=output, work=Work(Terminal(), strict))
    if as_json:
        print_json(result)
    else:
        from edge_van.cli.tables_sensitivity import show_sensitivity

        show_sensitivity(result, bundle, output)
