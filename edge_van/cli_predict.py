"""The verb ``predict``.

In: a bundle and images on the command line. Out: a table or one JSON document, heat maps; exit code 1 with a count
where an image could not be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_van.cli_types import print_json
from edge_van.errors import DataError

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", type=_PATH)
@click.argument("images", type=_PATH, nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--runtime",
    type=click.Choice(("openvino", "onnxruntime", "torch", "tensorrt", "tensorrt_rtx")),
    help="What computes; onnxruntime runs a Q/DQ graph exactly, torch the FP32 network.  [default: openvino]",
)
@click.option(
    "--precision", type=click.Choice(("int8", "fp32")), help="Which of the models.  [default: int8; torch: fp32]"
)
@click.option(
    "--engine", metavar="TARGET", help="A target of edge-van build, on its GPU: the active engine, or --scheme's."
)
@click.option("--scheme", help="The Q/DQ graph for onnxruntime, or the engine's scheme.")
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes an image, at most those there are.",
)
@click.option(
    "--grad-cam", type=_PATH, metavar="DIR", help="Write a heat map over each image: what speaks for its first class."
)
@click.option(
    "--stage",
    type=click.IntRange(1, 4),
    help="Of the network, where Grad-CAM looks.  [default: the last with at least 7x7 positions]",
)
@click.option("--force", is_flag=True, help="Replace heat maps that are there.")
@click.option("--json", "as_json", is_flag=True, help="A list of predictions as JSON on standard output.")
def predict(bundle: Path, images: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
    """Classify images (files, folders or zip archives) with a bundle's model, and show where it looked."""
    from edge_van.bundle import open_bundle
    from edge_van.data import BrokenImage
    from edge_van.predict import PredictOptions
    from edge_van.predict import predict as run
    from edge_van.progress import Terminal

    reporter = Terminal()
    broken: list[BrokenImage] = []

    def on_broken(image: BrokenImage) -> None:
        broken.append(image)
        reporter.note(f"{image.name} cannot be used: {image.reason}")

    found = run(open_bundle(bundle), images, PredictOptions(**flags), reporter, on_broken)
    try:
        if as_json:
            print_json(found)
        else:
            from edge_van.show_predict import show_predictions

            show_predictions(found, bundle, images[0], flags["grad_cam"])
    finally:  # a closed pipe must not hide what failed
        if broken:
            raise DataError(
                f"{len(broken)} of {len(broken) + len(found)} images could not be used, each is named above: replace "
                f"or leave them out"
            )
