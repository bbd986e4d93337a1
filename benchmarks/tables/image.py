"""The table of ``image_size.py``.

In: its results. Out: lines of Markdown.
"""

from __future__ import annotations

from tables.common import Results, source

LEAST_BYTES = 5e6
"""Smaller packages are in one row together."""


def image(results: Results) -> list[str]:
    """What the CPU image's install steps leave on disk, of the first machine."""
    result = results[0]
    environment, total = result["environment"]["bytes"], result["total"]["bytes"]
    large = [package for package in result["packages"] if package["bytes"] >= LEAST_BYTES]
    rest = environment - sum(package["bytes"] for package in large)
    rows = [
        *((f"`{package['name']}`", package["bytes"]) for package in large),
        ("the rest of edge-van's environment", rest),
        (f"Debian {result['suite']} and {result['python']}", total - environment),
        ("**everything**", total),
        ("everything, gzipped", result["gzip_bytes"]),
    ]
    return [
        "## Container image",
        "",
        "The install steps of [`deploy/docker/cpu/Dockerfile`](../deploy/docker/cpu/Dockerfile) in a bare Debian, with "
        "its own Python in place of the image's. The image itself was not built.",
        "",
        "| part | MB |",
        "|---|---|",
        *(f"| {name} | {size / 1e6:.1f} |" for name, size in rows),
        "",
        source(result),
    ]
