"""Where both networks look: Grad-CAM of FP32 and INT8 beside each other, and how alike the maps are.

In: a side of a report. Out: blocks of its page.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.bundle.recipe import ACTIVATION_WORDS
from edge_van.bundle.records import Manifest
from edge_van.reports.figures.planes import histogram
from edge_van.reports.format import number
from edge_van.reports.lookup import Runs
from edge_van.reports.record import CAMs, Report, Side
from edge_van.reports.view import Block, CAMCards, Plot, Table, Text, columns
from edge_van.runtimes.stage_map import STAGES


def all_correlations(report: Report) -> tuple[tuple[float, ...], ...]:
    """Of every side that has any: the plots of all sides share their axes."""
    all_cams = [side.explanation.cams for side in report.sides if side.explanation is not None]
    return tuple(cams.correlations for cams in all_cams if cams is not None and cams.correlations)


def grad_cam(side: Side, runs: Runs, name: str, also: Sequence[Sequence[float]] = ()) -> tuple[Block, ...]:
    """Pairs of maps, then the correlations over all images that were compared; their axes hold ``also`` too."""
    explanation = side.explanation
    if explanation is None:
        return (Text(f"Grad-CAM: {side.no_explanation}", "hint"),)
    if (cams := explanation.cams) is None:
        return (Text(f"Grad-CAM: {explanation.note}", "hint"),)
    constant = (
        f" {cams.constant_maps} pairs with a constant map have no correlation and are left out."
        if cams.constant_maps
        else ""
    )
    blocks: list[Block] = [
        Text(
            f"Grad-CAM at the end of stage {cams.stage}, for the class that FP32 predicts, in both models. Pearson "
            f"correlation of the two maps over {cams.images:,} images, evenly over all: median "
            f"{number(cams.median, 3)}, 5th percentile {number(cams.p5, 3)}, lowest {number(cams.lowest, 3)}.{constant}"
        ),
        Text(_gradient(cams, side.manifest)),
    ]
    if any(pair.int8_class_name != pair.class_name for pair in cams.pairs):
        blocks.append(Text("Images whose prediction flipped are shown first: these pairs are no sample of all images."))
    if cams.pairs:
        blocks.append(CAMCards(cams.pairs))
    if cams.correlations:
        title = "Correlation of FP32's and INT8's Grad-CAM"
        wide, narrow = histogram(
            f"{name}-cams",
            title,
            cams.correlations,
            axis="Pearson correlation; 1 is the same map",
            median=cams.median,
            also=also,
        )
        table = Table(
            "The figures",
            columns("", "value"),
            (
                ("images", f"{cams.images:,}"),
                ("median", number(cams.median, 4)),
                ("5th percentile", number(cams.p5, 4)),
                ("lowest", number(cams.lowest, 4)),
                ("pairs with a constant map", str(cams.constant_maps)),
            ),
            folded=True,
        )
        blocks.append(Plot(f"{name}-cams", title, wide, narrow, table, ""))
    return tuple(blocks)


def _gradient(cams: CAMs, manifest: Manifest | None) -> str:
    """Which network the gradient is of, which decides what the correlation can show."""
    if cams.stage == STAGES[-1]:
        return (
            "Only the head is behind this stage, and the gradient of each model is that of its own head: FP32's "
            "exactly, INT8's straight through the quantiser of the head's input."
        )
    network = "the FP32 network"
    if manifest is not None and manifest.recipe.activation != "gelu":
        other = ACTIVATION_WORDS[manifest.recipe.activation]
        network = f"the FP32 network with its GELU, where INT8 computes {other},"
    return (
        f"The gradient is that of {network} behind this stage, for both models, each at its own map "
        f"(straight-through): the correlation shows what quantisation changes up to the map, and nothing of the stages "
        f"behind it."
    )
