"""How many calibration images are enough: accuracy of the OpenVINO model for several counts and draws.

In: training and test images (10,000 for the published table). Out: a table and a JSON: top-1's drop, agreement and
logit SQNR of each count and seed, computed by OpenVINO on this CPU. Equalisation and ranges see the same draw.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import arguments, calibration, checkpoint_or_demo, write_result
from ptq_accuracy import compared, in_words, run, test_images

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.model.fold import fold
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import openvino_scheme_of

COUNTS, SEEDS = (16, 64, 300, 1000), (0, 1, 2, 3, 4)
BATCH = 25


def spread(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Mean and standard deviation over the seeds, and the ends."""
    values = [row[name] for row in rows]
    return {"mean": mean(values), "stdev": stdev(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    """Draw, quantise, run, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, help="another network than the embedded demo")
    args = parser.parse_args()
    loaded, spec, label = checkpoint_or_demo(args)
    pixels, labels = test_images(args.test, spec)
    folded, _ = fold(loaded.van, spec.size)
    recipe, rows, summary = load_recipe(), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = {seed: calibration(args.train, spec, max(COUNTS), BATCH, seed) for seed in SEEDS}
        check = drawn[0].normalized(drawn[0].pixels[:8])
        plain = export_openvino(export_onnx(folded, folder / "fp32.onnx", check), spec, folder / "fp32.xml")
        reference = run("openvino", plain, pixels, drawn[0], "FP32")
        for count in COUNTS:
            for seed in SEEDS:
                images = CalibrationImages(drawn[seed].pixels[:count], spec, BATCH)
                equalized = equalize(folded, images, strength=recipe.equalize_strength)
                quantized = post_training_quantize(equalized, images, openvino_scheme_of(recipe))
                onnx = export_onnx(quantized, folder / "int8.onnx", check)
                logits = run("openvino", export_openvino(onnx, spec, folder / "int8.xml"), pixels, images, "INT8")
                worth = compared(reference, logits, labels)
                rows.append({"images": count, "seed": seed, **worth})
                print(f"{count:5d} images, seed {seed}: {in_words(worth)}", flush=True)
            own = [row for row in rows if row["images"] == count]
            figures = ("top1_percent", "drop_points", "agreement_percent", "logit_sqnr_db")
            summary.append({"images": count, "seeds": len(own)} | {name: spread(own, name) for name in figures})
            print(
                f"{count:5d} images: "
                + ", ".join(
                    f"{name} {summary[-1][name]['mean']:.2f} +- {summary[-1][name]['stdev']:.2f}" for name in figures
                ),
                flush=True,
            )
    top1 = 100.0 * float((reference.argmax(1) == labels).mean())
    content = {"fp32_top1_percent": top1, "test_images": len(labels), "summary": summary, "rows": rows}
    write_result(args, ({"checkpoint": label} if label else {}) | content, label)


if __name__ == "__main__":
    sys.exit(main())
