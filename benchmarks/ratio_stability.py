"""How far the INT8 / FP32 ratio moves from run to run while the machine is made noisy, and how far the times do.

In: a bundle of ``edge-van quantize``. Out: a table, and a JSON with the medians and the ratio of every run. In every
second run other processes work in bursts on every core. The clock, the turns and the repeats are those of
``edge-van benchmark``; before each run both models are also timed naively: one and then the other, for a few seconds
each, every second run of it. One more run has other processes that never stop: there are no undisturbed rounds then,
and its notes have to say so.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, results_folder, write_result
from core_link import CoreLink

from edge_van.bundle.bundle import open_bundle
from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.bundle.records import Interval
from edge_van.runtimes import open_model
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import LEAD_MS, RunLength, measure_latency, query_turn, random_feed

NAIVE_S = 3.0
BURST_S, PAUSE_S = (0.2, 2.0), (0.2, 2.0)
COPIED_FLOATS = 2**22
"""16 MiB: copied, they take the caches and the memory's bandwidth too."""


@dataclass(frozen=True)
class Run:
    """Medians of one run under a noise ("none", "bursts", "steady"), in turns and naively."""

    noise: str
    fp32_median_ms: float
    int8_median_ms: float
    ratio: float
    ratio_interval: Interval
    p10_ratio: float
    """Of the two models' 10th percentiles: the machine at its best."""
    rounds: int
    core_round_trips_us: tuple[float, ...]
    """To the farthest core, before and after, without the noise; empty where ``CoreLink`` reads nothing."""
    notes: tuple[str, ...]
    naive_fp32_median_ms: float
    naive_int8_median_ms: float
    naive_ratio: float


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=662, help="as edge-van benchmark asks for")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a run lasts at least")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    args.size, args.samples = bundle.manifest.input_spec.size[0], bundle.manifest.calibration.images
    bundle.check(FP32_IR, INT8_IR)
    candidates = [ModelFile(n, "openvino", bundle.file(f)) for n, f in (("fp32", FP32_IR), ("int8", INT8_IR))]
    noises = ["bursts" if repeat % 2 else "none" for repeat in range(args.repeats)]
    runs = [measured(candidates, noise, repeat, args) for repeat, noise in enumerate(noises)]
    saturated = measured(candidates, "steady", args.repeats, args)
    keys = ("ratio", "p10_ratio", "fp32_median_ms", "int8_median_ms", "naive_ratio", "naive_fp32_median_ms")
    spreads = {key: spread([getattr(run, key) for run in runs]) for key in keys}
    for key, value in spreads.items():
        print(f"{key}: largest minus smallest over the median, {100 * value:.1f} %")
    middle = float(np.median([run.ratio for run in runs]))
    holding = sum(run.ratio_interval.low <= middle <= run.ratio_interval.high for run in runs)
    print(f"the intervals of {holding} runs hold the median of all, {middle:.3f}")
    settings = {"repeats": args.repeats, "rounds": args.rounds, "seconds": args.seconds, "naive_seconds": NAIVE_S}
    found = {"runs": runs, "saturated": saturated, "spreads": spreads, "intervals_holding_the_median": holding}
    write_result(args, {**settings, **found})


def measured(candidates: Sequence[ModelFile], noise: str, seed: int, args: argparse.Namespace) -> Run:
    """Both ways under one noise."""
    before = farthest_us()
    with other_work(noise, seed):
        order = candidates if seed // 2 % 2 else candidates[::-1]  # neither is always the one after the other
        naive_ms = {c.name: naive_median_ms(c) for c in order}
        naive_fp32, naive_int8 = naive_ms["fp32"], naive_ms["int8"]
        latency = measure_latency(
            candidates,
            baseline="fp32",
            length=RunLength(args.rounds, args.seconds, 2 * args.seconds),
            seed=seed,
            lead_ms=LEAD_MS,
        )
    fp32, int8 = latency.rows
    run = Run(
        noise=noise,
        fp32_median_ms=fp32.median_ms,
        int8_median_ms=int8.median_ms,
        ratio=int8.ratio,
        ratio_interval=int8.ratio_interval,
        p10_ratio=float(np.percentile(fp32.samples_ms, 10) / np.percentile(int8.samples_ms, 10)),
        rounds=latency.rounds,
        core_round_trips_us=(*before, *farthest_us()),
        notes=latency.notes,
        naive_fp32_median_ms=naive_fp32,
        naive_int8_median_ms=naive_int8,
        naive_ratio=naive_fp32 / naive_int8,
    )
    print(
        f"run {seed + 1:2d}, other work {noise:6s}: FP32 {run.fp32_median_ms:5.2f} ms, INT8 {run.int8_median_ms:5.2f}, "
        f"ratio {run.ratio:.3f} ({run.ratio_interval.low:.3f} to {run.ratio_interval.high:.3f}), of p10 "
        f"{run.p10_ratio:.3f}, {run.rounds} rounds; "
        f"naively {naive_fp32:5.2f} and {naive_int8:5.2f}, {run.naive_ratio:.3f}",
        flush=True,
    )
    return run


def farthest_us() -> tuple[float, ...]:
    """Where the hypervisor has the cores now; one number, or none."""
    with CoreLink() as link:
        return (max(found),) if (found := link.read()) else ()


def naive_median_ms(candidate: ModelFile) -> float:
    """Run after run for ``NAIVE_S``: nothing beside it, nothing thrown away."""
    times = []
    with open_model(candidate.runtime, candidate.path) as session:
        turn = query_turn(session, random_feed(session, np.random.default_rng(0)), 0.0)
        stop = time.perf_counter() + NAIVE_S
        while time.perf_counter() < stop:
            times.append(turn())
    return float(np.median(times))


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    ordered = sorted(values)
    return (ordered[-1] - ordered[0]) / ordered[len(ordered) // 2]


@contextmanager
def other_work(noise: str, seed: int) -> Iterator[None]:
    """One process a core, which works without a stop ("steady") or sleeps in between ("bursts"); none for "none"."""
    children: list[subprocess.Popen[bytes]] = []
    try:
        if noise != "none":
            for core in range(os.cpu_count() or 1):
                arguments = [sys.executable, __file__, "--work", noise, str(100 * seed + core)]
                children.append(subprocess.Popen(arguments, stdout=subprocess.PIPE))
        for child in children:  # importing what this script does is work too, and longer than a burst
            assert child.stdout is not None
            child.stdout.readline()
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def work(noise: str, seed: int) -> None:
    """The child: until it is killed, or its parent is gone."""
    parent = os.getppid()
    generator, floats = random.Random(seed), np.zeros(COPIED_FLOATS, np.float32)
    print("at work", flush=True)
    while os.getppid() == parent:
        stop = time.perf_counter() + generator.uniform(*BURST_S)
        while time.perf_counter() < stop:
            floats.copy()
        if noise == "bursts":
            time.sleep(generator.uniform(*PAUSE_S))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]))
    sys.exit(main())
