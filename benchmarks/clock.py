"""Our clock beside OpenVINO's ``benchmark_app``, on the demo's FP32 and INT8 models: the part of ``peers/run.py`` that
needs no other tool and no test images.

In: training images, to calibrate on. Out: a table, and a JSON with the medians of every pair of runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, calibration, demo, write_result
from peers import app_check, ours


def main() -> None:
    """Build both models at every size, compare, print, write."""
    parser = arguments(__doc__ or "", test=False, samples=50)
    parser.add_argument("--latency-size", type=int, nargs="+", default=[64, 224], help="pixels")
    parser.add_argument("--pairs", type=int, default=12, help="runs of benchmark_app, and as many of ours")
    parser.add_argument("--seconds", type=int, default=1, help="length of each of them")
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    for size in args.latency_size:
        loaded, spec = demo(size)
        images = calibration(args.train, spec, args.samples)
        with tempfile.TemporaryDirectory() as folder:
            irs = ours.build(loaded.van.eval(), spec, images, Path(folder))
            checks = app_check.compare_all({n: irs[n] for n in ours.CLOCKED}, pairs=args.pairs, seconds=args.seconds)
        found.append({"latency_size_px": size, "benchmark_app": checks})
    write_result(args, {"latency": found})


if __name__ == "__main__":
    sys.exit(main())
