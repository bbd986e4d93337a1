"""``edge-van sign``: which release a bundle is, signed by an SSH key.

In: a bundle, a private key. Out: ``release.json`` and its signature in the bundle's folder.
"""

from __future__ import annotations

from pathlib import Path

import click

from edge_van.cli.types import FilePath, print_json
from edge_van.text import one_line

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH)
@click.option("--key", type=_PATH, required=True, help="A private key, as ssh-keygen -t ed25519 makes.")
@click.option(
    "--release",
    type=click.IntRange(0),
    metavar="N",
    help="Its number; a device takes none under the active one's.  [default: the time in seconds]",
)
@click.option("--json", "as_json", is_flag=True, help="The release as JSON on standard output.")
def sign(bundle: Path, key: Path, release: int | None, as_json: bool) -> None:
    """Sign a bundle, for devices that take signed ones alone (edge-van device trust)."""
    import edge_van

    record = edge_van.sign(bundle, key, release)
    if as_json:
        print_json(record)
    else:
        click.echo(f"Signed: {one_line(str(bundle))} is release {record.release}")
