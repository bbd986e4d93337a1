"""The table of ``train_speed.py``: what an update takes, and how long recipes are.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source


def speed(results: Results) -> list[str]:
    """Images per second by variant and size, and the hours of a recipe where one was given; a table a machine."""
    lines = ["## Training on a CPU", ""]
    for result in results:
        lines += [
            f"Whole updates of {result['batch']} images, the median of {len(result['rows'][0]['steps_s'])}; in "
            f"brackets the slowest and the fastest.",
            "",
            "| variant | input px | images/s |",
            "|---|---|---|",
        ]
        for row in result["rows"]:
            low, high = row["spread"]
            lines.append(f"| {row['variant']} | {row['size']} | {row['images_per_s']:.0f} ({low:.0f} to {high:.0f}) |")
        for variant, hours in result.get("recipe_hours", {}).items():
            lines += ["", f"`{result['recipe']}` with {result['images']:,} images: {hours:.1f} hours for {variant}."]
        lines += ["", source(result), ""]
    return lines[:-1]
