"""Our clock against OpenVINO's own ``benchmark_app``, on one IR, in alternating short runs.

In: an IR. Out: ``AppCheck``: both medians of every pair of runs, and their ratio.

What each times, both with the latency hint, one request at a time, float32 where the IR is not INT8, and data in
memory: ``benchmark_app -api sync`` reports ``InferRequest.latency``, OpenVINO's own clock around the inference, on an
input that stays in the request (its "inference only" mode). Ours is a Python clock around ``session.run``: the check of
the feed, binding the input array (shared, not copied), the same inference, and the copy of the logits to the caller.
``own_latency_ms`` is ``InferRequest.latency`` in our own runs: what is between it and ours is Python, about a tenth of
a millisecond, which counts where an inference takes one or two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from core_link import CoreLink, is_apart

from edge_van.bundle.records import Interval
from edge_van.runtimes import open_model
from edge_van.statistics import paired_ratio
from edge_van.timing.latency import random_feed

WARM_UP_RUNS = 10
MOST_RETAKEN = 4
AGREES = 0.05
"""How far the two clocks may be apart."""


@dataclass(frozen=True)
class AppCheck:
    """Medians in milliseconds, one a pair of runs; ``ratio`` is the median over the pairs of ours / benchmark_app's."""

    model: str
    pairs: int
    pairs_retaken: int  # because the cores were apart
    seconds_each: int
    ours_ms: tuple[float, ...]
    benchmark_app_ms: tuple[float, ...]
    own_latency_ms: tuple[float, ...]
    ratio: float
    ratio_low: float
    ratio_high: float
    inference_ratio: float  # the same for own_latency_ms / benchmark_app's: without Python
    python_ms: float  # ours minus own_latency_ms
    agrees: bool


def compare_all(irs: Mapping[str, Path], *, pairs: int, seconds: int) -> tuple[AppCheck, ...]:
    """``compare`` of every model by its name, printed as it comes."""
    found = []
    for name, path in irs.items():
        c = compare(name, path, pairs=pairs, seconds=seconds)
        verdict = "agrees" if c.agrees else f"IS MORE THAN {100 * AGREES:.0f} % OFF"
        print(
            f"{c.model:9s} our clock / benchmark_app {c.ratio:.3f} ({c.ratio_low:.3f} to {c.ratio_high:.3f}), without "
            f"Python's {c.python_ms:.3f} ms {c.inference_ratio:.3f}: {verdict}; {c.pairs_retaken} pairs taken again",
            flush=True,
        )
        found.append(c)
    return tuple(found)


def compare(name: str, path: Path, *, pairs: int, seconds: int, seed: int = 0) -> AppCheck:
    """``pairs`` times both, in random order, each for ``seconds``.

    A pair before, between or after which the cores were apart is taken again, up to ``MOST_RETAKEN`` times ``pairs``:
    one of both would have the machine's other speed.
    """
    generator = np.random.default_rng(seed)
    ours: list[float] = []
    app: list[float] = []
    own: list[float] = []
    retaken = 0
    with CoreLink() as link:
        link.read()
        while len(app) < pairs:
            trips_us = [link.read()]
            for which in generator.permutation(2):
                if which:
                    app_ms = benchmark_app_ms(path, seconds)
                else:
                    by_clock, by_request = our_ms(path, seconds, generator)
                trips_us.append(link.read())
            if is_apart(trips_us, link.least_us) and retaken < MOST_RETAKEN * pairs:
                retaken += 1
                continue
            app.append(app_ms)
            ours.append(by_clock)
            own.append(by_request)
    return summary(name, seconds, ours, app, own, retaken)


def summary(
    name: str, seconds: int, ours: list[float], app: list[float], own: list[float], retaken: int = 0
) -> AppCheck:
    """The paired ratio with its 95 % interval, and what Python adds."""
    ratio, *ends = paired_ratio(np.array(ours), np.array(app))
    interval = Interval(*ends)
    return AppCheck(
        model=name,
        pairs=len(ours),
        pairs_retaken=retaken,
        seconds_each=seconds,
        ours_ms=tuple(ours),
        benchmark_app_ms=tuple(app),
        own_latency_ms=tuple(own),
        ratio=ratio,
        ratio_low=interval.low,
        ratio_high=interval.high,
        inference_ratio=float(np.median(np.array(own) / np.array(app))),
        python_ms=float(np.median(np.array(ours) - np.array(own))),
        agrees=abs(ratio - 1.0) <= AGREES,
    )


def our_ms(path: Path, seconds: float, generator: np.random.Generator) -> tuple[float, float]:
    """(median by our clock, median by OpenVINO's) of runs for ``seconds``, opened anew."""
    by_clock, by_request = [], []
    with open_model("openvino", path) as session:
        feed = random_feed(session, generator)
        for _ in range(WARM_UP_RUNS):
            session.run(feed)
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            start = time.perf_counter()
            session.run(feed)
            by_clock.append((time.perf_counter() - start) * 1e3)
            by_request.append(session._request.latency)  # type: ignore[attr-defined]  # OpenVINO's own figure of it
    return float(np.median(by_clock)), float(np.median(by_request))


def benchmark_app_ms(path: Path, seconds: int) -> float:
    """The median of a run of ``benchmark_app``, in milliseconds with two decimals, as it reports it.

    With the latency hint it takes one stream and, like ours, as many threads as OpenVINO finds cores. Raises
    ``RuntimeError`` where it is not installed or fails.
    """
    program = Path(sys.executable).parent / "benchmark_app"
    if not program.is_file():
        raise RuntimeError(f"{program.name} is not beside this Python: pip install openvino brings it")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "-m", path, "-d", "CPU", "-hint", "latency", "-api", "sync", "-infer_precision", "f32"]
        command += ["-t", str(seconds), "-report_type", "no_counters", "-json_stats", "-report_folder", folder]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        if done.returncode:
            raise RuntimeError(f"benchmark_app ended with {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
        report = json.loads((Path(folder) / "benchmark_report.json").read_text())
    return float(report["execution_results"]["latency (ms)"])
