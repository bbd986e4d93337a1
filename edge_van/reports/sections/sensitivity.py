"""Which layers the noise comes from: by part, along the network, and every place in a table.

In: a side of a report. Out: blocks of its page.
"""

from __future__ import annotations

import shlex

from edge_van.evaluation.sensitivity_record import PlaceSensitivity, Sensitivity
from edge_van.reports.figures.network import NetworkPoint, along_network
from edge_van.reports.figures.rows import Axis, BarRow, bars
from edge_van.reports.format import number, signed
from edge_van.reports.lookup import Runs
from edge_van.reports.record import Report, Side
from edge_van.reports.view import Block, Plot, Table, Text, columns


def has_sensitivity(report: Report) -> bool:
    return any(side.sensitivity is not None for side in report.sides)


def sensitivity(side: Side, _: Runs, name: str) -> tuple[Block, ...]:
    """Two plots with their tables; how alike two halves of the images rank the layers."""
    result = side.sensitivity
    if result is None:
        return (Text(f"Not measured: run edge-van sensitivity {shlex.quote(side.name)} --data DIR.", "hint"),)
    asked, total = result.measurement, result.all_quantized
    intro = (
        f"The graph of {asked.scheme}, computed exactly on {asked.images:,} images of {asked.data}. All quantised, the "
        f"logits' SQNR is {number(total.sqnr_db, 1)} dB of all images together, {number(total.image_sqnr_db, 1)} dB in "
        "the mean of the images. A few images make much of the noise together: parts of the network are summed by "
        "it, as it adds up, and places are compared by the mean. Each place was quantised alone, and left in float "
        "alone."
    )
    if not result.is_whole:
        intro += f" The measurement was stopped after {len(result.places)} of {result.of_places} places."
    if result.kept:
        intro += (
            f" The weights of {len(result.kept)} layers stayed on their grid: their noise is that of the input alone."
        )
    blocks: list[Block] = [Text(intro)]
    if result.places:
        blocks += [_by_part(result, name), _along(result, name)]
    if (correlation := result.rank_correlation) is not None:
        blocks.append(Text(f"Rank correlation of the places by either half of the images: {number(correlation, 3)}."))
    return tuple(blocks)


def _by_part(result: Sensitivity, name: str) -> Plot:
    rows, title = result.parts(), "Noise by part of the network"
    wide, narrow = bars(
        f"{name}-parts",
        title,
        [BarRow(r.name, "int8", ((r.share_percent,),), (f"{number(r.sqnr_db, 1)} dB alone",)) for r in rows],
        axis=Axis("% of the noise"),
    )
    table = Table(
        "The figures",
        columns("part", "places", "share of the noise, %", "SQNR of these alone, dB"),
        tuple((r.name, str(r.places), number(r.share_percent, 1), number(r.sqnr_db, 1)) for r in rows),
        folded=True,
    )
    caption = "The noise that each place makes alone, of all images together, summed over the places of a part."
    return Plot(f"{name}-parts", title, wide, narrow, table, caption)


def _along(result: Sensitivity, name: str) -> Plot:
    title = "Noise along the network"
    points = [NetworkPoint(place.name, place.part, place.only.image_sqnr_db) for place in result.places]
    wide, narrow = along_network(f"{name}-along", title, points, total=result.all_quantized.image_sqnr_db)
    heads = (
        *("place", "part", "only it, dB", "gain without it, dB", "drop, only it", "drop, all but it"),
        *("grid", "seen", "clipped, %"),
    )
    table = Table(
        "Every place, the costliest first",
        columns(*heads, text=(0, 1, 6, 7)),
        tuple(_row(result, place) for place in result.ranked()),
        folded=True,
        note="Drops of one place are small beside their intervals, which stand in report.json.",
    )
    caption = (
        "An image's logit SQNR with one place quantised alone, lower is worse, from the first layer to the head. The "
        "line is that of all together."
    )
    return Plot(f"{name}-along", title, wide, narrow, table, caption)


def _row(result: Sensitivity, place: PlaceSensitivity) -> tuple[str, ...]:
    grids = [f"{number(r.grid_low)} to {number(r.grid_high)}" for r in place.activations]
    seen = [f"{number(r.seen_low)} to {number(r.seen_high)}" for r in place.activations]
    clipped = [number(r.clipped_percent, 3) for r in place.activations]
    return (
        place.name,
        place.part,
        number(place.only.image_sqnr_db, 1),
        signed(result.gain_db(place)),
        signed(place.only.drop_points),
        signed(place.without.drop_points),
        *("; ".join(texts) for texts in (grids, seen, clipped)),
    )
