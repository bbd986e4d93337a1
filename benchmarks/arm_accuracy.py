"""What ARM's scheme costs beside the others, and a shorter float: top-1, its drop, agreement, logit SQNR.

In: a checkpoint, training images to calibrate on and labelled test images. Out: a table and a JSON. Every graph is
computed exactly, by ONNX Runtime without integer kernels, on whatever CPU this is.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import arguments, calibration, write_result
from ptq_accuracy import compared, in_words, run, test_images

from edge_van.assets import DEMO_CHECKPOINT, asset
from edge_van.bundle.recipe import ARM_SCHEME_NAME
from edge_van.checkpoint.load import load_checkpoint
from edge_van.export.onnx import export_onnx
from edge_van.export.rounded import SHORTER, write_rounded
from edge_van.model.fold import fold
from edge_van.progress import Terminal, Work
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import prepare, quantized_graphs
from edge_van.quantization.scheme import for_openvino, get_scheme


def main() -> None:
    """Quantise, run, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, default=asset(DEMO_CHECKPOINT))
    args = parser.parse_args()
    loaded = load_checkpoint(args.checkpoint)
    spec = replace(loaded.spec, size=(args.size, args.size))
    pixels, labels = test_images(args.test, spec)
    folded, _ = fold(loaded.van, spec.size)
    images = calibration(args.train, spec, args.samples)
    work = Work(Terminal())
    prepared = prepare(folded, images, load_recipe(), work)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, check = Path(name), images.normalized(images.pixels[:8])
        onnx = export_onnx(folded, folder / "fp32.onnx", check)
        reference = run("onnxruntime", onnx, pixels, images, "FP32")
        top1 = 100.0 * float((reference.argmax(1) == labels).mean())
        print(f"FP32 top-1 {top1:.2f} % of {len(labels)} images", flush=True)
        for kind in SHORTER:
            write_rounded(onnx, folder / "rounded.onnx", kind)
            worth = compared(reference, run("onnxruntime", folder / "rounded.onnx", pixels, images, kind), labels)
            rows.append({"scheme": kind, **worth})
            print(f"{kind:16s} {in_words(worth)}", flush=True)
        for scheme in (get_scheme(ARM_SCHEME_NAME), for_openvino("openvino"), get_scheme("int8_pointwise")):
            [graph] = quantized_graphs(prepared, (scheme,), work)
            onnx = export_onnx(graph, folder / "graph.onnx", check)
            worth = compared(reference, run("onnxruntime", onnx, pixels, images, scheme.name), labels)
            rows.append({"scheme": scheme.name, **worth})
            print(f"{scheme.name:16s} {in_words(worth)}", flush=True)
    about = {"checkpoint": args.checkpoint.name, "variant": loaded.van.variant.name, "classes": loaded.van.num_classes}
    content = {**about, "fp32_top1_percent": top1, "images": len(labels), "rows": rows}
    write_result(args, content, args.checkpoint.name.split(".")[0])


if __name__ == "__main__":
    sys.exit(main())
