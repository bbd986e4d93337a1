"""The tables of ``scenes.py`` and ``dense_scaling.py``: dense networks on a VAN.

In: their results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, source

HEADS = {
    "semantic_fpn": "Semantic FPN",
    "upernet": "UPerNet",
    "light_ham": "light hamburger",
    "retinanet": "RetinaNet",
    "simple_baseline": "SimpleBaseline",
}


def scenes(results: Results) -> list[str]:
    """The table of ``scenes.py``, one row a run."""
    lines = [
        "## Dense networks",
        "",
        "Synthetic scenes, five kinds of shapes on textured ground: trained on the machine's CPU from the "
        "demo's backbone, folded, quantised by the scheme that ships, both precisions run by OpenVINO on the same "
        "held-out scenes. The interval is of the images drawn anew, both models on the same ones.",
        "",
        "| head | trained | scenes | metric | FP32 % | INT8 % | drop in points (95 % interval) | logit SQNR dB | "
        "INT8 against FP32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        metric, interval = r["metric"], r["metric"]["drop_interval"]
        lines.append(
            f"| {HEADS[r['head']]} on {r['variant'].upper()}, {r['size_px']} px | {r['steps']} steps of 16 | "
            f"{r['scenes']:,} | {metric['name']} | {metric['fp32_percent']:.2f} | {metric['int8_percent']:.2f} | "
            f"{metric['drop_points']:+.2f} ({interval['low']:+.2f} to {interval['high']:+.2f}) | "
            f"{r['logit_sqnr_db']:.1f} | {r['latency']['int8']['ratio']:.2f}x |"
        )
    return [*lines, "", *dict.fromkeys(source(r) for r in results)]


def dense_scaling(results: Results) -> list[str]:
    """The tables of ``dense_scaling.py``, one a head."""
    lines = ["### Dense networks as their images grow", "", "Random weights, batch 1, all of a head in turns.", ""]
    for result in results:
        for head in result["heads"]:
            lines += [
                f"{HEADS[head['head']]} on {result['variant'].upper()}:",
                "",
                "| pixels | FP32 ms | INT8 ms | FP32 peak MiB | INT8 peak MiB |",
                "|---|---|---|---|---|",
                *_rows(head["points"]),
                "",
            ]
            for precision, f in head["fits"].items():
                lines.append(
                    f"{precision.upper()} over megapixels: exponent {f['exponent']:.2f} ({f['exponent_low']:.2f} to "
                    f"{f['exponent_high']:.2f}, 1 is linear), R² of the straight line {f['r_squared']:.4f}.  "
                )
            lines.append("")
        lines += [source(result), ""]
    return lines[:-1]


def _rows(points: list[dict[str, Any]]) -> list[str]:
    of = {(p["size_px"], p["precision"]): p for p in points}
    return [
        f"| {size}x{size} | {of[size, 'fp32']['median_ms']:.1f} | {of[size, 'int8']['median_ms']:.1f} | "
        f"{of[size, 'fp32']['memory']['peak_mib']:.0f} | {of[size, 'int8']['memory']['peak_mib']:.0f} |"
        for size in sorted({size for size, _ in of})
    ]
