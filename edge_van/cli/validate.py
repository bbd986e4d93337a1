"""``edge-van validate``: accuracy of a bundle, FP32 against INT8.

In: arguments. Out: a table or an accuracy record on standard output, the accuracy gate's exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_van.cli.types import POINTS, FilePath, labelled_images, print_json
from edge_van.progress import Terminal, Work


@click.command()
@click.argument("bundle", type=FilePath())
@labelled_images
@click.option(
    "--max-drop", type=POINTS, help="Largest drop in points; over it the exit code is 3.  [default: no limit]"
)
@click.option(
    "--scheme", help="A TensorRT graph (int8, int8_pointwise, fp16), computed exactly, instead of OpenVINO's."
)
@click.option(
    "--engine", metavar="TARGET", help="A target of edge-van build, on its GPU: the active engine, or --scheme's."
)
@click.option(
    "--precision",
    type=click.Choice(("int8", "bf16", "int8_bf16")),
    help="What OpenVINO computes in, on a CPU with BF16 units.  [default: int8]",
)
@click.option("--limit", type=int, help="Use so many images, spread evenly over all.")
@click.option(
    "--batch", type=click.IntRange(1, 1024), help="Images at once.  [default: small ones, as many at once as pay]"
)
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--json", "as_json", is_flag=True, help="The accuracy record as JSON on standard output.")
def validate(bundle: Path, data: Path, max_drop: float | None, strict: bool, as_json: bool, **flags: Any) -> None:
    """Measure a bundle's accuracy: FP32 against INT8 on the same images."""
    import edge_van
    from edge_van.evaluation.bundle import ValidateOptions
    from edge_van.evaluation.gates import accuracy_gate, doubts

    reporter = Terminal()
    options = ValidateOptions(**{name: flags.pop(name) for name in ("labels", "threshold", "limit", "batch")})
    accuracy = edge_van.validate(bundle, data, options=options, work=Work(reporter, strict), **flags)
    if as_json:
        print_json(accuracy)
    else:
        from edge_van.cli.tables import show_accuracy

        show_accuracy(accuracy)
    if max_drop is not None:
        if doubt := doubts(accuracy, max_drop):
            reporter.note(f"warning: {doubt}")
        accuracy_gate(accuracy, max_drop)
