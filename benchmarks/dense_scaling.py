"""What a dense VAN costs as its image grows: latency and memory of INT8 and FP32 from 512 to 1,024 pixels a side.

In: nothing; weights are random (seed 0) and so are the images that set INT8's ranges: the times are a dense VAN's. Out:
a table and a JSON with the fits of ``scaling.py``, over megapixels. All sizes of a head take turns in one run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import arguments, write_result
from scaling import fit, memory_of

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.dense.fold import fold_network
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import RunLength, measure_latency

SIZES_PX = (512, 640, 768, 896, 1024)
CLASSES = {"semantic_fpn": 150, "upernet": 150, "light_ham": 150, "retinanet": 80, "simple_baseline": 17}


def main() -> None:
    """Build, time, weigh, fit, print, write."""
    parser = arguments(__doc__ or "", train=False, test=False, size=512, samples=2)
    parser.add_argument("--heads", nargs="*", default=["semantic_fpn"], choices=list(KINDS))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES_PX), help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--max-seconds", type=float, default=120.0, help="of each head's run")
    args = parser.parse_args()
    write_result(args, {"variant": "b0", "heads": [measured(head, args) for head in args.heads]})


def measured(head: str, args: Any) -> dict[str, Any]:
    """One head at every size."""
    points, files = [], {}
    with tempfile.TemporaryDirectory() as name:
        for size in args.sizes:
            print(f"building {head} at {size} px", flush=True)
            files |= {(size, p): path for p, path in build(head, size, args.samples, Path(name)).items()}
        models = [ModelFile(f"{precision}-{size}", "openvino", path) for (size, precision), path in files.items()]
        length = RunLength(args.rounds, max_seconds=args.max_seconds)
        rows = measure_latency(models, baseline=models[0].name, length=length).rows
        median_ms = {key: row.median_ms for key, row in zip(files, rows, strict=True)}
        for (size, precision), path in files.items():
            memory = memory_of(path)
            points.append(
                {"size_px": size, "precision": precision, "median_ms": median_ms[size, precision], "memory": memory}
            )
            print(
                f"{head} {size} px {precision}: {median_ms[size, precision]:.1f} ms, {memory.peak_mib:.0f} MiB",
                flush=True,
            )
    fits = {}
    for precision in ("fp32", "int8"):
        own = [p for p in points if p["precision"] == precision]
        fits[precision] = fit([p["size_px"] ** 2 / 1e6 for p in own], [p["median_ms"] for p in own])
        f = fits[precision]
        print(f"{head} {precision}: exponent {f.exponent:.3f} ({f.exponent_low:.3f} to {f.exponent_high:.3f})")
    return {"head": head, "points": points, "fits": fits}


def build(head: str, size: int, samples: int, folder: Path) -> dict[str, Path]:
    """Both IRs."""
    torch.manual_seed(0)
    spec = InputSpec(size=(size, size))
    folded, _ = fold_network(DenseVAN(head, "b0", CLASSES[head]).eval(), spec.size)
    batches = [torch.randn(1, 3, size, size) for _ in range(samples)]
    equalized = equalize(folded, batches)
    quantized = convert(calibrate(equalized, batches, SCHEMES["openvino"]))
    files = {}
    for name, model in (("fp32", equalized), ("int8", quantized)):
        onnx = export_onnx(model, folder / f"{name}-{size}.onnx", batches[0])
        files[name] = export_openvino(onnx, spec, folder / f"{name}-{size}.xml")
        onnx.unlink()
    return files


if __name__ == "__main__":
    main()
