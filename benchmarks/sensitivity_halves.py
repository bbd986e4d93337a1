"""Noise of every place of a bundle's quantised graph, and how alike two halves of the images rank the places.

In: a bundle and labelled images. Out: a table and a JSON; the bundle keeps the result, for its report.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import RESULTS, results_folder, write_result

import edge_van
from edge_van.cli.tables_sensitivity import show_sensitivity
from edge_van.progress import Terminal, Work

FIRST = 20


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    options = edge_van.SensitivityOptions(images=args.images)
    result = edge_van.sensitivity(args.bundle, args.data, options=options, work=Work(Terminal()))
    show_sensitivity(result, args.bundle, None)
    manifest = edge_van.open_bundle(args.bundle).manifest
    halves = [
        sorted(result.places, key=lambda p, half=half: p.only.image_sqnr_db_halves[half])[:FIRST] for half in (0, 1)
    ]
    both = len({p.name for p in halves[0]} & {p.name for p in halves[1]})
    rows = [
        {
            "place": p.name,
            "part": p.part,
            "only_sqnr_db": p.only.sqnr_db,
            "only_image_sqnr_db": p.only.image_sqnr_db,
            "halves_db": p.only.image_sqnr_db_halves,
            "gain_db": result.gain_db(p),
            "only_drop_points": p.only.drop_points,
            "without_drop_points": p.without.drop_points,
            "clipped_percent": [r.clipped_percent for r in p.activations],
        }
        for p in result.ranked()
    ]
    content = {
        "checkpoint": manifest.checkpoint,
        "scheme": result.measurement.scheme,
        "images": result.measurement.images,
        "logit_sqnr_db": result.all_quantized.sqnr_db,
        "image_sqnr_db": result.all_quantized.image_sqnr_db,
        "rank_correlation": result.rank_correlation,
        f"of_the_first_{FIRST}_in_both_halves": both,
        "parts": result.parts(),
        "places": rows,
    }
    print(f"rank correlation {result.rank_correlation:.3f}, {both} of the first {FIRST} are in both halves")
    write_result(args, content, manifest.checkpoint.partition(".")[0])


if __name__ == "__main__":
    sys.exit(main())
