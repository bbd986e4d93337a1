"""The verb ``predict``.

In: a bundle and images on the command line. Out: a table or one JSON document, heat maps; exit code 1 with a count
where an image could not be used or a heat map not be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_van.cli.types import FilePath, print_json
from edge_van.errors import DataError
from edge_van.progress import Terminal, Work

if TYPE_CHECKING:
    from edge_van.prediction.answers import Failure

_PATH = FilePath()


@click.command()
@click.argument("bundle", type=_PATH)
@click.argument(
    "images",
    type=FilePath(readable=False),  # one that cannot be read must not stop the others
    nargs=-1,
    required=True,
    metavar="IMAGE...",
)
@click.option(
    "--runtime",
    type=click.Choice(("openvino", "onnxruntime", "torch", "tensorrt", "tensorrt_rtx")),
    help="What computes; onnxruntime runs a Q/DQ graph exactly, torch the FP32 network.  [default: openvino]",
)
@click.option(
    "--precision",
    type=click.Choice(("int8", "fp32", "bf16", "int8_bf16")),
    help="What to compute in.  [default: what quantize found best on this CPU, else int8; torch: fp32]",
)
@click.option(
    "--engine", metavar="TARGET", help="A target of edge-van build, on its GPU: the active engine, or --scheme's."
)
@click.option("--scheme", help="The graph for onnxruntime, or the engine's scheme.")
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes an image, at most those there are; of several labels all that it has.",
)
@click.option(
    "--grad-cam", type=_PATH, metavar="DIR", help="Write a heat map over each image: what speaks for its first class."
)
@click.option(
    "--stage",
    type=click.IntRange(1, 4),
    help="Of the network, where Grad-CAM looks. Before the last, 4, an INT8 model's map is weighted by the gradient of "
    "the FP32 network, with its GELU also where the bundle has hard-swish.  [default: the last with at least 7x7 "
    "positions]",
)
@click.option(
    "--threshold", type=float, help="Of a head of sigmoid: from this probability on.  [default: the bundle's]"
)
@click.option("--force", is_flag=True, help="Replace heat maps that are there.")
@click.option("--json", "as_json", is_flag=True, help="A list of predictions as JSON on standard output.")
def predict(bundle: Path, images: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
    """Classify images (files, folders or zip archives) with a bundle's model, and show where it looked."""
    import edge_van
    from edge_van.prediction.predict import PredictOptions

    reporter = Terminal()
    failures: list[Failure] = []

    def on_failure(failure: Failure) -> None:
        failures.append(failure)
        what = f"the heat map of {failure.image} is missing" if failure.heat_map else f"{failure.image} cannot be used"
        reporter.note(f"{what}: {failure.reason}")

    opened, options = edge_van.open_bundle(bundle), PredictOptions(**flags)
    predictions = edge_van.predict(opened, images, options=options, work=Work(reporter), on_failure=on_failure)
    try:
        if as_json:
            print_json(predictions)
        else:
            from edge_van.cli.tables_predict import show_predictions

            show_predictions(predictions, opened, images, options)
    finally:  # a closed pipe must not hide what failed
        if failures:
            raise DataError(_counted(failures, len(predictions)))


def _counted(failures: Sequence[Failure], answers: int) -> str:
    heat_maps = sum(failure.heat_map for failure in failures)
    images = len(failures) - heat_maps
    said = []
    if images:
        said.append(f"{images} of {images + answers} images could not be used: replace or leave them out")
    if heat_maps:
        said.append(f"{heat_maps} of {answers} heat maps are missing: mend what is said above, run again with --force")
    return f"{'; '.join(said)} (each is named above)"
