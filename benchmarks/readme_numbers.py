"""Puts the recorded results into the README, between its ``numbers`` marks.

In: ``benchmarks/results/*.json``. Out: README.md with the tables written anew; a figure is never typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"
TITLES = {
    "fp32": "FP32, folded",
    "bf16": "BF16, folded",
    "nncf_defaults": "`nncf.quantize`, defaults, unfolded",
    "nncf_defaults_unfolded": "`nncf.quantize`, defaults, unfolded",
    "openvino": "`openvino`: asymmetric; gate, residual and LayerNorm too (ships)",
    "asymmetric": "`asymmetric`: convolutions and head only",
    "int8": "`int8`: symmetric, for TensorRT (ships as Q/DQ ONNX)",
    "int8_pointwise": "`int8_pointwise`: symmetric, depthwise in float",
    "hardswish_openvino": "`openvino` with `--activation hardswish`",
    "openvino_8bit": "`openvino` with 8-bit weights everywhere",
    "asymmetric_8bit": "`asymmetric` with 8-bit weights everywhere",
    "openvino_not_equalised": "`openvino`, not equalised",
    "asymmetric_not_equalised": "`asymmetric`, not equalised",
    "int8_not_equalised": "`int8`, not equalised",
}
REASONS = ("_not_equalised", "_8bit")
COMPUTED = {"exact": "exactly", "openvino": "OpenVINO, this CPU"}


def accuracy(result: dict[str, Any]) -> list[str]:
    """The table of ``ptq_accuracy.py``."""
    lines = [
        f"**Accuracy**: VAN-B0 on CIFAR-10 at {result['size_px']} px, {result['images']:,} test images, "
        f"{result['calibration_images']} calibration images; FP32 top-1 {result['fp32_top1_percent']:.2f} %.",
        "",
        "| model | computed by | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
        "|---|---|---|---|---|---|",
    ]
    # what one chooses a model by comes first, what shows the reason of a choice after it
    why = [row for row in result["rows"] if row["model"].endswith(REASONS)]
    return [*lines, *map(_accuracy_row, [r for r in result["rows"] if r not in why] + why), "", _source(result)]


def _accuracy_row(r: dict[str, Any]) -> str:
    drop = f"{r['drop_points']:+.2f} ({r['drop_low']:+.2f} to {r['drop_high']:+.2f})"
    cells = (
        TITLES[r["model"]],
        COMPUTED[r["computed_by"]],
        f"{r['top1_percent']:.2f}",
        drop,
        f"{r['agreement_percent']:.2f}",
        f"{r['logit_sqnr_db']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def latency(result: dict[str, Any]) -> list[str]:
    """The table of ``cpu_latency.py``."""
    run, against = result["latency"], {r["name"]: r for r in result["against_nncf_defaults"]["rows"]}
    lines = [
        f"**Latency**: VAN-B0 at {result['size_px']} px, OpenVINO, batch 1, {run['rounds']} interleaved rounds; "
        f"ratios are medians of paired ratios with a bootstrap's 95 % interval. Over 1 is faster.",
        "",
        "| model | median ms | against FP32 | against NNCF's defaults (a second run) |",
        "|---|---|---|---|",
    ]
    for r in run["rows"]:
        other = against.get(r["name"])
        lines.append(
            f"| {TITLES[r['name']]} | {r['median_ms']:.2f} | {_ratio(r)} | {_ratio(other) if other else '-'} |"
        )
    return [*lines, "", _source(result)]


def cost(result: dict[str, Any]) -> list[str]:
    """The figures of ``ptq_cost.py``."""
    v = result["validation"]
    return [
        f"**Cost**: `edge-van quantize` of the demo at {result['size_px']} px with {result['calibration_images']} "
        f"images and both exports took "
        f"{result['quantize_without_measuring_s']:.0f} s without the measuring of accuracy and latency "
        f"({result['quantize_s']:.0f} s with it), peak memory {result['quantize_peak_gib']:.2f} GiB. "
        f"`edge-van validate` on {v['images']:,} images ran {v['images_per_s']:.0f} images/s: {v['inference_s']:.1f} s "
        f"of inference (FP32 and INT8), {v['wait_s']:.1f} s of waiting for decoded images, {v['decode_s']:.1f} s of "
        f"CPU time spent decoding beside it.",
        "",
        _source(result),
    ]


def engines(result: dict[str, Any]) -> list[str]:
    """The two tables of ``tensorrt_engines.py``: what the graphs compute, and in which datatype the engines do."""
    lines = [
        f"**TensorRT graphs**: VAN-B0 on CIFAR-10 at {result['size_px']} px, by ONNX Runtime on the CPU; "
        f"{result['accuracy'][0]['accuracy']['images']:,} images. Weights and scales are float16 where said, "
        f"but the CPU computes between them in float32: an overflow of float16 activations would not show.",
        "",
        "| graph | what is not INT8 | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
        "|---|---|---|---|---|---|",
    ]
    for s in result["accuracy"]:
        a, i = s["accuracy"], s["accuracy"]["top1_drop_interval"]
        lines.append(
            f"| `{s['name']}` | {s['float_type']} | {a['top1_int8_percent']:.2f} | {a['top1_drop_points']:+.2f} "
            f"({i['low']:+.2f} to {i['high']:+.2f}) | {a['agreement_percent']:.2f} | {a['logit_sqnr_db']:.1f} |"
        )
    lines += [
        "",
        f"**Engines**: built without a GPU by TensorRT for RTX {result['engines'][0]['version']}, one a card; layers "
        f"counted by what the graph asks for and what the builder's log says they run in.",
        "",
        "| variant | graph | compute capability | layers | plan MB |",
        "|---|---|---|---|---|",
    ]
    for e in result["engines"]:
        layers = ", ".join(f"{count} {kind}" for kind, count in e["layers"].items())
        lines.append(
            f"| {e['variant']} | `{e['scheme']}` | {e['compute_capability']} | {layers} | {e['plan_bytes'] / 1e6:.1f} |"
        )
    twice = result["same_cache_twice"]
    same = "the same bytes" if twice["same_bytes"] else f"{twice['differing_bytes']} differing bytes"
    lines += [
        "",
        f"Two builds of one graph with one timing cache gave {same}; the cache had {twice['timing_cache_bytes']} "
        f"bytes: ahead of time nothing is timed.",
    ]
    return [*lines, "", _source(result)]


def _ratio(row: dict[str, Any]) -> str:
    interval = row["ratio_interval"]
    return f"{row['ratio']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"


def _source(result: dict[str, Any]) -> str:
    machine = result["machine"]
    flags = ", ".join(f for f in machine["flags"] if "vnni" in f or f in ("avx2", "avx512f", "amx_int8"))
    used = {k: machine["versions"][k] for k in ("openvino", "nncf", "torch") if k in machine["versions"]}
    return (
        f"{machine['cpu']}, {machine['logical_cores']} cores, {flags}; "
        f"{', '.join(f'{k} {v}' for k, v in used.items())}; `{result['command']}`."
    )


def main() -> None:
    """Rewrite the README between its marks."""
    parts: list[str] = []
    tables = (
        ("ptq_accuracy-*", accuracy),
        ("cpu_latency-*", latency),
        ("tensorrt_engines-*", engines),
        ("ptq_cost-*", cost),
    )
    for pattern, table in tables:
        for path in sorted((HERE / "results").glob(f"{pattern}.json")):
            parts += [*table(json.loads(path.read_text())), ""]
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n" + "\n".join(parts).rstrip() + f"\n{END}{tail}")


if __name__ == "__main__":
    main()
