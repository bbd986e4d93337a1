"""The tables of ``ptq_accuracy.py``, ``cpu_latency.py`` and ``ptq_cost.py``: what one chooses a model by.

In: their results. Out: lines of Markdown; ``summary`` is the README's.
"""

from __future__ import annotations

from typing import Any

from tables.common import TITLES, Results, cpu, ratio, source, sources

COMPUTED = {"exact": "exactly", "openvino": "OpenVINO"}
CHOSEN_BY = ("nncf_defaults_unfolded", "openvino", "openvino_fast", "int8", "int8_pointwise", "hardswish_openvino")
"""Models one chooses between; the others show the reason of a choice."""
ON_THE_CPU = ("nncf_defaults_unfolded", "openvino", "openvino_fast", "hardswish_openvino")
"""Those of them that are run by OpenVINO; the rest are TensorRT's graphs."""
IN_SHORT = (
    ("nncf_defaults_unfolded", "nncf_defaults", "INT8, NNCF's defaults"),
    ("openvino", "openvino", "**INT8, edge-van**"),
    ("hardswish_openvino", "hardswish_openvino", "INT8, edge-van with `--activation hardswish`"),
)
"""The README's rows: a model's name in the results of accuracy and of latency, and its words."""
REASONS = (
    ("openvino", "what ships"),
    ("openvino_not_equalised", "... without equalisation"),
    ("openvino_7bit", "... with 7-bit weights in layers that mix channels"),
    ("openvino_8bit", "... with 8-bit weights that overflow without VNNI"),
    ("openvino_fast", "`openvino_fast`"),
    ("int8", "`int8`"),
    ("int8_not_equalised", "... without equalisation"),
)


def accuracy(results: Results) -> list[str]:
    """The tables of ``ptq_accuracy.py``: what one chooses by, from the first machine; the reasons, from all."""
    others = [result for result in results if "checkpoint" in result]
    results = [result for result in results if "checkpoint" not in result]
    first = results[0]
    lines = [
        "## Accuracy",
        "",
        f"VAN-B0 on CIFAR-10 at {first['size_px']} px, {first['images']:,} test images, "
        f"{first['calibration_images']} calibration images; FP32 top-1 {first['fp32_top1_percent']:.2f} %.",
        "",
        *_choices(first),
    ]
    for result in others:
        lines += [
            "",
            f"A harder task, `{result['checkpoint']}`, trained from scratch, on {result['images']:,} images; FP32 "
            f"top-1 {result['fp32_top1_percent']:.2f} %.",
            "",
            *_choices(result),
            "",
            source(result),
        ]
    cpus = [cpu(r) for r in results]
    lines += [
        "",
        "What each choice is worth, logit SQNR in dB, computed exactly and by OpenVINO's kernels on each CPU:",
        "",
        f"| model | exactly | {' | '.join(cpus)} |",
        f"|---|---|{'---|' * len(cpus)}",
    ]
    measured = {row["model"] for row in first["rows"]}
    for name, title in (row for row in REASONS if row[0] in measured):
        cells = [_sqnr(first, name, "exact"), *(_sqnr(r, name, "openvino") for r in results)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, "", *sources(results)]


def _choices(result: dict[str, Any]) -> list[str]:
    lines = [
        "| model | computed by | top-1 % | drop in points (95 % interval) | agreement % | logit SQNR dB |",
        "|---|---|---|---|---|---|",
    ]
    for name in CHOSEN_BY:
        rows = [r for r in result["rows"] if r["model"] == name]
        lines += [_accuracy_row(r) for r in rows if r["computed_by"] == "exact" or name in ON_THE_CPU]
    return lines


