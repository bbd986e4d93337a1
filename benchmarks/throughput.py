"""Images a second of ``edge-van validate`` and ``edge-van predict``, beside those of OpenVINO's ``benchmark_app``.

In: a bundle and images. Out: a table, and a JSON with every repeat. ``benchmark_app`` runs the throughput hint on the
same IR, on an input that stays in memory. Validation runs FP32 and INT8 on each image, so it stands beside the time
that ``benchmark_app`` takes for both; its images are decoded in the same seconds, and so are those of predict. All
take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import RESULTS, results_folder, write_result

import edge_van
from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.evaluation.bundle import ValidateOptions


def app_images_per_s(path: Path, seconds: int) -> float:
    """Of a run with the throughput hint."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sys.executable).parent / "benchmark_app"
        command = [program, "-m", path, "-d", "CPU", "-hint", "throughput", "-infer_precision", "f32"]
        command += ["-t", str(seconds), "-report_type", "no_counters", "-json_stats", "-report_folder", folder]
        subprocess.run(command, capture_output=True, check=True)
        report = json.loads((Path(folder) / "benchmark_report.json").read_text())
    return float(report["execution_results"]["throughput"])


def main() -> None:
    """Take turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="labelled images: folder or zip")
    parser.add_argument("--limit", type=int, default=1000, help="images of a validation")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of each run of benchmark_app")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    bundle = edge_van.open_bundle(args.bundle)
    fp32, int8 = bundle.file(FP32_IR), bundle.file(INT8_IR)

    def both() -> float:
        return 1.0 / sum(1.0 / app_images_per_s(path, args.seconds) for path in (fp32, int8))

    def validate() -> float:
        return edge_van.validate(bundle, args.data, options=ValidateOptions(limit=args.limit)).images_per_s

    def predict() -> float:
        began = time.perf_counter()
        done = edge_van.predict(bundle, args.data, options=edge_van.PredictOptions(precision="int8"))
        return len(done) / (time.perf_counter() - began)

    runs: dict[str, Callable[[], float]] = {
        "benchmark_app, FP32 and INT8": both,
        "validate, FP32 and INT8": validate,
        "benchmark_app, INT8": lambda: app_images_per_s(int8, args.seconds),
        "predict, INT8": predict,
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            found[name].append(run())
    pairs = (("validate, FP32 and INT8", "benchmark_app, FP32 and INT8"), ("predict, INT8", "benchmark_app, INT8"))
    shares: dict[str, list[float]] = {
        ours: [a / b for a, b in zip(found[ours], found[app], strict=True)] for ours, app in pairs
    }
    for name, rates in found.items():
        share = f", {statistics.median(shares[name]):.2f} of benchmark_app's" if name in shares else ""
        print(f"{name:30s} {statistics.median(rates):8.1f} images/s ({min(rates):.1f} to {max(rates):.1f}){share}")
    content: dict[str, Any] = {
        "size_px": list(bundle.manifest.input_spec.size),
        "images_per_s": found,
        "shares": shares,
    }
    write_result(args, content, f"{bundle.manifest.input_spec.size[1]}px")


if __name__ == "__main__":
    sys.exit(main())
