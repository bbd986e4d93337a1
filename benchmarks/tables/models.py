"""The tables of ``ptq_accuracy.py``, ``cpu_latency.py`` and ``ptq_cost.py``: what one chooses a model by.

In: their results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import TITLES, Results, cpu, ratio, source, sources

COMPUTED = {"exact": "exactly", "openvino": "OpenVINO"}
CHOSEN_BY = ("nncf_defaults_unfolded", "openvino", "asymmetric", "int8", "int8_pointwise", "hardswish_openvino")
"""Models one chooses between; the others show the reason of a choice."""
ON_THE_CPU = ("nncf_defaults_unfolded", "openvino", "asymmetric", "hardswish_openvino")
"""Those of them that are run by OpenVINO; the rest are TensorRT's graphs."""
REASONS = (
    ("openvino", "what ships"),
    ("openvino_not_equalised", "... without equalisation"),
    ("openvino_8bit", "... with 8-bit weights everywhere"),
    ("asymmetric", "`asymmetric`"),
    ("asymmetric_not_equalised", "... without equalisation"),
    ("asymmetric_8bit", "... with 8-bit weights everywhere"),
    ("int8", "`int8`, all weights 8-bit"),
    ("int8_not_equalised", "... without equalisation"),
)


def accuracy(results: Results) -> list[str]:
    """The tables of ``ptq_accuracy.py``: what one chooses by, from the first machine; the reasons, from all."""
    first = results[0]
    lines = [
        f"**Accuracy**: VAN-B0 on CIFAR-10 at {first['size_px']} px, {first['images']:,} test images, "
        f"{first['calibration_images']} calibration images; FP32 top-1 {first['fp32_top1_percent']:.2f} %.",
        "",
        "| model | computed by | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
        "|---|---|---|---|---|---|",
    ]
    for name in CHOSEN_BY:
        rows = [r for r in first["rows"] if r["model"] == name]
        lines += [_accuracy_row(r) for r in rows if r["computed_by"] == "exact" or name in ON_THE_CPU]
    cpus = [cpu(r) for r in results]
    lines += [
        "",
        "What each choice is worth, logit SQNR in dB, computed exactly and by OpenVINO's kernels on each CPU:",
        "",
        f"| model | exactly | {' | '.join(cpus)} |",
        f"|---|---|{'---|' * len(cpus)}",
    ]
    for name, title in REASONS:
        cells = [_sqnr(first, name, "exact"), *(_sqnr(r, name, "openvino") for r in results)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, "", *sources(results)]


def _sqnr(result: dict[str, Any], model: str, computed_by: str) -> str:
    [row] = [r for r in result["rows"] if (r["model"], r["computed_by"]) == (model, computed_by)]
    return f"{row['logit_sqnr_db']:.1f}"


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


def latency(results: Results) -> list[str]:
    """The tables of ``cpu_latency.py``, one a machine."""
    lines = [
        f"**Latency**: VAN-B0 at {results[0]['size_px']} px, OpenVINO, batch 1, interleaved, in a new "
        f"random order each round where nothing else is said; ratios are medians of "
        f"paired ratios, in brackets the lowest and highest end of the runs' 95 % intervals. Over 1 is faster. Ours "
        f"take the camera's bytes, NNCF's model the float input it has.",
        "",
    ]
    for result in results:
        runs = result["runs"]
        against = {r["name"]: r for r in result["ratios"]["nncf_defaults"]}
        lines += [f"| {cpu(result)} | median ms | against FP32 | against NNCF's defaults |", "|---|---|---|---|"]
        for r in result["ratios"]["fp32"]:
            cells = (TITLES[r["name"]], f"{r['median_ms']:.2f}", ratio(r), ratio(against[r["name"]]))
            lines.append(f"| {' | '.join(cells)} |")
        each = " and ".join(str(rounds) for rounds in sorted({run["rounds"] for run in runs}))
        lines += ["", f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} of {each} rounds. {source(result)}", ""]
    return lines[:-1]


def cost(results: Results) -> list[str]:
    """The figures of ``ptq_cost.py``, of the first machine."""
    result = results[0]
    v, stages = result["validation"], result["quantize_stages_s"]
    exports = sum(s for stage, s in stages.items() if stage.startswith("Exporting"))
    return [
        f"**Cost**: `edge-van quantize` of the demo at {result['size_px']} px with {result['calibration_images']} "
        f"images and both exports took {result['quantize_without_measuring_s']:.0f} s ({exports:.0f} s of them to "
        f"write and check the files), {result['quantize_s']:.0f} s with accuracy and latency measured; peak memory "
        f"{result['quantize_peak_gib']:.2f} GiB. `edge-van validate` on {v['images']:,} images ran "
        f"{v['images_per_s']:.0f} images/s: {v['inference_s']:.1f} s of inference (FP32 and INT8), "
        f"{v['wait_s']:.2f} s of waiting for decoded images, {v['decode_s']:.1f} s of CPU time spent decoding beside "
        f"it.",
        "",
        source(result),
    ]
