"""Time and peak memory of post-training quantisation with both exports, and where validation's time goes.

In: training and test images. Out: a JSON. Runs the real ``edge-van quantize`` as a process of its own, notes when each
of its stages begins, and reads the peak resident memory of each from the operating system. ``--variant`` is a network
of random weights, which has a VAN's times, on the demo's images; nothing is validated then.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

import torch
from common import arguments, write_result

from edge_van.assets import DEMO_VALIDATION, asset
from edge_van.model.van import VAN
from edge_van.model.variants import VARIANTS

MEASURING = ("Measuring accuracy", "Measuring latency", "Measuring the devices' graphs")
"""How stages begin that are no part of making the bundle; they come last."""
STARTING = "starting"


@dataclass(frozen=True)
class Timed:
    """A command's standard output; seconds and peak memory from each line 'stage ...' it prints to the next."""

    printed: bytes
    seconds: dict[str, float]
    peak_gib: dict[str, float]


def peak_gib(process: int) -> float:
    """Most memory that the process held since this was last asked."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak counts from now on
    except OSError:  # it has ended
        return 0.0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


def timed(command: list[str]) -> Timed:
    """Run ``command`` to its end; ``CalledProcessError`` where it fails."""
    began: list[tuple[str, float]] = [(STARTING, time.perf_counter())]
    peaks: dict[str, float] = {}

    def watch(lines: IO[str]) -> None:
        for line in lines:
            sys.stderr.write(line)
            if line.rstrip().endswith(" ..."):
                peaks[began[-1][0]] = max(peak_gib(process.pid), peaks.get(began[-1][0], 0.0))
                began.append((line.rstrip().removesuffix(" ..."), time.perf_counter()))

    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        watcher = Thread(target=watch, args=(process.stderr,))
        watcher.start()
        code = process.wait()
        watcher.join()
        if code:
            raise subprocess.CalledProcessError(code, command)
        output.seek(0)
        printed = output.read()
    ends = [start for _, start in began[1:]] + [time.perf_counter()]
    seconds: dict[str, float] = {}
    for (stage, start), end in zip(began, ends, strict=True):
        seconds[stage] = seconds.get(stage, 0.0) + end - start
    return Timed(printed, seconds, peaks)


def random_network(variant: str, folder: Path) -> list[str]:
    """Flags for a checkpoint of random weights (seed 0), whatever INT8 loses of them."""
    torch.manual_seed(0)
    checkpoint, recipe = folder / f"van_{variant}.pth", folder / "recipe.toml"
    torch.save(VAN(variant, num_classes=10).state_dict(), checkpoint)
    recipe.write_text("max_drop_points = 100\n")
    return ["--checkpoint", str(checkpoint), "--data", str(asset(DEMO_VALIDATION)), "--recipe", str(recipe)]


def main() -> None:
    """Run quantize on the demo checkpoint with a small validation set, then validate on all test images."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--variant", choices=sorted(VARIANTS))
    args = parser.parse_args()
    tool = [sys.executable, "-m", "edge_van"]
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "bundle"
        flags = ["--samples", str(args.samples), "--input-size", str(args.size), "--output", str(bundle), "--json"]
        network = ["--variant", "b0"] if args.variant is None else random_network(args.variant, Path(name))
        quantize = [*tool, "quantize", *network, "--calibration", str(args.train), *flags]
        made = timed(quantize)
        stages = made.seconds
        quantize_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        validate = [*tool, "validate", str(bundle), "--data", str(args.test), "--json"]
        checked = timed(validate) if args.variant is None else Timed(b"{}", {}, {})
    if missing := [begin for begin in MEASURING if not any(stage.startswith(begin) for stage in stages)]:
        raise SystemExit(f"edge-van quantize printed no stage {missing}: mend MEASURING")
    content: dict[str, Any] = {
        "variant": args.variant or "b0",
        "quantize_s": sum(stages.values()),
        "quantize_without_measuring_s": sum(s for stage, s in stages.items() if not stage.startswith(MEASURING)),
        "quantize_stages_s": stages,
        "quantize_peak_gib": max(quantize_gib, *made.peak_gib.values()),  # asking for a stage's forgets the earlier
        "quantize_stages_peak_gib": made.peak_gib,
        "validate_s": sum(checked.seconds.values()),
        "validation": {k: v for k, v in json.loads(checked.printed).items() if k != "classes"},
    }
    print(json.dumps(content, indent=1))
    write_result(args, content, args.variant or "")


if __name__ == "__main__":
    sys.exit(main())
