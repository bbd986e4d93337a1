"""The tables of ``roofline.py``, ``graph_choices.py`` and ``throughput.py``.

In: their results. Out: lines of Markdown.
"""

from __future__ import annotations

import statistics
from typing import Any

from tables.common import Results, source


def roofline(results: Results) -> list[str]:
    """What share of the CPU's limit each kind of layer reaches, one table a machine."""
    lines = [
        "## Where the time is",
        "",
        "Each kind of layer beside the most that the CPU can do: its multiply-accumulates at the measured peak (VNNI "
        "for INT8, FMA for FP32), or its bytes at the measured rate of copying as many, whichever takes longer. What "
        "is fused into a layer, activations and quantisers, is in its time and not in its limit. A depthwise "
        "convolution cannot reach VNNI's peak: it has no sum over channels.",
        "",
    ]
    for result in results:
        height, width = result["size_px"]
        peak = result["macs_per_s"]
        int8, fp32 = ({row["kind"]: row for row in result[name]} for name in ("int8", "fp32"))
        totals = [sum(row["ms"] for row in rows.values()) for rows in (int8, fp32)]
        units = ", ".join(f"{unit} {rate / 1e9:,.0f} G/s" for unit, rate in peak.items())
        lines += [
            f"VAN-{result['variant'].upper()} at {width}x{height} px, {result['threads']} threads; "
            f"multiply-accumulates at most: {units}.",
            "",
            "| layers | INT8 ms | of all % | of the limit % | FP32 ms | of all % | of the limit % |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind in int8:
            cells = [c for rows, total in zip((int8, fp32), totals, strict=True) for c in _cells(rows.get(kind), total)]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        lines.append(f"| all | {totals[0]:.2f} | 100 | | {totals[1]:.2f} | 100 | |")
        lines += ["", source(result), ""]
    return lines[:-1]


def _cells(row: dict[str, Any] | None, total: float) -> list[str]:
    if row is None:
        return ["-", "-", "-"]
    share = f"{100 * row['limit_ms'] / row['ms']:.0f}" if row.get("limit_ms") and row["ms"] else ""
    return [f"{row['ms']:.2f}", f"{100 * row['ms'] / total:.0f}", share]


def _span(values: list[float], how: str) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(values):{how}} ({min(values):{how}} to {max(values):{how}})"


def throughput(results: Results) -> list[str]:
    """Images a second beside those of ``benchmark_app``, one table a machine and size."""
    lines = [
        "## Throughput",
        "",
        "Many images, decoded in the same seconds, beside `benchmark_app -hint throughput`:",
        "",
    ]
    for result in results:
        lines += [
            f"VAN at {result['size_px'][1]} px:",
            "",
            "| what | images/s (all repeats) | of benchmark_app's |",
            "|---|---|---|",
        ]
        for name, rates in result["images_per_s"].items():
            share = _span(result["shares"][name], ".2f") if name in result["shares"] else "-"
            lines.append(f"| {name} | {_span(rates, '.0f')} | {share} |")
        lines += ["", source(result), ""]
    return lines[:-1]


def choices(results: Results) -> list[str]:
    """What each kind of layer, operator and setting is worth, one table a machine, size and network."""
    lines = [
        "## Graph and settings",
        "",
        "One thing at a time is changed from what ships for OpenVINO. Over 1 is faster than that. Noise is that of the "
        "calibration images' logits; at a size that the network was not trained at it says little.",
        "",
    ]
    for result in results:
        lines += [
            f"VAN-{result['variant'].upper()} at {result['size_px']} px, {result['rounds']} rounds:",
            "",
            "| changed | ms | times as fast (95 % interval) | logit SQNR dB |",
            "|---|---|---|---|",
        ]
        for row in result["rows"]:
            noise = row["logit_sqnr_db"]
            decibels = "-" if noise is None or noise > 100 else f"{noise:.1f}"
            times = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            lines.append(f"| {row['changed']} | {row['median_ms']:.2f} | {times} | {decibels} |")
        lines += ["", source(result), ""]
    return lines[:-1]
