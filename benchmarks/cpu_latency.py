"""OpenVINO on this CPU, interleaved in one run: FP32, BF16 where there is one, NNCF's defaults, and our INT8 schemes.

In: training images. Out: a table, and a JSON with every sample. Every INT8 model is timed with the same uint8 input
as it ships, NNCF's with the float input it has; the FP32 baseline is the folded network with preprocessing inside.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import arguments, calibration, demo, nncf_defaults, write_result

from edge_van.benchmark import Candidate, measure_latency
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.fold import fold
from edge_van.quantize.equalize import equalize
from edge_van.quantize.hardswish import with_hardswish
from edge_van.quantize.ptq import post_training_quantize
from edge_van.quantize.recipe import load_recipe
from edge_van.quantize.scheme import get_scheme
from edge_van.runtimes.openvino import has_bf16

SCHEMES = ("openvino", "asymmetric", "int8")
HARDSWISH_SCHEMES = ("openvino",)  # what the flag makes


def main() -> None:
    """Build, time, print, write."""
    parser = arguments(__doc__ or "", test=False, size=224, samples=100)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    loaded, spec = demo(args.size)
    images = calibration(args.train, spec, args.samples, batch=10)
    folded, _ = fold(loaded.van, spec.size)
    check = images.normalized(images.pixels[:2])
    strength = load_recipe().equalize_strength
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fp32 = export_openvino(export_onnx(folded, folder / "fp32.onnx", check), spec, folder / "fp32.xml")
        candidates = [Candidate("fp32", "openvino", fp32)]
        if has_bf16():
            candidates.append(Candidate("bf16", "openvino", fp32, {"precision": "bf16"}))
        nncf = nncf_defaults(loaded, spec, images, folder)
        candidates.append(Candidate("nncf_defaults", "openvino", nncf))
        for prefix, model in (("", folded), ("hardswish_", with_hardswish(folded))):
            equalized = equalize(model, images, strength=strength)
            for scheme in HARDSWISH_SCHEMES if prefix else SCHEMES:
                quantized = post_training_quantize(equalized, images, get_scheme(scheme))
                onnx = export_onnx(quantized, folder / f"{prefix}{scheme}.onnx", check)
                path = export_openvino(onnx, spec, folder / f"{prefix}{scheme}.xml")
                candidates.append(Candidate(f"{prefix}{scheme}", "openvino", path))
                if has_bf16() and (prefix, scheme) == ("", SCHEMES[0]):  # OpenVINO's own choice there for the rest
                    candidates.append(Candidate(f"{scheme}_bf16", "openvino", path, {"precision": "bf16"}))
                    candidates.append(Candidate("nncf_defaults_bf16", "openvino", nncf, {"precision": "bf16"}))
        latency = measure_latency(candidates, baseline="fp32", rounds=args.rounds, max_seconds=300.0)
        against = measure_latency(candidates[1:], baseline="nncf_defaults", rounds=args.rounds, max_seconds=300.0)
    for title, run in (("fp32", latency), ("nncf_defaults", against)):
        print(f"batch 1, {args.size} px, {run.rounds} interleaved rounds; ratio = {title} time / its time")
        for row in run.rows:
            low, high = row.ratio_interval.low, row.ratio_interval.high
            print(f"  {row.name:24s} {row.median_ms:7.2f} ms  ratio {row.ratio:.3f} ({low:.3f} to {high:.3f})")
    write_result(args, {"latency": latency, "against_nncf_defaults": against})


if __name__ == "__main__":
    sys.exit(main())
