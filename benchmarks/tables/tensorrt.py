"""The tables of ``tensorrt_engines.py``.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source


def engines(results: Results) -> list[str]:
    """The tables of ``tensorrt_engines.py``: what the graphs compute, and in which datatype the engines do."""
    result = results[0]
    lines = [
        "## TensorRT graphs",
        "",
        f"VAN-B0 on CIFAR-10 at {result['size_px']} px, by ONNX Runtime on the CPU; "
        f"{result['accuracy'][0]['accuracy']['images']:,} images. Weights and scales are float16 where said, "
        f"but the CPU computes between them in float32. Rows called rounded are computed with every tensor between two "
        f"operators rounded to float16, more often than an engine does; the largest activation is "
        f"{result['float16_accuracy'][0]['largest_activation']:.0f}, float16 ends at 65,504.",
        "",
        "| graph | what is not INT8 | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
        "|---|---|---|---|---|---|",
    ]
    for s in result["accuracy"]:
        a, i = s["accuracy"], s["accuracy"]["drop_interval"]
        lines.append(
            f"| `{s['name']}` | {s['float_type']} | {a['int8_percent']:.2f} | {a['drop_points']:+.2f} "
            f"({i['low']:+.2f} to {i['high']:+.2f}) | {a['agreement_percent']:.2f} | {a['logit_sqnr_db']:.1f} |"
        )
    for r in result["float16_accuracy"]:
        drop = f"{r['drop_points']:+.2f} ({r['drop_low']:+.2f} to {r['drop_high']:+.2f})"
        cells = (f"`{r['name']}`", "rounded", f"{r['top1_percent']:.2f}", drop)
        lines.append(f"| {' | '.join(cells)} | {r['agreement_percent']:.2f} | {r['logit_sqnr_db']:.1f} |")
    lines += [
        "",
        "## Engines",
        "",
        f"Built without a GPU by TensorRT for RTX {result['engines'][0]['version']}, one for each card. Layers are "
        f"counted by the datatype that the graph asks for and the one that the builder's log says they run in.",
        "",
        "| variant | graph | layers | compute capabilities | plan MB |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], Results] = {}
    for e in result["engines"]:
        layers = ", ".join(f"{count} {kind}" for kind, count in e["layers"].items())
        groups.setdefault((e["variant"], e["scheme"], layers), []).append(e)
    for (variant, scheme, layers), found in groups.items():
        cards = ", ".join(e["compute_capability"] for e in found)
        sizes = sorted(e["plan_bytes"] / 1e6 for e in found)
        size = " to ".join(sorted({f"{s:.1f}" for s in (sizes[0], sizes[-1])}, key=float))
        lines.append(f"| {variant} | `{scheme}` | {layers} | {cards} | {size} |")
    twice = result["same_cache_twice"]
    same = "the same bytes" if twice["same_bytes"] else f"{twice['differing_bytes']} differing bytes"
    lines += [
        "",
        f"Two builds of one graph with one timing cache gave {same}; the cache had {twice['timing_cache_bytes']} "
        f"bytes, and for the second build it was {twice['timing_cache'][1]}: TensorRT for RTX keeps no timings.",
    ]
    return [*lines, "", source(result)]