def summary(accuracies: Results, latencies: Results) -> list[str]:
    """What INT8 costs and buys, in four rows of one machine: the first whose results have both."""
    a = next(result for result in accuracies if "checkpoint" not in result)
    machine = a["machine"]
    found = next(r for r in latencies if r["machine"]["cpu"] == machine["cpu"])
    tops = {r["model"]: r for r in a["rows"] if r["computed_by"] == "openvino"}
    times = {r["name"]: r for r in found["ratios"]["fp32"]}
    runs = found["runs"]
    counts = sorted({run["rounds"] for run in runs})
    rounds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        f"| VAN-B0 | top-1 %, {a['size_px']} px | drop in points | ms, {found['size_px']} px | times as fast |",
        "|---|---|---|---|---|",
        f"| FP32 | {a['fp32_top1_percent']:.2f} | - | {times['fp32']['median_ms']:.2f} | 1.00 |",
    ]
    for name, timed, title in IN_SHORT:
        top, row = tops[name], times[timed]
        cells = (title, f"{top['top1_percent']:.2f}", _drop(top), f"{row['median_ms']:.2f}", ratio(row))
        lines.append(f"| {' | '.join(cells)} |")
    used = ", ".join(f"{name} {machine['versions'][name]}" for name in ("openvino", "nncf"))
    return [
        *lines,
        "",
        f"- Machine: {machine['logical_cores']} cores of {cpu(a)}; {used}.",
        f"- Top-1: {a['images']:,} CIFAR-10 test images at {a['size_px']} px. In brackets: the drop's 95 % interval.",
        f"- Latency: OpenVINO at {found['size_px']} px, batch 1, {len(runs)} interleaved runs of {rounds} rounds.",
        "- Times as fast: median of FP32 / INT8, paired by round. "
        "In brackets: outermost ends of the runs' 95 % intervals.",
    ]


def _sqnr(result: dict[str, Any], model: str, computed_by: str) -> str:
    [row] = [r for r in result["rows"] if (r["model"], r["computed_by"]) == (model, computed_by)]
    return f"{row['logit_sqnr_db']:.1f}"


def _accuracy_row(r: dict[str, Any]) -> str:
    cells = (
        TITLES[r["model"]],
        COMPUTED[r["computed_by"]],
        f"{r['top1_percent']:.2f}",
        _drop(r),
        f"{r['agreement_percent']:.2f}",
        f"{r['logit_sqnr_db']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _drop(r: dict[str, Any]) -> str:
    return f"{r['drop_points']:+.2f} ({r['drop_low']:+.2f} to {r['drop_high']:+.2f})"


def latency(results: Results) -> list[str]:
    """The tables of ``cpu_latency.py``, one a machine."""
    lines = [
        "## Latency",
        "",
        f"VAN-B0 at {results[0]['size_px']} px, OpenVINO, batch 1, interleaved, in a new random order each round where "
        f"nothing else is said. Ratios are medians of paired ratios, in brackets the lowest and highest end of the "
        f"runs' 95 % intervals; over 1 is faster. Ours take the camera's bytes, NNCF's model the float input it has.",
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
    """The figures of ``ptq_cost.py``, a paragraph a run."""
    lines = ["## Cost", ""]
    for result in results:
        v, stages = result["validation"], result["quantize_stages_s"]
        exports = sum(s for stage, s in stages.items() if stage.startswith("Exporting"))
        network = "the demo" if v else f"a VAN-{result['variant'].upper()} of random weights"
        lines += [
            f"`edge-van quantize` of {network} at {result['size_px']} px with {result['calibration_images']} "
            f"images and both exports took {result['quantize_without_measuring_s']:.0f} s ({exports:.0f} s of them to "
            f"write and check the files), {result['quantize_s']:.0f} s with accuracy and latency measured; peak memory "
            f"{result['quantize_peak_gib']:.2f} GiB.",
            "",
        ]
        if v:
            lines += [
                f"`edge-van validate` on {v['images']:,} images ran {v['images_per_s']:.0f} images/s: "
                f"{v['inference_s']:.1f} s of inference (FP32 and INT8), {v['wait_s']:.2f} s of waiting for decoded "
                f"images, {v['decode_s']:.1f} s of CPU time spent decoding beside it.",
                "",
            ]
        lines += [source(result), ""]
    return lines[:-1]
