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
    "nncf_defaults_bf16": "`nncf.quantize`, defaults, bf16 for the rest (OpenVINO's own choice here)",
    "openvino_bf16": "`openvino` (ships), bf16 for the rest",
    "nncf_defaults_unfolded": "`nncf.quantize`, defaults, unfolded",
    "openvino": "`openvino`: asymmetric; gate, residual and LayerNorm too (ships)",
    "asymmetric": "`asymmetric`: convolutions and head only",
    "int8": "`int8`: symmetric, for TensorRT (ships as Q/DQ ONNX)",
    "int8_pointwise": "`int8_pointwise`: symmetric, depthwise in float",
    "hardswish_openvino": "`openvino` with `--activation hardswish`",
}
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
Results = list[dict[str, Any]]


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
    cpus = [_cpu(r) for r in results]
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
    return [*lines, "", *_sources(results)]


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
    first, runs = results[0], results[0]["runs"]
    lines = [
        f"**Latency**: VAN-B0 at {first['size_px']} px, OpenVINO, batch 1, {len(runs)} runs of {runs[0]['rounds']} "
        f"interleaved rounds in random order; ratios are medians of paired ratios, in brackets the lowest and highest "
        f"end of the runs' 95 % intervals. Over 1 is faster. Ours take the camera's bytes, NNCF's model "
        f"the float input it has.",
        "",
    ]
    for result in results:
        against = {r["name"]: r for r in result["ratios"]["nncf_defaults"]}
        lines += [f"| {_cpu(result)} | median ms | against FP32 | against NNCF's defaults |", "|---|---|---|---|"]
        for r in result["ratios"]["fp32"]:
            cells = (TITLES[r["name"]], f"{r['median_ms']:.2f}", _ratio(r), _ratio(against[r["name"]]))
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", _source(result), ""]
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
        _source(result),
    ]


