"""The tables of ``scaling.py`` and ``ratio_stability.py``: how times grow, and how far they move.

In: their results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, source

LEAST_POINTS = 5
"""A fit of fewer says nothing of an exponent."""


def scaling(results: Results) -> list[str]:
    """The tables of ``scaling.py``, two a run."""
    lines = [
        "## Scaling",
        "",
        "OpenVINO, batch 1, random weights, all models of a table in turns; peak resident memory of a process that "
        "loads the file and runs it. Two tables of one run were not in turns with each other: their milliseconds are "
        "not to be compared. The paper gives the cost of a large kernel attention as linear in the pixels (Guo et "
        "al., section 3.1). The exponents are those of the times: under 1, a small input costs more per pixel than a "
        "large one.",
        "",
    ]
    for result in results:
        lines += [*_of_run(result), source(result), ""]
    return lines[:-1]


def _of_run(result: dict[str, Any]) -> list[str]:
    columns = "GMACs | FP32 ms | INT8 ms | FP32 peak MiB | INT8 peak MiB"
    lines = [
        f"Variants at {result['size_px']} px:",
        "",
        f"| variant | {columns} |",
        "|---|---|---|---|---|---|",
        *(f"| {p['variant']} | {_scaling_cells(p)} |" for p in result["by_variant"]),
        "",
        f"| {result['sizes_of']} at | {columns} |",
        "|---|---|---|---|---|---|",
        *(f"| {p['size_px']} px | {_scaling_cells(p)} |" for p in result["by_size"]),
        "",
    ]
    for over, unit in (("over_megapixels", "megapixels"), ("over_gmacs", "GMACs")):
        for precision, f in result["fits"][over].items():
            if f["points"] >= LEAST_POINTS:
                lines.append(
                    f"{precision.upper()} over {unit}, {f['points']} points: exponent {f['exponent']:.2f} "
                    f"({f['exponent_low']:.2f} to {f['exponent_high']:.2f}, 1 is linear); ms = {f['intercept_ms']:.2f} "
                    f"+ {f['slope_ms']:.2f} x, R² {f['r_squared']:.4f}.  "
                )
    return [*lines, ""]


def _scaling_cells(point: dict[str, Any]) -> str:
    rows = {name: f"{ms:.2f}" for name, ms in point["median_ms"].items()}
    peaks = {name: f"{m['peak_mib']:.0f}" for name, m in point["memory"].items()}
    cells = (f"{point['gmacs']:.2f}", *(found.get(p, "-") for found in (rows, peaks) for p in ("fp32", "int8")))
    return " | ".join(cells)


def stability(results: Results) -> list[str]:
    """The figures of ``ratio_stability.py``, of the first machine."""
    result = results[0]
    runs, spreads = result["runs"], result["spreads"]
    ratios = sorted(run["ratio"] for run in runs)
    saturated = result["saturated"]
    noted = "and the run says that it is disturbed" if saturated["notes"] else "and no note says so"
    return [
        "## Repeats",
        "",
        f"INT8 against FP32 of the demo at {result['size_px']} px measured {len(runs)} times for "
        f"{result['seconds']:g} s, in every second run with other processes at work in bursts on every core: the ratio "
        f"went from {ratios[0]:.2f} to {ratios[-1]:.2f} ({100 * spreads['ratio']:.1f} % of its median), FP32's median "
        f"by {100 * spreads['fp32_median_ms']:.0f} %; the intervals of {result['intervals_holding_the_median']} runs "
        f"hold the median of all. The ratio of the two 10th percentiles, with the machine at its best, moved by "
        f"{100 * spreads['p10_ratio']:.1f} %. Timed naively, {result['naive_seconds']:g} s of one model and then of "
        f"the other with nothing thrown away, the ratio moved by {100 * spreads['naive_ratio']:.0f} % and FP32's "
        f"median by {100 * spreads['naive_fp32_median_ms']:.0f} %. Where other processes never stop there are no "
        f"undisturbed rounds: the ratio is {saturated['ratio']:.2f} then, {noted}.",
        "",
        source(result),
    ]
