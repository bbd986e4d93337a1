"""Accuracy of every scheme on the test images: top-1, the drop with its paired interval, agreement, logit SQNR.

In: training and test images (10,000 for the published table). Out: a table and a JSON. Each scheme's Q/DQ graph is
computed exactly, by ONNX Runtime without integer kernels; the models that ship for OpenVINO, and NNCF's defaults on the
unfolded network beside them, are also run by OpenVINO on this CPU, with whatever its kernels do.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, calibration, checkpoint_or_demo, nncf_defaults, write_result
from numpy.typing import NDArray

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.head import Head
from edge_van.images.sets import open_images
from edge_van.images.stream import stream
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.progress import Terminal
from edge_van.quantization.activations import with_activation
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.scheme import get_scheme
from edge_van.runtimes import open_model
from edge_van.statistics import paired_drop_interval, sqnr_db

BATCH = 20
SCHEMES = ("openvino", "openvino_fast", "int8", "int8_pointwise")


def run(runtime: str, path: Path, pixels: NDArray[np.uint8], images: CalibrationImages, title: str) -> NDArray[Any]:
    """(N, classes) logits of all test images; a float input is normalised here, a uint8 one in the graph."""
    options = {"batch": BATCH} if runtime == "openvino" else {"exact": True}
    parts = []
    with open_model(runtime, path, **options) as session, Terminal().stage(title, len(pixels)) as advance:
        [info] = session.inputs
        for start in range(0, len(pixels), BATCH):
            part = pixels[start : start + BATCH]
            feed = part if info.dtype == np.uint8 else images.normalized(part).numpy()
            parts.append(session.run({info.name: np.ascontiguousarray(feed)})[session.outputs[0].name])
            advance(len(part))
    return np.concatenate(parts)


def test_images(path: Path, spec: InputSpec) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, H, W, 3) and (N,) labels, in whole batches."""
    with open_images(path, classes=spec.classes) as test:
        batches = list(stream(test, spec, batch_size=BATCH))
    pixels = np.concatenate([b.images for b in batches])
    labels = np.concatenate([b.labels for b in batches])
    usable = len(pixels) // BATCH * BATCH
    return pixels[:usable], labels[:usable]


def compared(reference: NDArray[Any], logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """What a model's logits are worth beside FP32's."""
    drop, low, high = paired_drop_interval(reference.argmax(1) == labels, logits.argmax(1) == labels)
    return {
        "top1_percent": 100.0 * float((logits.argmax(1) == labels).mean()),
        "drop_points": drop,
        "drop_low": low,
        "drop_high": high,
        "agreement_percent": Head().agreement_percent(reference, logits),
        "logit_sqnr_db": sqnr_db(reference, logits),
    }


def in_words(row: dict[str, Any]) -> str:
    return (
        f"top-1 {row['top1_percent']:.2f}  drop {row['drop_points']:+.2f} ({row['drop_low']:+.2f} to "
        f"{row['drop_high']:+.2f})  agreement {row['agreement_percent']:.2f}  SQNR {row['logit_sqnr_db']:.2f} dB"
    )


def main() -> None:
    """Build, run, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, help="another network than the embedded demo")
    parser.add_argument("--short", action="store_true", help="only what one chooses between, without the reasons")
    args = parser.parse_args()
    loaded, spec, label = checkpoint_or_demo(args)
    images = calibration(args.train, spec, args.samples)
    pixels, labels = test_images(args.test, spec)
    folded, _ = fold(loaded.van, spec.size)
    check = images.normalized(images.pixels[:8])
    recipe = load_recipe()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx = export_onnx(folded, folder / "fp32.onnx", check)
        ir = export_openvino(onnx, spec, folder / "fp32.xml")
        reference = run("openvino", ir, pixels, images, "FP32")
        print(f"FP32 top-1 {100 * (reference.argmax(1) == labels).mean():.2f} % of {len(labels)} images")

        def add(model: str, computed_by: str, logits: NDArray[Any]) -> None:
            worth = compared(reference, logits, labels)
            rows.append({"model": model, "computed_by": computed_by, "images": len(labels), **worth})
            print(f"{model:24s} {computed_by:12s} {in_words(worth)}", flush=True)

        nncf_path = nncf_defaults(loaded, spec, images, folder)
        add("nncf_defaults_unfolded", "openvino", run("openvino", nncf_path, pixels, images, "NNCF defaults"))
        hard, openvino = with_activation(folded, "hardswish"), get_scheme("openvino")
        strength = recipe.equalize_strength
        jobs = [(get_scheme(s), folded, strength, s) for s in SCHEMES]
        jobs += [(openvino, hard, strength, "hardswish_openvino")]
        if not args.short:
            jobs += [(get_scheme(s), folded, 0.0, f"{s}_not_equalised") for s in ("openvino", "int8")]
            # what pairs that fit are worth, and what becomes of those that do not in this CPU's kernels
            jobs += [(replace(openvino, weight_bits=7), folded, strength, "openvino_7bit")]
            jobs += [(replace(openvino, pairs=False), folded, strength, "openvino_8bit")]
        for scheme, model, exponent, title in jobs:
            equalized = equalize(model, images, strength=exponent)
            quantized = post_training_quantize(equalized, images, scheme)
            onnx = export_onnx(quantized, folder / f"{title}.onnx", check)
            add(title, "exact", run("onnxruntime", onnx, pixels, images, title))
            if title != "int8_pointwise":
                ir = export_openvino(onnx, spec, folder / f"{title}.xml")
                add(title, "openvino", run("openvino", ir, pixels, images, f"{title} by OpenVINO"))
    top1 = 100.0 * float((reference.argmax(1) == labels).mean())
    content = {"fp32_top1_percent": top1, "images": len(labels), "rows": rows}
    write_result(args, ({"checkpoint": label} if label else {}) | content, label)


if __name__ == "__main__":
    sys.exit(main())
