"""``edge-van doctor``: whether the install, or a bundle, is whole.

In: arguments. Out: a list of checks on standard output; an error that counts those that failed.
"""

from __future__ import annotations

from pathlib import Path

import click

from edge_van.cli.types import FilePath, print_json
from edge_van.errors import BundleError, MissingRuntimeError

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH, required=False)
@click.option("--json", "as_json", is_flag=True)
def doctor(bundle: Path | None, as_json: bool) -> None:
    """What is installed and works; with BUNDLE, whether every file of it is whole."""
    from edge_van.doctor import inspect_bundle, inspect_install

    checks = inspect_install() if bundle is None else inspect_bundle(bundle)
    if as_json:
        print_json(checks)
    else:
        from edge_van.cli.tables import show_checks

        show_checks(checks)
    # what is not installed may not be needed, but a bundle needs every file it lists
    failed = [c for c in checks if c.status == "broken" or (bundle is not None and c.status != "ok")]
    if failed:
        kind, of = (MissingRuntimeError, "") if bundle is None else (BundleError, f" of {bundle}")
        names, mend = ", ".join(c.name for c in failed[:5]), next((f"; {c.fix}" for c in failed if c.fix), "")
        raise kind(f"{len(failed)} checks{of} failed: {names}{mend}")
