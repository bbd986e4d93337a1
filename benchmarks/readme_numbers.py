"""Puts the recorded results into the README, between its ``numbers`` marks.

In: ``benchmarks/results/*.json``. Out: README.md with the tables written anew; a figure is never typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from tables import models, peers, scaling, tensorrt

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"
TABLES = (
    ("ptq_accuracy", models.accuracy),
    ("cpu_latency", models.latency),
    ("ratio_stability", scaling.stability),
    ("clock", peers.clock),
    ("peers", peers.peers),
    ("scaling", scaling.scaling),
    ("tensorrt_engines", tensorrt.engines),
    ("ptq_cost", models.cost),
)


def block() -> str:
    """What stands between the README's marks. Machines whose CPU multiplies int8 in one instruction come first."""
    parts: list[str] = []
    for name, table in TABLES:
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
