"""``edge-van export-server``: a bundle as a model repository for a model server.

In: arguments. Out: the repository's folder; what it serves, or its record, on standard output.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from edge_van.bundle.layout import PRECISIONS
from edge_van.cli.types import FilePath, print_json
from edge_van.input_spec import ORDERS
from edge_van.progress import Terminal, Work
from edge_van.text import one_line

_PATH = FilePath()


@click.command("export-server")
@click.argument("bundle", type=_PATH)
@click.option(
    "--to", type=click.Choice(("ovms", "triton")), required=True, help="OpenVINO Model Server, or NVIDIA's Triton."
)
@click.option("--output", type=_PATH, required=True, help="The repository's folder.")
@click.option("--name", metavar="NAME", help="What clients ask for.  [default: van_ and the variant]")
@click.option("--precision", type=click.Choice(tuple(PRECISIONS)), help="[default: the active model's, else int8]")
@click.option(
    "--source-order",
    type=click.Choice(ORDERS),
    help="Of the pixels that clients send.  [default: bgr for ovms, the bundle's for triton]",
)
@click.option("--engine", metavar="TARGET", help="Triton only: a TensorRT engine of this target, on its GPU.")
@click.option("--scheme", help="Which engine of --engine.  [default: its active one]")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="The record of the export as JSON on standard output.")
def export_server(bundle: Path, to: str, output: Path, force: bool, as_json: bool, **flags: Any) -> None:
    """Write a model repository that the server loads as it is, and a compose file that starts it."""
    import edge_van

    options = edge_van.ServerOptions(**flags)
    done = edge_van.export_server(bundle, to, output, options=options, force=force, work=Work(Terminal()))
    if as_json:
        print_json(done)
        return
    click.echo(f"Written: {one_line(str(output))} serves {done.file} as {done.name} in {done.precision}")
    for kind, tensors in (("in", done.inputs), ("out", done.outputs)):
        for tensor in tensors:
            click.echo(f"  {kind:3} {tensor.name}: {tensor.datatype} {list(tensor.shape)}")
    if done.golden_sqnr_db is not None:
        here = " with the rest in float32: validate measures this precision" if "16" in done.precision else ""
        click.echo(f"  golden images: {done.golden_sqnr_db:.1f} dB SQNR{here}")
    for note in done.notes:
        click.echo(f"  note: {note}")
    click.echo(f"Start it: docker compose --project-directory {shlex.quote(one_line(str(output)))} up")
