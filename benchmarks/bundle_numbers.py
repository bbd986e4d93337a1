"""Accuracy and latency of one and the same model: what ``edge-van quantize`` measured of a bundle, as a result.

In: a bundle. Out: a JSON of what its manifest says. The figures are of the machine that made the bundle.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import RESULTS, results_folder, write_result

import edge_van


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    manifest = edge_van.open_bundle(args.bundle).manifest
    accuracy, latency = manifest.accuracy, manifest.latency
    if accuracy is None or latency is None:
        raise SystemExit(f"{args.bundle} has no accuracy or no latency: make it with the target openvino")
    height, width = manifest.input_spec.size
    content: dict[str, Any] = {
        "machine": manifest.machine,  # whatever this one is
        "variant": manifest.variant,
        "checkpoint": manifest.checkpoint,
        "classes": manifest.num_classes,
        "size_px": [height, width],
        "method": manifest.method,
        "activation": manifest.recipe.activation,
        "activation_places": manifest.recipe.activation_places,
        "calibration_images": manifest.calibration.images,
        "accuracy": {key: value for key, value in asdict(accuracy).items() if key != "classes"},
        "latency": asdict(latency),
    }
    interval = accuracy.drop_interval
    fp32, int8 = accuracy.fp32_percent, accuracy.int8_percent
    print(
        f"{manifest.checkpoint}: top-1 FP32 {fp32:.2f} %, INT8 {int8:.2f} % "
        f"(drop {accuracy.drop_points:+.2f}, {interval.low:+.2f} to {interval.high:+.2f}) of {accuracy.images:,}"
    )
    for row in latency.rows:
        print(
            f"{row.name:6s} {row.median_ms:7.2f} ms  {row.ratio:.2f} ({row.ratio_interval.low:.2f} to "
            f"{row.ratio_interval.high:.2f})"
        )
    activation = "" if manifest.recipe.activation == "gelu" else f"-{manifest.recipe.activation}"
    write_result(args, content, f"{width}px-{manifest.checkpoint.partition('.')[0]}{activation}")


if __name__ == "__main__":
    sys.exit(main())
