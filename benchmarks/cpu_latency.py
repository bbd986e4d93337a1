"""OpenVINO on this CPU, interleaved in one run: FP32, BF16 where there is one, NNCF's defaults, and our INT8 schemes.

In: training images. Out: a table, and a JSON with every sample. Every INT8 model is timed with the same uint8 input
as it ships, NNCF's with the float input it has; the FP32 baseline is the folded network with preprocessing inside.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, calibration, demo, nncf_defaults, write_result

from edge_van.bundle.records import Interval, Latency
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.model.fold import fold
from edge_van.quantization.activations import with_activation
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.scheme import get_scheme
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.openvino import has_bf16
from edge_van.statistics import paired_ratio
from edge_van.timing.latency import RunLength, measure_latency

SCHEMES = ("openvino", "openvino_fast", "int8")
BASELINES = ("fp32", "nncf_defaults")
RUNS = 3
"""Each opens every model anew, so that where its memory happens to lie is not taken for a difference."""
HARDSWISH_SCHEMES = ("openvino",)  # what the flag makes


def main() -> None:
    """Build, time, print, write."""
    parser = arguments(__doc__ or "", test=False, size=224, samples=100)
    parser.add_argument("--rounds", type=int, default=150)
    args = parser.parse_args()
    loaded, spec = demo(args.size)
    images = calibration(args.train, spec, args.samples, batch=10)
    folded, _ = fold(loaded.van, spec.size)
    check = images.normalized(images.pixels[:2])
    strength = load_recipe().equalize_strength
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fp32 = export_openvino(export_onnx(folded, folder / "fp32.onnx", check), spec, folder / "fp32.xml")
        candidates = [ModelFile("fp32", "openvino", fp32)]
        if has_bf16():
            candidates.append(ModelFile("bf16", "openvino", fp32, {"precision": "bf16"}))
        nncf = nncf_defaults(loaded, spec, images, folder)
        candidates.append(ModelFile("nncf_defaults", "openvino", nncf))
        for prefix, model in (("", folded), ("hardswish_", with_activation(folded, "hardswish"))):
            equalized = equalize(model, images, strength=strength)
            for scheme in HARDSWISH_SCHEMES if prefix else SCHEMES:
                quantized = post_training_quantize(equalized, images, get_scheme(scheme))
                onnx = export_onnx(quantized, folder / f"{prefix}{scheme}.onnx", check)
                path = export_openvino(onnx, spec, folder / f"{prefix}{scheme}.xml")
                candidates.append(ModelFile(f"{prefix}{scheme}", "openvino", path))
                if has_bf16() and (prefix, scheme) == ("", SCHEMES[0]):  # OpenVINO's own choice there for the rest
                    candidates.append(ModelFile(f"{scheme}_bf16", "openvino", path, {"precision": "bf16"}))
                    candidates.append(ModelFile("nncf_defaults_bf16", "openvino", nncf, {"precision": "bf16"}))
        runs = [
            measure_latency(
                candidates, baseline=BASELINES[0], length=RunLength(args.rounds, max_seconds=300.0), seed=seed
            )
            for seed in range(RUNS)
        ]
    ratios = {baseline: [ratio(runs, c.name, baseline) for c in candidates] for baseline in BASELINES}
    for baseline, rows in ratios.items():
        print(f"batch 1, {args.size} px, {RUNS} x {args.rounds} interleaved rounds; ratio = {baseline} time / its time")
        for row in rows:
            print(
                f"  {row['name']:24s} {row['median_ms']:7.2f} ms  ratio {row['ratio']:.3f} "
                f"({row['lowest']:.3f} to {row['highest']:.3f})"
            )
    write_result(args, {"runs": runs, "ratios": ratios})


def ratio(runs: list[Latency], name: str, baseline: str) -> dict[str, Any]:
    """The paired ratio over all runs, and the lowest and highest end of the runs' own intervals."""
    base, times = (
        [np.array(row.samples_ms) for run in runs for row in run.rows if row.name == n] for n in (baseline, name)
    )
    intervals = [Interval(*paired_ratio(b, t)[1:]) for b, t in zip(base, times, strict=True)]
    return {
        "name": name,
        "median_ms": float(np.median(np.concatenate(times))),
        "ratio": paired_ratio(np.concatenate(base), np.concatenate(times))[0],
        "lowest": min(interval.low for interval in intervals),
        "highest": max(interval.high for interval in intervals),
    }


if __name__ == "__main__":
    sys.exit(main())
