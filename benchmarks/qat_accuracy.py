"""What quantisation-aware training brings back: the same schemes by PTQ and by QAT, on the same test images.

In: a checkpoint, training images (labels are not used) and labelled test images. Out: a table and a JSON. A scheme for
OpenVINO is run by it on this CPU; one for TensorRT is computed exactly, by ONNX Runtime without integer kernels.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import arguments, calibration, write_result
from numpy.typing import NDArray
from ptq_accuracy import compared, in_words, run, test_images

from edge_van.assets import DEMO_CHECKPOINT, asset
from edge_van.bundle.recipe import QATSettings
from edge_van.checkpoint.load import load_checkpoint
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.model.fold import fold
from edge_van.progress import Terminal, Work
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import QATJob, prepare, quantized_graphs
from edge_van.quantization.scheme import for_openvino, get_scheme

TENSORRT = ("int8", "int8_pointwise")


def main() -> None:
    """Quantise, train, run, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, default=asset(DEMO_CHECKPOINT))
    parser.add_argument("--scheme", nargs="+", default=["openvino", "int8"])
    parser.add_argument("--states", type=Path, help="a folder to keep the trainings in, to go on after an interrupt")
    parser.add_argument("--weight-bits", type=int, choices=(4,), help="a stress: what training brings back of them")
    parser.add_argument("--images", type=int, default=QATSettings.images)
    parser.add_argument("--steps", type=int, default=QATSettings.steps)
    parser.add_argument("--learning-rate", type=float, default=QATSettings.learning_rate)
    args = parser.parse_args()
    settings = replace(QATSettings(), images=args.images, steps=args.steps, learning_rate=args.learning_rate)
    loaded = load_checkpoint(args.checkpoint)
    spec = replace(loaded.spec, size=(args.size, args.size))
    pixels, labels = test_images(args.test, spec)
    folded, _ = fold(loaded.van, spec.size)
    images = calibration(args.train, spec, max(args.samples, args.images))
    work = Work(Terminal())
    prepared = prepare(folded, images.first(args.samples), load_recipe(), work)
    states = args.states
    if states is not None:
        states = states / args.checkpoint.name / ("usual" if args.weight_bits is None else f"{args.weight_bits}_bits")
        states.mkdir(parents=True, exist_ok=True)
    key = f"{loaded.sha256} {spec} {settings} {args.samples} {hashlib.sha256(images.pixels.data).hexdigest()}"
    trained = replace(prepared, qat=QATJob(images.first(args.images), settings, states=states, key=key))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check = images.normalized(images.pixels[:8])
        ir = export_openvino(export_onnx(folded, folder / "fp32.onnx", check), spec, folder / "fp32.xml")
        reference = run("openvino", ir, pixels, images, "FP32")
        right = reference.argmax(1) == labels
        print(f"FP32 top-1 {100 * right.mean():.2f} % of {len(labels)} images", flush=True)

        def logits_of(graph: QuantizedVAN) -> NDArray[Any]:
            onnx = export_onnx(graph, folder / "graph.onnx", check)
            if graph.scheme.name in TENSORRT:
                return run("onnxruntime", onnx, pixels, images, graph.scheme.name)
            return run("openvino", export_openvino(onnx, spec, folder / "g.xml"), pixels, images, graph.scheme.name)

        for name in args.scheme:
            scheme = get_scheme(name) if name in TENSORRT else for_openvino(name)
            if args.weight_bits is not None:
                scheme = replace(scheme, weight_bits=args.weight_bits)
            for method, source in (("ptq", prepared), ("qat", trained)):
                start = time.monotonic()
                [graph] = quantized_graphs(source, (scheme,), work)
                seconds = time.monotonic() - start
                if method == "qat" and states is not None:  # of all the runs that it took
                    seconds = _with_earlier_runs(states / f"{scheme.name}.seconds", seconds)
                logits = logits_of(graph)
                worth = compared(reference, logits, labels)
                row = {"scheme": name, "method": method, "weight_bits": scheme.weight_bits, "seconds": seconds}
                rows.append(row | worth)
                print(f"{name:12s} {method}  {in_words(worth)}  {seconds / 60:.1f} min", flush=True)
    content = {
        "checkpoint": args.checkpoint.name,
        "variant": loaded.van.variant.name,
        "classes": loaded.van.num_classes,
        "images": len(labels),
        "fp32_top1_percent": 100.0 * float(right.mean()),
        "qat": asdict(settings),
        "rows": rows,
    }
    bits = [] if args.weight_bits is None else [f"{args.weight_bits}-bit"]
    write_result(args, content, "-".join((args.checkpoint.name.partition(".")[0], *args.scheme, *bits)))


def _with_earlier_runs(file: Path, seconds: float) -> float:
    """A training that goes on after an interrupt took what all its runs took."""
    earlier = float(file.read_text()) if file.is_file() else 0.0
    file.write_text(repr(earlier + seconds))
    return earlier + seconds


if __name__ == "__main__":
    sys.exit(main())
