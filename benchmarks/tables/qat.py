"""The tables of ``qat_accuracy.py``: what training brings back.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source


def qat(results: Results) -> list[str]:
    """PTQ and QAT of the same schemes, a table a result."""
    lines = ["## Quantisation-aware training", "", "Minutes are wall time; other work ran beside.", ""]
    for result in sorted(results, key=lambda result: result["rows"][0].get("weight_bits") == 4):  # the stress last
        settings = result["qat"]
        lines += [
            f"`{result['checkpoint']}`, VAN-{result['variant']} of {result['classes']} classes, {result['images']:,} "
            f"test images, FP32 top-1 {result['fp32_top1_percent']:.2f} %; {settings['steps']} steps of "
            f"{settings['batch']} of {settings['images']:,} images without labels.",
            "",
            "| scheme | method | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB | minutes |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in result["rows"]:
            drop = f"{r['drop_points']:+.2f} ({r['drop_low']:+.2f} to {r['drop_high']:+.2f})"
            bits = ", weights of 4 bits" if r.get("weight_bits") == 4 else ""
            lines.append(
                f"| `{r['scheme']}`{bits} | {r['method'].upper()} | {r['top1_percent']:.2f} | {drop} | "
                f"{r['agreement_percent']:.2f} | {r['logit_sqnr_db']:.1f} | {r['seconds'] / 60:.1f} |"
            )
        lines += ["", source(result), ""]
    return lines[:-1]
