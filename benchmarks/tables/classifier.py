"""The table of ``classifier_threads.py``.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from statistics import median

from tables.common import Results, source


def classifier(results: Results) -> list[str]:
    """Images per second by callers and workers, of the first machine."""
    result = results[0]
    lines = [
        "## Classifier",
        "",
        f"`edge_van.open_classifier` of the demo's INT8 model at {result['size_px']} px, OpenVINO. Each caller is a "
        f"thread that classifies one image file after the other, decoding included. In brackets: the lowest and "
        f"highest of {result['repeats']} repeats of {result['seconds']:g} s, all cases in turns.",
        "",
        "| callers | workers | images/s | times one worker |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        ratios = row["ratios"]
        span = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {row['callers']} | {row['workers']} | {median(row['images_per_s']):.0f} | {span} |")
    return [*lines, "", source(result)]
