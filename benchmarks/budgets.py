"""Ladders to several limits: what each rung lost, ran in and took to make.

In: training and test images, a checkpoint. Out: a table and a JSON. The hard starts have ranges of all that 8 images
show; the hardest has hard-swish in place of GELU too, which no calibration brings back.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import arguments, write_result
from rich.console import Console

import edge_van
from edge_van.bundle.budget_record import Budget
from edge_van.bundle.recipe import Recipe
from edge_van.cli.tables import table_for_results
from edge_van.cli.tables_budget import show_budget
from edge_van.progress import Terminal, Work
from edge_van.quantization.recipe import load_recipe
from edge_van.starting_point import QuantizeOptions


def starts() -> dict[str, tuple[Recipe, float]]:
    """A recipe and the points that it may lose, by what it is called."""
    usual = load_recipe()
    hard = replace(usual, samples=8, ranges="minmax")
    return {
        "hard": (replace(hard, openvino_scheme="openvino_fast"), 0.5),
        "hardest": (replace(hard, activation="hardswish"), 0.5),
        "tight": (usual, 0.1),
    }


def main() -> None:
    """Climb, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--only", choices=list(starts()), action="append", help="not all of them")
    args = parser.parse_args()
    ladders: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only or starts():
            recipe, points = starts()[name]
            options = QuantizeOptions(targets=("openvino",), budget=Budget(points))
            bundle = edge_van.quantize(
                args.checkpoint,
                data=args.test,
                calibration=args.train,
                output=Path(folder) / name,
                recipe=recipe,
                options=options,
                work=Work(Terminal()),
            )
            record = bundle.manifest.budget
            if record is None:
                raise SystemExit("a bundle made for a budget has no record of it")
            show_budget(Console(width=200), table_for_results(name, ()), record)
            ladders[name] = {"start": recipe, "record": record}
    label = args.checkpoint.name.partition(".")[0]
    write_result(args, {"checkpoint": label, "ladders": ladders}, "-".join([label, *(args.only or [])]))


if __name__ == "__main__":
    sys.exit(main())
