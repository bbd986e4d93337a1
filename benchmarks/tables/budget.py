"""The tables of ``ptq_choices.py``, ``calibration_samples.py``, ``budgets.py`` and ``sensitivity_halves.py``.

In: their results. Out: lines of Markdown.
"""

from __future__ import annotations

from typing import Any

from tables.common import Results, source

MOST_PLACES = 12
SAME_STRUCTURE = (
    *("equalisation 0.25", "equalisation 0.75", "equalisation 1", "ranges of all that was seen", "7-bit weights"),
    *("biases corrected in sequence", "ranges by the output's error", "reconstruction"),
)
"""Choices that change numbers alone."""


def choices(results: Results) -> list[str]:
    """One thing changed at a time."""
    lines = ["## Post-training choices", "", "One thing at a time is changed from what ships for OpenVINO.", ""]
    for result in results:
        lines += [
            f"{_network(result)}, {result['test_images']:,} test images, FP32 top-1 "
            f"{result['fp32_top1_percent']:.2f} %, {result['calibration_images']} calibration images:",
            "",
            "| changed | logit SQNR dB | agreement % | drop in points (95 % interval) | made in s | speed |",
            "|---|---|---|---|---|---|",
        ]
        for r in result["rows"]:
            speed = f"{r['ratio']:.2f} ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})"
            cells = (r["choice"], f"{r['logit_sqnr_db']:.1f}", f"{r['agreement_percent']:.2f}", _drop(r))
            lines.append(f"| {' | '.join(cells)} | {r['made_in_s']:.0f} | {speed} |")
        apart = max(abs(r["ratio"] - 1.0) for r in result["rows"] if r["choice"] in SAME_STRUCTURE)
        lines += [
            "",
            f"Speed: times as fast as what ships, in one interleaved run. Models of the same operators were up to "
            f"{100 * apart:.0f} % apart in it, by where their memory lies: less than that is no difference.",
            "",
            source(result),
            "",
        ]
    return lines[:-1]


def samples(results: Results) -> list[str]:
    """Mean and standard deviation over the draws."""
    lines = [
        "## Calibration images",
        "",
        "How many are enough: means over five draws, and their standard deviation.",
        "",
    ]
    for result in results:
        lines += [
            f"{_network(result)}, {result['test_images']:,} test images, FP32 top-1 "
            f"{result['fp32_top1_percent']:.2f} %:",
            "",
            "| images | logit SQNR dB | agreement % | drop in points | lowest to highest drop |",
            "|---|---|---|---|---|",
        ]
        for row in result["summary"]:
            cells = [_spread(row[name], digits) for name, digits in (("logit_sqnr_db", 1), ("agreement_percent", 2))]
            drop = row["drop_points"]
            ends = f"{drop['lowest']:+.2f} to {drop['highest']:+.2f}"
            lines.append(f"| {row['images']:,} | {' | '.join(cells)} | {_spread(drop, 2, '+')} | {ends} |")
        lines += ["", source(result), ""]
    return lines[:-1]


def budgets(results: Results) -> list[str]:
    """One table a ladder."""
    lines = ["## Ladders", "", "What `edge-van quantize --max-drop` tried, in its order; bold is what it took.", ""]
    for result in results:
        for name, ladder in result["ladders"].items():
            record, start = ladder["record"], ladder["start"]
            lines += [
                f"{name.capitalize()}, {_network(result)}: `{start['openvino_scheme']}`, {start['activation']}, "
                f"{start['samples']} images, ranges `{start['ranges']}`; at most "
                f"{record['budget']['max_drop_points']:g} points.",
                "",
                "| rung | drop in points (95 % interval) | logit SQNR dB | ms | times FP32 | made and measured in s |",
                "|---|---|---|---|---|---|",
            ]
            lines += [_rung(r, taken=i == record["chosen"]) for i, r in enumerate(record["rungs"])]
            lines += ["", f"{record['reason'][:1].upper()}{record['reason'][1:]}.", ""]
        lines += [source(result), ""]
    return lines[:-1]


def sensitivity(results: Results) -> list[str]:
    """By part, and the places that cost most."""
    lines = [
        "## Which layers cost",
        "",
        "Logit SQNR, mean of the images' own, with one place quantised alone, and what leaving it out gains.",
        "",
    ]
    for result in results:
        alike = next(value for key, value in result.items() if key.startswith("of_the_first_"))
        lines += [
            f"`{result['checkpoint']}`, scheme `{result['scheme']}`, {result['images']:,} images. All quantised "
            f"{result['logit_sqnr_db']:.1f} dB of all images together, by which parts are summed, and "
            f"{result['image_sqnr_db']:.1f} dB in their mean. Two halves rank the places with a correlation of "
            f"{result['rank_correlation']:.3f}; of the first 20 they share {alike}.",
            "",
            "| part | places | share of the noise % | SQNR dB of these alone |",
            "|---|---|---|---|",
            *(
                f"| {p['name']} | {p['places']} | {p['share_percent']:.1f} | {p['sqnr_db']:.1f} |"
                for p in result["parts"]
            ),
            "",
            "| place | SQNR dB, only it | by either half | gain dB without it |",
            "|---|---|---|---|",
            *(
                f"| `{p['place']}` | {p['only_image_sqnr_db']:.1f} | "
                f"{p['halves_db'][0]:.1f}, {p['halves_db'][1]:.1f} | {p['gain_db']:+.2f} |"
                for p in result["places"][:MOST_PLACES]
            ),
            "",
            source(result),
            "",
        ]
    return lines[:-1]


def _network(result: dict[str, Any]) -> str:
    return f"`{result['checkpoint']}`" if "checkpoint" in result else "The demo (CIFAR-10)"


def _drop(row: dict[str, Any]) -> str:
    return f"{row['drop_points']:+.2f} ({row['drop_low']:+.2f} to {row['drop_high']:+.2f})"


def _spread(figure: dict[str, float], digits: int, sign: str = "") -> str:
    return f"{figure['mean']:{sign}.{digits}f} ± {figure['stdev']:.{digits}f}"


def _rung(rung: dict[str, Any], *, taken: bool) -> str:
    ends, speeds = rung["drop_interval"], rung["speedup_interval"]
    cells = (
        f"**{rung['name']}**" if taken else rung["name"],
        f"{rung['drop_points']:+.2f} ({ends['low']:+.2f} to {ends['high']:+.2f})",
        f"{rung['logit_sqnr_db']:.1f}",
        f"{rung['median_ms']:.2f}",
        f"{rung['speedup']:.2f} ({speeds['low']:.2f} to {speeds['high']:.2f})",
        f"{rung['seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"
