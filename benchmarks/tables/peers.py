"""The tables of ``peers/run.py`` and ``clock.py``.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, ratio, source

DISTURBED = 1.1
"""Where the medians in turns and alone are further apart, the table has both."""


def peers(results: Results) -> list[str]:
    """The table of ``peers/run.py``, one a machine: accuracy and speed of the same checkpoint through every tool."""
    lines: list[str] = []
    for result in results:
        timed, fp32 = result["latency"], next(iter(result["accuracy"].values()), None)
        network = result.get("network", "the demo checkpoint")
        images = (
            "The accuracy was not measured."
            if fp32 is None
            else f"Accuracy: {fp32['images']:,} {_data_set(fp32['data'])} images at {result['size_px']} px (FP32 top-1 "
            f"{fp32['fp32_percent']:.2f} %), {result['calibration_images']} calibration images."
        )
        heads = [f"ms at {t['latency_size_px']} px | against FP32" for t in timed]
        lines += [
            *(() if lines else ("## Peers", "", *_summary(results))),
            f"{_begun(network)} through other tools, as their documentation shows it. {images} " + _timing(result),
            "",
            f"| {' | '.join(('model', 'top-1 %', 'drop in points (95 % interval)', 'logit SQNR dB', *heads))} |",
            f"|---|---|---|---|{'---|---|' * len(timed)}",
        ]
        rows = [{r["name"]: r for r in t["ratios"]["fp32"]} for t in timed]
        for name, how in result["how"].items():
            cells = [how, *_peer_accuracy(result["accuracy"].get(name))]
            for row in (by_name.get(name) for by_name in rows):
                cells += ["-", "-"] if row is None else [_times(row), ratio(row)]
            lines.append(f"| {' | '.join(cells)} |")
        lines += [f"| {u['name']}: {u['reason']} |{' - |' * (3 + 2 * len(timed))}" for u in result["unavailable"]]
        lines += ["", source(result), ""]
    return lines[:-1]


def _begun(network: str) -> str:
    """As a sentence begins: a file's name stays as it is."""
    return f"`{network}`" if "." in network else f"{network[0].upper()}{network[1:]}"


SUMMARISED = {
    "openvino": "INT8",
    "hardswish_early": "hard-swish in stages 1, 2",
    "hardswish": "hard-swish",
    "ort_advised": "ONNX Runtime INT8",
    "torch_compile": "`torch.compile`",
}
"""Of the peers, by name, those of the table before all others: ours, and what is asked about most."""


def _summary(results: Results) -> list[str]:
    """Times as fast as NNCF's defaults, a row for each network and size."""
    lines = [
        "Times as fast as `nncf.quantize` with its defaults on the unfolded network, lowest and highest of the runs in "
        "brackets; each row is one interleaved run of all tools, whose tables follow.",
        "",
        f"| network | px | {' | '.join(SUMMARISED.values())} | CPU |",
        f"|---|---|{'---|' * len(SUMMARISED)}---|",
    ]
    for result in results:
        for timed in result["latency"]:
            rows = {row["name"]: row for row in timed["ratios"].get("nncf_defaults", ())}
            if rows:
                cells = [ratio(rows[name]) if name in rows else "-" for name in SUMMARISED]
                network = result.get("network", "the demo checkpoint")
                cells = [network, str(timed["latency_size_px"]), *cells, result["machine"]["cpu"]]
                lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def clock(results: Results) -> list[str]:
    """The figures of ``clock.py``, one paragraph a machine."""
    lines: list[str] = []
    for result in results:
        found = [
            f"- {c['model']} at {t['latency_size_px']} px {c['ratio']:.3f} ({c['ratio_low']:.3f} to "
            f"{c['ratio_high']:.3f}; without Python's {c['python_ms']:.2f} ms {c['inference_ratio']:.3f})"
            for t in result["latency"]
            for c in t["benchmark_app"]
        ]
        lines += ["## Clock", "", "Our latency over that of OpenVINO's `benchmark_app`, on the same IR:", ""]
        lines += [*found, ""]
        lines += [source(result), ""]
    return lines[:-1]


def _timing(result: dict[str, Any]) -> str:
    timed = result["latency"]
    if not timed:
        return "Latency was not measured in this run."
    return (
        f"Latency: {result['threads']} threads, batch 1, all in turns in one process, {len(timed[0]['runs'])} runs; "
        f"beside it the latency of the model alone, where the two are over a tenth apart. Ratios over 1 are faster."
    )


def _data_set(archive: str) -> str:
    """What the set is called whose archive that is."""
    names = {"cifar10": "CIFAR-10", "tinyimagenet": "Tiny-ImageNet"}
    return next((name for begin, name in names.items() if archive.startswith(begin)), archive)


def _times(row: dict[str, Any]) -> str:
    apart = max(row["in_turns_over_alone"], 1.0 / row["in_turns_over_alone"])
    alone = f", alone {row['alone_ms']:.2f}" if apart > DISTURBED else ""
    return f"{row['median_ms']:.2f}{alone}"


def _peer_accuracy(a: dict[str, Any] | None) -> list[str]:
    if a is None:  # the baseline itself
        return ["-", "-", "-"]
    drop, i = a["drop_points"], a["drop_interval"]
    return [
        f"{a['int8_percent']:.2f}",
        f"{drop:+.2f} ({i['low']:+.2f} to {i['high']:+.2f})",
        f"{a['logit_sqnr_db']:.1f}",
    ]
