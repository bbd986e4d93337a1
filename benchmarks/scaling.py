"""What a VAN costs as it or its input grows: latency and memory of b0 to b6, and of b0 over many input sizes.

In: nothing; weights are random (seed 0) and so are the images that set INT8's ranges, so the logits mean nothing and
the times are a VAN's. Out: a table and a JSON with every sample, the fits below, and what a fresh process holds. All
sizes take turns in one run, and so do all variants: a machine whose speed drifts falls on all of a fit's points alike.

The claim it stands beside: a large kernel attention costs F(K, d) = P(K, d) H W multiplications, linear in the pixels
(Guo et al., "Visual Attention Network", section 3.1), where self-attention's cost grows with their square. Time is
fitted to the pixels twice: its exponent (1: linear) as the slope of log ms over log pixels, with a 95 % interval, and
ms = a + b * megapixels.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, write_result

from edge_van.bundle.records import Latency
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.complexity import variant_table
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.model.variants import VARIANTS
from edge_van.progress import Terminal
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.scheme import get_scheme
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import RunLength, measure_latency

SIZES_PX = (128, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896)
INT8_VARIANTS = ("b0", "b1", "b2")
"""Those whose quantisation takes a minute or two; the larger ones would take most of the run."""
MEMORY_RUNS = 3
MEMORY_PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from edge_van.runtimes import open_model

def kib(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])

import openvino
before = kib("VmHWM:")
with open_model("openvino", Path(sys.argv[1])) as session:
    [info] = session.inputs
    for _ in range(int(sys.argv[2])):
        session.run({info.name: np.zeros(info.shape, info.dtype)})
    print(json.dumps({"before": before, "peak": kib("VmHWM:"), "running": kib("VmRSS:")}))
"""
"""Run in a process of its own, so that nothing else's memory is in it. VmHWM is the peak of this program alone: the
peak that wait4 reports (ru_maxrss) is inherited from the process that started it."""


@dataclass(frozen=True)
class Memory:
    """Resident MiB of a process that opens one model and runs it: with OpenVINO imported, at most, while running."""

    imported_mib: float
    peak_mib: float
    running_mib: float


@dataclass(frozen=True)
class Point:
    """One variant at one size: its cost counted, and measured by precision ("fp32", "int8")."""

    variant: str
    size_px: int
    gmacs: float
    params_m: float
    file_mib: dict[str, float]
    memory: dict[str, Memory]
    median_ms: dict[str, float]


@dataclass(frozen=True)
class Fit:
    """Least squares over ``points`` points: log ms = c + exponent * log x, and ms = intercept + slope * x."""

    points: int
    exponent: float
    exponent_low: float
    exponent_high: float
    intercept_ms: float
    slope_ms: float  # per unit of x
    r_squared: float


def main() -> None:
    """Measure every point, fit, print, write."""
    parser = arguments(__doc__ or "", train=False, test=False, size=224, samples=4)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), help="at --size")
    parser.add_argument("--int8-variants", nargs="*", default=list(INT8_VARIANTS))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES_PX), help="pixels, of --sizes-of")
    parser.add_argument("--sizes-of", default="b0")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--max-seconds", type=float, default=300.0, help="of each run, once 100 rounds are done")
    args = parser.parse_args()
    variants = [(name, args.size, name in args.int8_variants) for name in args.variants]
    sizes = [(args.sizes_of, size, True) for size in sorted(args.sizes)]
    by_size, size_latency = measured(sizes, args)
    by_variant, variant_latency = measured(variants, args)
    fits = {
        "over_megapixels": fits_of(by_size, [p.size_px**2 / 1e6 for p in by_size]),
        "over_gmacs": fits_of(by_variant, [p.gmacs for p in by_variant]),
    }
    for over, found in fits.items():
        for precision, f in found.items():
            print(
                f"{precision} {over}: exponent {f.exponent:.3f} ({f.exponent_low:.3f} to {f.exponent_high:.3f}); "
                f"ms = {f.intercept_ms:.2f} + {f.slope_ms:.2f} x, R2 {f.r_squared:.4f}, {f.points} points"
            )
    latency = {"by_variant": variant_latency, "by_size": size_latency}
    content = {"sizes_of": args.sizes_of, "by_variant": by_variant, "by_size": by_size, "fits": fits}
    write_result(args, {**content, "latency": latency})


def build(variant: str, size: int, samples: int, folder: Path, *, with_int8: bool) -> dict[str, Path]:
    """``fp32`` and, where asked for, ``int8`` IRs of a VAN with random weights."""
    spec = InputSpec(size=(size, size))
    torch.manual_seed(0)
    folded = fold(VAN(variant).eval(), spec.size)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (samples, size, size, 3), dtype=np.uint8)
    images = CalibrationImages(pixels, spec, batch=1)  # at 896 px the observers' histograms of more take gigabytes
    files = {"fp32": _export(folded, images, spec, folder / "fp32")}
    if with_int8:
        recipe = load_recipe()
        equalized = equalize(folded, images, strength=recipe.equalize_strength)
        quantized = post_training_quantize(equalized, images, get_scheme(recipe.openvino_scheme))
        files["int8"] = _export(quantized, images, spec, folder / "int8")
    return files


