"""The figure of ``scaling.py``'s result: milliseconds over megapixels with the fitted lines, and over GMACs.

In: the JSON of ``scaling.py``. Out: an SVG beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

COLORS = {"fp32": "#4477aa", "int8": "#cc6677"}  # Tol's, told apart by colour-blind readers too
MARKERS = {"fp32": "o", "int8": "s"}


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    args = parser.parse_args()
    print(f"written: {draw(json.loads(args.result.read_text()), args.result.with_suffix('.svg'))}")


def draw(result: dict[str, Any], path: Path) -> Path:
    """Two panels on logarithmic axes, where a power law is a straight line and its exponent the slope."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # text stays text, and the same figures give the same bytes
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edge-van", "font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        by_size, by_variant = result["by_size"], result["by_variant"]
        _panel(left, by_size, [p["size_px"] ** 2 / 1e6 for p in by_size], result["fits"]["over_megapixels"])
        left.set(xlabel="input, megapixels", title=f"VAN-{result['sizes_of'].upper()} over the input's size")
        _panel(right, by_variant, [p["gmacs"] for p in by_variant], result["fits"]["over_gmacs"])
        right.set(xlabel="GMACs of one image", title=f"variants at {result['size_px']} px")
        for point in by_variant:
            right.annotate(
                point["variant"],
                (point["gmacs"], point["median_ms"]["fp32"]),
                xytext=(4, -11),
                textcoords="offset points",
            )
        figure.savefig(path, metadata={"Date": None})
    return path


def _panel(axes: Any, points: list[dict[str, Any]], x: list[float], fits: dict[str, dict[str, float]]) -> None:
    """Measured medians, and the straight line ms = a + b x, which bends on these axes where a is not 0."""
    for precision, color in COLORS.items():
        pairs = [(a, ms) for a, p in zip(x, points, strict=True) if (ms := p["median_ms"].get(precision))]
        if not pairs:
            continue
        label = precision.upper()
        if (f := fits.get(precision)) is not None:
            grid = np.geomspace(min(a for a, _ in pairs), max(a for a, _ in pairs), 100)
            axes.plot(grid, f["intercept_ms"] + f["slope_ms"] * grid, color=color, linewidth=1, alpha=0.7)
            label += f": exponent {f['exponent']:.2f} ({f['exponent_low']:.2f} to {f['exponent_high']:.2f})"
        axes.plot(*zip(*pairs, strict=True), MARKERS[precision], color=color, markersize=4, label=label)
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log", ylabel="median ms, batch 1")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


if __name__ == "__main__":
    sys.exit(main())
