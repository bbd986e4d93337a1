"""Where both networks look: Grad-CAM of FP32 and INT8 beside each other, and how alike the maps are.

In: a side of a report. Out: blocks of its page.
"""

from __future__ import annotations

from edge_van.report.figures.planes import histogram
from edge_van.report.format import number
from edge_van.report.lookup import Runs
from edge_van.report.record import Side
from edge_van.report.view import Block, CAMCards, Plot, Table, Text, columns


def grad_cam(side: Side, runs: Runs, name: str) -> tuple[Block, ...]:
    """Pairs of maps, then the correlations over all images that were compared."""
    found = side.explanation
    if found is None:
        return (Text(f"Grad-CAM: {side.no_explanation}", "hint"),)
    if (cams := found.cams) is None:
        return (Text(f"Grad-CAM: {found.note}", "hint"),)
    constant = (
        f" {cams.constant_maps} pairs with a constant map have no correlation and are left out."
        if cams.constant_maps
        else ""
    )
    blocks: list[Block] = [
        Text(
            f"Grad-CAM at the end of stage {cams.stage}, for the class that FP32 predicts, in both models. Pearson "
            f"correlation of the two maps over {cams.images:,} images: median {number(cams.median, 3)}, mean "
            f"{number(cams.mean, 3)}, lowest {number(cams.lowest, 3)}.{constant}"
        )
    ]
    if cams.pairs:
        blocks.append(CAMCards(cams.pairs))
    if cams.correlations:
        title = "Correlation of FP32's and INT8's Grad-CAM"
        wide, narrow = histogram(
            f"{name}-cams", title, cams.correlations, axis="Pearson correlation; 1 is the same map", median=cams.median
        )
        table = Table(
            "The figures",
            columns("", "value"),
            (
                ("images", f"{cams.images:,}"),
                ("median", number(cams.median, 4)),
                ("mean", number(cams.mean, 4)),
                ("lowest", number(cams.lowest, 4)),
                ("pairs with a constant map", str(cams.constant_maps)),
            ),
            folded=True,
        )
        blocks.append(Plot(f"{name}-cams", title, wide, narrow, table, ""))
    return tuple(blocks)
