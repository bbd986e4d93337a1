"""``edge-van export``: a bundle for another input size, without quantising again.

In: arguments. Out: a new bundle's folder, its summary or its manifest on standard output, the accuracy gate's exit
code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_van.cli.allocator import keep_freed_memory
from edge_van.cli.types import LABELS_HELP, FilePath, Sizes, print_json
from edge_van.progress import Terminal, Work

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH)
@click.option("--input-size", type=Sizes(), required=True, help="What the network shall see.")
@click.option("--data", type=_PATH, help="Labelled images (folder or zip, one folder a class) to measure accuracy on.")
@click.option("--labels", type=_PATH, help=LABELS_HELP)
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--output", type=_PATH, help="The new bundle's folder.  [default: BUNDLE_HxW]")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="The new bundle's manifest as JSON on standard output.")
def export(bundle: Path, input_size: tuple[int, int], as_json: bool, strict: bool, **flags: Any) -> None:
    """Make a bundle for another input size: the same INT8 weights and ranges, no calibration images.

    Smaller sizes can always be had, larger ones as far as kernels were not cropped for the size that the bundle is for.
    """
    keep_freed_memory()
    import edge_van
    from edge_van.evaluation.gates import bundle_gate

    made = edge_van.resize(bundle, input_size, work=Work(Terminal(), strict), **flags)
    manifest = made.manifest
    try:
        if as_json:
            print_json(manifest)
        else:
            from edge_van.cli.tables import show_bundle

            show_bundle(made)
    finally:  # a closed pipe must not hide a gate
        bundle_gate(manifest, manifest.recipe.max_drop_points, None)
