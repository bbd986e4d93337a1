"""The table of ``fleet.py``.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source


def fleet(results: Results) -> list[str]:
    """What a hundred local homes and twenty pulling devices took, of the first machine."""
    result = results[0]
    fleet, pull = result["fleet"], result["pull"]
    lines = [
        "## Fleets",
        "",
        f"A bundle of {result['bundle_bytes'] / 1e6:.1f} MB to {fleet['hosts']} homes of one machine, "
        f"{fleet['forks']} at a time, and {pull['devices']} devices that pull it, {pull['at_once']} at a time. All of "
        f"them share the machine's cores, also what checks and times the models.",
        "",
        "| | seconds for all | processor seconds a host |",
        "|---|---|---|",
    ]
    for name, words in (("first", "first rollout"), ("again", "again, with everything there")):
        lines.append(f"| {words} | {fleet[f'{name}_s']:.0f} | {fleet[f'{name}_processor_s_a_host']:.2f} |")
    lines += ["", "| | seconds a device | requests | bytes |", "|---|---|---|---|"]
    for name, words in (("new", "pull of a new bundle"), ("nothing_new", "pull with nothing new")):
        row = pull[name]
        lines.append(
            f"| {words} | {row['median_s_a_device']:.2f} | {row['requests_a_device']:.0f} | "
            f"{row['bytes_a_device']:,.0f} |"
        )
    return [*lines, "", source(result)]