def engines(results: Results) -> list[str]:
    """The tables of ``tensorrt_engines.py``: what the graphs compute, and in which datatype the engines do."""
    result = results[0]
    lines = [
        f"**TensorRT graphs**: VAN-B0 on CIFAR-10 at {result['size_px']} px, by ONNX Runtime on the CPU; "
        f"{result['accuracy'][0]['accuracy']['images']:,} images. Weights and scales are float16 where said, "
        f"but the CPU computes between them in float32. Rows called rounded are computed with every tensor between two "
        f"operators rounded to float16, more often than an engine does; the largest activation is "
        f"{result['float16_accuracy'][0]['largest_activation']:.0f}, float16 ends at 65,504.",
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
    for r in result["float16_accuracy"]:
        drop = f"{r['drop_points']:+.2f} ({r['drop_low']:+.2f} to {r['drop_high']:+.2f})"
        cells = (f"`{r['name']}`", "rounded", f"{r['top1_percent']:.2f}", drop)
        lines.append(f"| {' | '.join(cells)} | {r['agreement_percent']:.2f} | {r['logit_sqnr_db']:.1f} |")
    lines += [
        "",
        f"**Engines**: built without a GPU by TensorRT for RTX {result['engines'][0]['version']}, one a card; layers "
        f"counted by what the graph asks for and what the builder's log says they run in.",
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
    return [*lines, "", _source(result)]


def peers(results: Results) -> list[str]:
    """The table of ``peers/run.py``, one a machine: accuracy and speed of the same checkpoint through every tool."""
    lines: list[str] = []
    for result in results:
        timed, fp32 = result["latency"], next(iter(result["accuracy"].values()))
        heads = [f"ms at {t['latency_size_px']} px | against FP32" for t in timed]
        lines += [
            f"**Peers**: the demo checkpoint through other tools, as their documentation shows it; accuracy on "
            f"{fp32['images']:,} CIFAR-10 images at {result['size_px']} px (FP32 top-1 "
            f"{fp32['top1_fp32_percent']:.2f} %), {result['calibration_images']} calibration images; latency with "
            f"{result['threads']} threads, batch 1, all in turns in one process, "
            f"{len(timed[0]['runs']) if timed else 0} runs; over 1 is faster.",
            "",
            f"| model | top-1 % | drop in points (95 % interval) | logit SQNR dB | {' | '.join(heads)} |",
            f"|---|---|---|---|{'---|---|' * len(timed)}",
        ]
        rows = [{r["name"]: r for r in t["ratios"]["fp32"]} for t in timed]
        for name, how in result["how"].items():
            cells = [how, *_peer_accuracy(result["accuracy"].get(name))]
            for row in (by_name.get(name) for by_name in rows):
                cells += ["-", "-"] if row is None else [f"{row['median_ms']:.2f}", _ratio(row)]
            lines.append(f"| {' | '.join(cells)} |")
        lines += [f"| {u['name']}: {u['reason']} |{' - |' * (3 + 2 * len(timed))}" for u in result["unavailable"]]
        clocks = [
            f"{c['model']} at {t['latency_size_px']} px {c['ratio']:.3f} "
            f"({c['ratio_low']:.3f} to {c['ratio_high']:.3f}; without Python's {c['python_ms']:.2f} ms "
            f"{c['inference_ratio']:.3f})"
            for t in timed
            for c in t["benchmark_app"]
        ]
        if clocks:
            lines += ["", f"Our clock over OpenVINO's `benchmark_app` on the same IR: {'; '.join(clocks)}."]
        lines += ["", _source(result), ""]
    return lines[:-1]


def _peer_accuracy(a: dict[str, Any] | None) -> list[str]:
    if a is None:  # the baseline itself
        return ["-", "-", "-"]
    drop, i = a["top1_drop_points"], a["top1_drop_interval"]
    return [
        f"{a['top1_int8_percent']:.2f}",
        f"{drop:+.2f} ({i['low']:+.2f} to {i['high']:+.2f})",
        f"{a['logit_sqnr_db']:.1f}",
    ]


def scaling(results: Results) -> list[str]:
    """The tables of ``scaling.py``, of the first machine."""
    result = results[0]
    columns = "GMACs | FP32 ms | INT8 ms | FP32 peak MiB | INT8 peak MiB"
    lines = [
        f"**Scaling**: OpenVINO, batch 1, random weights, FP32 and INT8 in turns; peak resident memory of a process "
        f"that loads the file and runs it. Variants at {result['size_px']} px:",
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
            lines.append(
                f"{precision.upper()} over {unit}, {f['points']} points: exponent {f['exponent']:.2f} "
                f"({f['exponent_low']:.2f} to {f['exponent_high']:.2f}, 1 is linear); ms = {f['intercept_ms']:.2f} + "
                f"{f['slope_ms']:.2f} x, R² {f['r_squared']:.4f}.  "
            )
    return [*lines, "", _source(result)]


def _scaling_cells(point: dict[str, Any]) -> str:
    rows = {r["name"]: f"{r['median_ms']:.2f}" for r in point["latency"]["rows"]}
    peaks = {name: f"{m['peak_mib']:.0f}" for name, m in point["memory"].items()}
    cells = (f"{point['gmacs']:.2f}", *(found.get(p, "-") for found in (rows, peaks) for p in ("fp32", "int8")))
    return " | ".join(cells)


def stability(results: Results) -> list[str]:
    """The figures of ``ratio_stability.py``, of the first machine."""
    result = results[0]
    runs, spreads = result["runs"], result["spreads"]
    ratios = sorted(run["ratio"] for run in runs)
    return [
        f"**Repeats**: INT8 against FP32 of the demo at {result['size_px']} px measured {len(runs)} times, in every "
        f"second run with other processes at work in bursts on every core: the ratio went from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f} ({100 * spreads['ratio']:.1f} % of its median), FP32's milliseconds by "
        f"{100 * spreads['fp32_median_ms']:.0f} %.",
        "",
        _source(result),
    ]


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"


def _source(result: dict[str, Any]) -> str:
    machine = result["machine"]
    flags = ", ".join(f for f in machine["flags"] if "vnni" in f or f in ("avx2", "avx512f", "amx_int8"))
    note = f"{result['note']}; " if "note" in result else ""
    used = {k: machine["versions"][k] for k in ("openvino", "nncf", "torch") if k in machine["versions"]}
    return (
        f"{machine['cpu']}, {machine['logical_cores']} cores, {flags}; "
        f"{', '.join(f'{k} {v}' for k, v in used.items())}; {note}`{result['command']}`."
    )


def _cpu(result: dict[str, Any]) -> str:
    flags = result["machine"]["flags"]
    kernels = next((k for k in ("amx_int8", "avx512_vnni", "avx_vnni", "avx2") if k in flags), "no avx2")
    return f"{result['machine']['cpu']}, {kernels}"


def _sources(results: Results) -> list[str]:
    return [line for result in results for line in (_source(result), "")][:-1]


def block() -> str:
    """What stands between the README's marks. Machines whose CPU multiplies int8 in one instruction come first."""
    parts: list[str] = []
    for name, table in (
        ("ptq_accuracy", accuracy),
        ("cpu_latency", latency),
        ("ratio_stability", stability),
        ("peers", peers),
        ("scaling", scaling),
        ("tensorrt_engines", engines),
        ("ptq_cost", cost),
    ):
        found = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob(f"{name}-*.json"))]
        found.sort(key=lambda result: not any("vnni" in flag for flag in result["machine"]["flags"]))
        if found:
            parts += [*table(found), ""]
    return "\n".join(parts).rstrip()


def main() -> None:
    """Rewrite the README between its marks."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n{block()}\n{END}{tail}")


if __name__ == "__main__":
    main()
