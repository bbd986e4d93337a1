"""Predictions as a table on standard output.

In: ``Prediction`` records. Out: one row a class, the image's name at its first; the next command last.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from edge_van.predict import Prediction
from edge_van.show import console_for_results, table_for_results


def show_predictions(found: Sequence[Prediction], bundle: Path, image: Path, grad_cam: Path | None) -> None:
    """``found`` in order, then where the heat maps of ``grad_cam`` lie, or how to get them of ``image``."""
    console = console_for_results()
    if not found:
        return
    title, columns = f"{found[0].model} by {found[0].runtime}", ("image", "rank", "class", "probability")
    table = table_for_results(title, columns, left=("image", "class"))
    for prediction in found:
        for rank, score in enumerate(prediction.predictions, 1):
            table.add_row(
                prediction.image if rank == 1 else "", str(rank), score.name, f"{100.0 * score.probability:.2f} %"
            )
    console.print(table)
    if grad_cam is not None:
        console.print(f"Heat maps of the first class: {grad_cam}", soft_wrap=True)
        console.print(f"Next:   edge-van validate {shlex.quote(str(bundle))} --data YOUR_IMAGES", soft_wrap=True)
        return
    again = f"edge-van predict {shlex.quote(str(bundle))} {shlex.quote(str(image))}"
    console.print(f"Next:   {again} --grad-cam heat_maps", soft_wrap=True)
