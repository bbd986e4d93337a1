"""A classifier called from several threads: what workers of its own bring over taking turns at one.

In: a bundle and images. Out: a table, and a JSON with every repeat. Decoding is inside the times.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, results_folder, write_result

import edge_van
from edge_van.images.sets import open_images


def rate(classify: edge_van.Classifier, images: list[bytes], threads: int, seconds: float) -> float:
    """Images per second of ``threads`` callers, each with the next image as soon as it has an answer."""
    begin, counts = threading.Barrier(threads + 1), [0] * threads
    stop = threading.Event()

    def call(caller: int) -> None:
        begin.wait()
        for image in itertools.islice(itertools.cycle(images), caller, None):
            if stop.is_set():
                return
            classify(image)
            counts[caller] += 1

    with ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(call, caller) for caller in range(threads)]
        begin.wait()
        start = time.perf_counter()
        time.sleep(seconds)
        stop.set()
        for done in calls:
            done.result()
        return sum(counts) / (time.perf_counter() - start)


def main() -> None:
    """Measure every number of callers with every number of workers in turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="images: folder or zip")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8], help="threads")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each repeat")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    bundle = edge_van.open_bundle(args.bundle)
    args.size, args.samples = bundle.manifest.input_spec.size[0], bundle.manifest.calibration.images
    with open_images(args.data, labelled=False) as found:
        images = [found.read(i) for i in range(min(len(found), 200))]
    cases = list(itertools.product(args.callers, args.workers))
    rates: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    generator = np.random.default_rng(0)
    for _ in range(args.repeats):
        for i in generator.permutation(len(cases)):
            callers, workers = cases[i]
            with edge_van.open_classifier(bundle, precision="int8", workers=workers) as classify:
                rate(classify, images, callers, 0.2)  # warm
                rates[cases[i]].append(rate(classify, images, callers, args.seconds))
    rows: list[dict[str, Any]] = []
    for (callers, workers), values in rates.items():
        ratios = [v / one for v, one in zip(values, rates[callers, args.workers[0]], strict=True)]
        rows.append({"callers": callers, "workers": workers, "images_per_s": values, "ratios": ratios})
        print(
            f"{callers} callers, {workers} workers: {statistics.median(values):.0f} images/s, "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times one worker"
        )
    write_result(args, {"repeats": args.repeats, "seconds": args.seconds, "images": len(images), "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
