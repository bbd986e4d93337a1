"""``edge-van build``: TensorRT engines of a bundle.

In: arguments. Out: a table of the engines or their records on standard output, the gate's exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_van.cli.types import POINTS, FilePath, print_json
from edge_van.errors import AccuracyGateError, VerificationError
from edge_van.progress import Terminal, Work

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH)
@click.option(
    "--runtime",
    type=click.Choice(("tensorrt", "trtexec", "tensorrt_rtx")),
    help="The GPU's own TensorRT, JetPack's trtexec, or TensorRT for RTX, which builds ahead of time without a GPU.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="SM86|8.6",
    help="For tensorrt_rtx: a card to build for; give it again for more in one engine.",
)
@click.option("--scheme", "schemes", multiple=True, help="Build this scheme only; may be given again.")
@click.option(
    "--max-drop", type=POINTS, help="Largest drop of accuracy of the engine that is chosen.  [default: recipe's]"
)
@click.option("--max-batch", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--timing-cache", type=_PATH, help="A file the builder's timings are read from and written to.")
@click.option("--allow-fallback", is_flag=True, help="A layer in another datatype than its scheme says is a warning.")
@click.option("--json", "as_json", is_flag=True, help="The engines' records as JSON on standard output.")
def build(bundle: Path, capabilities: tuple[str, ...], as_json: bool, max_drop: float | None, **flags: Any) -> None:
    """Build TensorRT engines of every scheme, prove their precision, time them where a GPU is, choose the fastest."""
    import edge_van
    from edge_van.engines.choice import over_the_limit
    from edge_van.engines.target import EnginesOptions

    opened = edge_van.open_bundle(bundle)
    options = EnginesOptions(compute_capabilities=capabilities, max_drop_points=max_drop, **flags)
    built = edge_van.build(opened, options=options, work=Work(Terminal()))
    updated, tag = built.bundle, built.target
    if as_json:
        engines = updated.manifest.engines[tag]
        print_json({"target": tag, "engines": engines.engines, "choice": engines.choice})
    else:
        from edge_van.cli.tables import show_engines

        show_engines(updated, tag)
    choice = updated.manifest.engines[tag].choice
    if over_the_limit(choice):
        raise AccuracyGateError(f"no engine is active: {choice.reason}")
    if built.failed:
        raise VerificationError(f"not built: {'; '.join(f'{name}: {why}' for name, why in built.failed.items())}")
