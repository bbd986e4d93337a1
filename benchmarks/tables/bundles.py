"""The table of ``bundle_numbers.py``: accuracy and latency of one and the same model.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, cpu, sources


def bundles(results: Results) -> list[str]:
    """A row a bundle's model."""
    lines = [
        "## Accuracy and latency of one model",
        "",
        "What `edge-van quantize` measured of a bundle: accuracy and latency of the same weights at the same size. The "
        "ratio is paired, FP32's time over this one.",
        "",
        "| checkpoint | input px | CPU | model | top-1 % | drop in points (95 % interval) | median ms | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        accuracy = result["accuracy"]
        drop = accuracy["drop_interval"]
        worth = f"{accuracy['drop_points']:+.2f} ({drop['low']:+.2f} to {drop['high']:+.2f})"
        measured = {"fp32": (accuracy["fp32_percent"], ""), "int8": (accuracy["int8_percent"], worth)}
        first = f"| `{result['checkpoint']}` | {result['size_px'][1]} | {cpu(result)} |"
        for row in result["latency"]["rows"]:
            if row["name"] in measured:
                top1, worth = measured[row["name"]]
                span = row["ratio_interval"]
                ratio = f"{row['ratio']:.2f} ({span['low']:.2f} to {span['high']:.2f})"
                model = row["name"].upper() + (_made(result) if row["name"] == "int8" else "")
                lines.append(f"{first} {model} | {top1:.2f} | {worth} | {row['median_ms']:.2f} | {ratio} |")
    return [*lines, "", *sources(results)]


def _made(result: dict[str, Any]) -> str:
    """What was done beyond calibration."""
    method = "" if result["method"] == "ptq" else f", {result['method']}"
    if result.get("activation", "gelu") == "gelu":
        return method
    where = " ".join(f"`{place}`" for place in result["activation_places"]) or "all places"
    return f", {result['activation']} in {where}{method}"
