"""Time and peak memory of post-training quantisation with both exports, and where validation's time goes.

In: training and test images. Out: a JSON. Runs the real ``edge-van quantize`` as a process of its own and reads its
peak resident memory from the operating system.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, write_result


def main() -> None:
    """Run quantize on the demo checkpoint with a small validation set, then validate on all test images."""
    parser = arguments(__doc__ or "")
    args = parser.parse_args()
    tool = [sys.executable, "-m", "edge_van"]
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "bundle"
        command = [
            *tool,
            "quantize",
            "--variant",
            "b0",
            "--calibration",
            str(args.train),
            "--samples",
            str(args.samples),
            "--input-size",
            str(args.size),
        ]
        start = time.perf_counter()
        made = subprocess.run([*command, "--output", str(bundle), "--json"], check=True, capture_output=True)
        quantize_s = time.perf_counter() - start
        quantize_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        manifest = json.loads(made.stdout)
        accuracy = manifest["accuracy"]
        start = time.perf_counter()
        checked = subprocess.run(
            [*tool, "validate", str(bundle), "--data", str(args.test), "--json"], check=True, capture_output=True
        )
        validate_s = time.perf_counter() - start
    validation = json.loads(checked.stdout)
    latency_s = sum(sum(row["samples_ms"]) for row in manifest["latency"]["rows"]) / 1e3
    passes = [accuracy, *(s["accuracy"] for s in manifest["schemes"] if s["accuracy"] is not None)][:2]
    # TensorRT's graphs are measured in one pass, so the first of them stands for all
    measuring_s = sum(a["images"] / a["images_per_s"] for a in passes) + latency_s
    content = {
        "quantize_s": quantize_s,
        # less the inferences of validation and of the latency table, not their compiling and statistics
        "quantize_without_measuring_s": quantize_s - measuring_s,
        "quantize_peak_gib": quantize_gib,
        "validate_s": validate_s,
        "validation": {k: v for k, v in validation.items() if k != "classes"},
    }
    print(json.dumps(content, indent=1))
    write_result(args, content)


if __name__ == "__main__":
    sys.exit(main())