def _export(model: Any, images: CalibrationImages, spec: InputSpec, stem: Path) -> Path:
    """The IR alone stays on the disk."""
    onnx = export_onnx(model, stem.with_suffix(".onnx"), images[0])
    path = export_openvino(onnx, replace(spec, source_size=None), stem.with_suffix(".xml"))
    onnx.unlink()
    return path


def measured(jobs: Sequence[tuple[str, int, bool]], args: Any) -> tuple[list[Point], Latency | None]:
    """Every (variant, pixels, whether INT8 too): built, timed in turns with the others, loaded in a fresh process."""
    if not jobs:
        return [], None
    with tempfile.TemporaryDirectory() as name:  # 3 GB of b0 to b6
        files: dict[tuple[str, int, str], Path] = {}
        for variant, size, with_int8 in jobs:
            print(f"building {variant} at {size} px", flush=True)
            folder = Path(name) / f"{variant}-{size}"
            folder.mkdir()
            built = build(variant, size, args.samples, folder, with_int8=with_int8)
            files |= {(variant, size, precision): path for precision, path in built.items()}
        candidates = [ModelFile("-".join(map(str, key)), "openvino", path) for key, path in files.items()]
        with Terminal().stage(f"Timing {len(candidates)} models in turns", args.rounds) as advance:
            latency = measure_latency(
                candidates,
                baseline=candidates[0].name,
                length=RunLength(args.rounds, max_seconds=args.max_seconds),
                progress=advance,
            )
        medians_ms = {key: row.median_ms for key, row in zip(files, latency.rows, strict=True)}
        points = []
        for variant, size, _ in jobs:
            own = {key[2]: key for key in files if key[:2] == (variant, size)}
            [counted] = variant_table([variant], (size, size))
            point = Point(
                variant=variant,
                size_px=size,
                gmacs=counted.macs / 1e9,
                params_m=counted.params / 1e6,
                file_mib={p: files[key].with_suffix(".bin").stat().st_size / 2**20 for p, key in own.items()},
                memory={p: memory_of(files[key]) for p, key in own.items()},
                median_ms={p: medians_ms[key] for p, key in own.items()},
            )
            points.append(point)
            print(line(point), flush=True)
    return points, latency


def memory_of(path: Path) -> Memory:
    """Run ``MEMORY_PROGRAM`` on an IR."""
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(path), str(MEMORY_RUNS)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    kib = json.loads(printed)
    return Memory(kib["before"] / 1024, kib["peak"] / 1024, kib["running"] / 1024)


def fits_of(points: Sequence[Point], x: Sequence[float]) -> dict[str, Fit]:
    """By precision, over the points that have it; none where fewer than three have."""
    found = {}
    for precision in ("fp32", "int8"):
        pairs = [(a, ms) for a, p in zip(x, points, strict=True) if (ms := p.median_ms.get(precision))]
        if len(pairs) >= 3:
            found[precision] = fit([a for a, _ in pairs], [ms for _, ms in pairs])
    return found


def fit(x: Sequence[float], ms: Sequence[float]) -> Fit:
    """``scipy.stats.linregress`` of both forms; the interval is Student's, n - 2 degrees of freedom."""
    from scipy.stats import linregress, t

    logs = linregress(np.log(x), np.log(ms))
    reach = float(t.ppf(0.975, len(x) - 2)) * float(logs.stderr)
    straight = linregress(x, ms)
    exponent = float(logs.slope)
    return Fit(
        points=len(x),
        exponent=exponent,
        exponent_low=exponent - reach,
        exponent_high=exponent + reach,
        intercept_ms=float(straight.intercept),
        slope_ms=float(straight.slope),
        r_squared=float(straight.rvalue) ** 2,
    )


def line(point: Point) -> str:
    """A line of the table; ``nan`` where there is no INT8."""
    fp32, int8 = (point.median_ms.get(p, math.nan) for p in ("fp32", "int8"))
    peaks = ", ".join(f"{name} {m.peak_mib:.0f}" for name, m in point.memory.items())
    files = ", ".join(f"{name} {size:.1f}" for name, size in point.file_mib.items())
    return (
        f"{point.variant} {point.size_px:4d} px  {point.gmacs:6.2f} GMACs  fp32 {fp32:8.2f} ms  int8 {int8:8.2f} ms  "
        f"{fp32 / point.gmacs:5.2f} ms/GMAC  peak MiB {peaks}  file MiB {files}"
    )


if __name__ == "__main__":
    sys.exit(main())
