"""The summary of ``edge-van sensitivity`` on standard output.

In: a ``Sensitivity``. Out: the parts, the layers that cost most, the next command.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edge_van.bundle.layout import SENSITIVITY_NAME
from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.evaluation.sensitivity_record import ActivationRange, Sensitivity

MOST_PLACES = 20


def show_sensitivity(result: Sensitivity, bundle: Path, output: Path | None) -> None:
    """Noise by part and by layer; the drop of a single layer is within its images' noise, and stands in the result."""
    console, asked = console_for_results(), result.measurement
    table = table_for_results(
        f"{asked.scheme} on {asked.images} images of {asked.data}: noise by part, of all images together",
        ("part", "places", "share of the noise %", "SQNR dB, only these"),
        left=("part",),
    )
    for part in result.parts():
        table.add_row(part.name, str(part.places), f"{part.share_percent:.1f}", f"{part.sqnr_db:.1f}")
    console.print(table)
    shown = result.ranked()[:MOST_PLACES]
    table = table_for_results(
        f"The {len(shown)} of {result.of_places} places that cost most",
        ("layer", "part", "SQNR dB of an image, only it", "gain dB without it", "drop, only it", "clipped %"),
        left=("layer", "part"),
    )
    for place in shown:
        table.add_row(
            place.name,
            place.part,
            f"{place.only.image_sqnr_db:.1f}",
            f"{result.gain_db(place):+.2f}",
            f"{place.only.drop_points:+.2f}",
            _clipped(place.activations),
        )
    console.print(table)
    total = result.all_quantized
    console.print(
        f"All quantised: {total.image_sqnr_db:.1f} dB an image, {total.sqnr_db:.1f} dB of all together, "
        f"{asked.metric} drop {total.drop_points:+.2f} points"
    )
    if (correlation := result.rank_correlation) is not None:
        console.print(f"Rank correlation of the layers by either half of the images: {correlation:.3f}")
    if result.kept:
        console.print(
            f"{len(result.kept)} layers had their weights on the grid all the time: their noise is the input's"
        )
    console.print(f"Result: {output or bundle / SENSITIVITY_NAME}", soft_wrap=True)
    if output is None:
        console.print(f"Next:   edge-van report {shlex.quote(str(bundle))}", soft_wrap=True)


def _clipped(ranges: tuple[ActivationRange, ...]) -> str:
    return ", ".join(f"{r.clipped_percent:.3f}" for r in ranges) or "-"
