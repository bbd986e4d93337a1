"""The tables of ``arm_accuracy.py``: what ARM's scheme costs beside the others, and a shorter float.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source


def arm(results: Results) -> list[str]:
    """Each scheme computed exactly, a table a result."""
    lines = [
        *("## The scheme for ARM", "", "Computed exactly, as each graph is written; not run on an ARM CPU. `bf16` and"),
        *("`fp16` are the FP32 network with every tensor rounded; a CPU that adds up in float16 is noisier.", ""),
    ]
    for result in results:
        lines += [
            f"`{result['checkpoint']}`, VAN-{result['variant']} of {result['classes']} classes, {result['images']:,} "
            f"test images, FP32 top-1 {result['fp32_top1_percent']:.2f} %.",
            "",
            "| scheme | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| `{r['scheme']}` | {r['top1_percent']:.2f} | {r['drop_points']:+.2f} ({r['drop_low']:+.2f} to "
            f"{r['drop_high']:+.2f}) | {r['agreement_percent']:.2f} | {r['logit_sqnr_db']:.1f} |"
            for r in result["rows"]
        ]
        lines += ["", source(result), ""]
    return lines[:-1]
