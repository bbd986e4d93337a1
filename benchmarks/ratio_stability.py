"""How far the INT8 / FP32 ratio moves from run to run while the machine is made noisy, and how far the times do.

In: a bundle of ``edge-van quantize``. Out: a table, and a JSON with the medians and the ratio of every run. Runs are by
turns on the machine as it is, with other processes that work in bursts on every core, and with others that never stop;
the clock, the turns and the repeats are those of ``edge-van benchmark``.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from common import RESULTS, write_result

from edge_van.benchmark import LEAD_MS, Candidate, measure_latency
from edge_van.bundle import open_bundle
from edge_van.layout import FP32_IR, INT8_IR
from edge_van.records import Latency

NOISES = ("none", "bursts", "steady")
BURST_S, PAUSE_S = (0.2, 2.0), (0.2, 2.0)
COPIED_FLOATS = 2**22
"""16 MiB: copied, they take the caches and the memory's bandwidth too."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    args.size, args.samples = bundle.manifest.input_spec.size[0], bundle.manifest.calibration.images
    bundle.check(FP32_IR, INT8_IR)
    candidates = [Candidate(n, "openvino", bundle.file(f)) for n, f in (("fp32", FP32_IR), ("int8", INT8_IR))]
    runs: list[tuple[str, Latency]] = []
    for repeat, noise in enumerate(islice(cycle(NOISES), args.repeats)):
        with other_work(noise, repeat):
            latency = measure_latency(
                candidates, baseline="fp32", rounds=args.rounds, max_seconds=120.0, seed=repeat, lead_ms=LEAD_MS
            )
        runs.append((noise, latency))
        fp32, int8 = latency.rows
        print(
            f"run {repeat + 1:2d}, other work {noise:6s}: FP32 {fp32.median_ms:6.2f} ms, INT8 "
            f"{int8.median_ms:6.2f} ms, ratio {int8.ratio:.3f} ({int8.ratio_interval.low:.3f} to "
            f"{int8.ratio_interval.high:.3f}), {latency.rounds} rounds",
            flush=True,
        )
    rows = [
        {
            "noise": noise,
            "fp32_median_ms": latency.rows[0].median_ms,
            "fp32_mean_ms": sum(latency.rows[0].samples_ms) / latency.rounds,
            "int8_median_ms": latency.rows[1].median_ms,
            "ratio": latency.rows[1].ratio,
            "rounds": latency.rounds,
            "notes": latency.notes,
        }
        for noise, latency in runs
    ]
    spreads = {key: spread([float(row[key]) for row in rows]) for key in ("ratio", "fp32_median_ms", "int8_median_ms")}
    for key, value in spreads.items():
        print(f"{key}: largest minus smallest over the median, {100 * value:.1f} %")
    write_result(args, {"repeats": args.repeats, "rounds": args.rounds, "runs": rows, "spreads": spreads})


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    ordered = sorted(values)
    return (ordered[-1] - ordered[0]) / ordered[len(ordered) // 2]


@contextmanager
def other_work(noise: str, seed: int) -> Iterator[None]:
    """One process a core, which works without a stop ("steady") or sleeps in between ("bursts"); none for "none"."""
    children = []
    if noise != "none":
        for core in range(os.cpu_count() or 1):
            arguments = [sys.executable, __file__, "--work", noise, str(100 * seed + core)]
            children.append(subprocess.Popen(arguments))
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def work(noise: str, seed: int) -> None:
    """The child: until it is killed."""
    generator, floats = random.Random(seed), np.zeros(COPIED_FLOATS, np.float32)
    while True:
        stop = time.perf_counter() + generator.uniform(*BURST_S)
        while time.perf_counter() < stop:
            floats.copy()
        if noise == "bursts":
            time.sleep(generator.uniform(*PAUSE_S))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]))
    sys.exit(main())
