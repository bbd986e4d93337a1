"""``edge-van info``: what a variant costs, or what was measured of a bundle.

In: arguments. Out: tables, or one JSON document, on standard output.
"""

from __future__ import annotations

from pathlib import Path

import click

from edge_van.cli.types import FilePath, Sizes, print_json
from edge_van.errors import UsageError

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH, required=False)
@click.option("--variant", metavar="b0..b6", help="One variant only.")
@click.option("--input-size", type=Sizes(), help="What the network sees.  [default: 224]")
@click.option("--kernel-size", type=click.IntRange(1, 255), help="Of the LKA table.  [default: 21]")
@click.option("--dla", is_flag=True, help="What a Jetson's DLA would take of the network, layer by layer, instead.")
@click.option("--json", "as_json", is_flag=True)
def info(
    bundle: Path | None,
    variant: str | None,
    input_size: tuple[int, int] | None,
    kernel_size: int | None,
    dla: bool,
    as_json: bool,
) -> None:
    """Parameters and MACs of every variant beside the paper's; with BUNDLE, what was measured of it."""
    if bundle is not None:
        if dla or (variant, input_size, kernel_size) != (None, None, None):
            raise UsageError("info tells of a BUNDLE or of the variants: leave the other flags out")
        from edge_van.bundle.bundle import open_bundle
        from edge_van.bundle.whole import require_whole
        from edge_van.cli.tables import show_bundle

        opened = open_bundle(bundle)
        print_json(opened.manifest) if as_json else show_bundle(opened)
        require_whole(opened)  # what was measured is shown all the same
        return
    if dla and kernel_size is not None:
        raise UsageError("--dla reports on the network as it is, with the LKA of 21: leave --kernel-size out")
    input_size, kernel_size = input_size or (224, 224), kernel_size or 21
    if dla:
        from edge_van.cli.tables import show_dla
        from edge_van.model.dla import dla_report

        report = dla_report(variant or "b0", input_size)
        print_json(report) if as_json else show_dla(report)
        return
    from edge_van.model.complexity import best_dilation, complexity_table, variant_table

    variants = variant_table([variant] if variant else None, input_size)
    complexity = complexity_table(kernel_size)
    best = best_dilation(kernel_size)
    if as_json:
        print_json({"variants": variants, "complexity": complexity, "best_dilation": best})
    else:
        from edge_van.cli.tables import show_info

        show_info(variants, complexity, kernel_size, best)
