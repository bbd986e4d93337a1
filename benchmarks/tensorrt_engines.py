"""What can be proved of TensorRT without a GPU: every graph's accuracy, engines, the datatype of every convolution.

In: training and test images. Out: a table and a JSON. The demo (b0) in all four schemes, and b1 and b2 with random
weights in the INT8 ones, are built by TensorRT for RTX, ahead of time, one engine a card; accuracy is ONNX Runtime's,
computed as the graphs are written, and once more with every tensor between two operators rounded to float16, which ONNX
Runtime leaves in float32. Two builds of one graph with one timing cache are compared byte by byte.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, calibration, demo, write_result
from numpy.typing import NDArray
from torch.fx import GraphModule

from edge_van.bundle.engine_record import EngineRecord
from edge_van.bundle.layout import PLAN_NAME
from edge_van.bundle.recipe import Recipe
from edge_van.engines.tensorrt import BuildOptions, build_engine
from edge_van.evaluation.schemes import DeviceImages, measure_schemes
from edge_van.export.float16_range import float16_logits, largest_activation
from edge_van.export.job import ExportJob, take_probe
from edge_van.head import Head
from edge_van.images.sets import ImageSet, open_images
from edge_van.images.stream import stream
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.pipeline import export_files
from edge_van.progress import Terminal, Work
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import prepare
from edge_van.quantization.scheme import get_scheme
from edge_van.runtimes.image_model import ImageModel, open_image_model
from edge_van.runtimes.model_file import exact_graph
from edge_van.statistics import paired_drop_interval, sqnr_db

BATCH = 20
CARDS = ("8.6", "8.9", "12.0")
RANDOM_VARIANTS = ("b1", "b2")


def build(onnx: Path, scheme: str, card: str, folder: Path, cache: Path | None = None) -> EngineRecord:
    """One engine for one card in a new folder."""
    place = folder / f"{onnx.parent.parent.name}-{scheme}-{card}-{len(list(folder.iterdir()))}"
    place.mkdir()
    return build_engine(onnx, place, scheme, BuildOptions("tensorrt_rtx", (card,), timing_cache=cache))


def row(variant: str, record: EngineRecord) -> dict[str, Any]:
    """What the table shows of an engine."""
    kinds = Counter((layer.scheme, layer.runs_in) for layer in record.layers)
    found = {f"{asked} in {runs_in}": count for (asked, runs_in), count in sorted(kinds.items())}
    print(
        f"{variant} {record.scheme:15s} {record.compute_capabilities[0]:>5s}  {found}  {record.plan_bytes / 1e6:.1f} MB"
    )
    return {
        "variant": variant,
        "scheme": record.scheme,
        "compute_capability": record.compute_capabilities[0],
        "version": record.version,
        "layers": found,
        "plan_bytes": record.plan_bytes,
        "build_s": record.build_s,
    }


def rounded(
    folded: FoldedVAN, images: CalibrationImages, test: ImageSet, spec: InputSpec, recipe: Recipe, reporter: Terminal
) -> list[dict[str, Any]]:
    """Accuracy of the float16 graphs on all test images with float16 between any two operators."""
    equalized = equalize(folded, images, strength=recipe.equalize_strength)
    calibrated = calibrate(equalized, images, get_scheme("int8"))
    networks: dict[str, FoldedVAN | GraphModule] = {
        name: convert(calibrated, get_scheme(name)).graph for name in recipe.tensorrt_schemes
    }
    networks["fp16"] = folded
    largest = largest_activation(folded, images)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ("fp32", *networks)}
    labels = []
    with reporter.stage("Rounding to float16", len(test)) as advance, torch.no_grad():
        for batch in stream(test, spec, batch_size=BATCH):
            normalized = images.normalized(batch.images)
            found["fp32"].append(folded(normalized).numpy())
            for name, network in networks.items():
                found[name].append(float16_logits(network, normalized).numpy())
            labels.append(batch.labels)
            advance(len(batch.labels))
    truth = np.concatenate(labels)
    logits = {name: np.concatenate(parts) for name, parts in found.items()}
    rows = []
    for name in networks:
        drop, low, high = paired_drop_interval(logits["fp32"].argmax(1) == truth, logits[name].argmax(1) == truth)
        rows.append(
            {
                "name": name,
                "images": len(truth),
                "top1_percent": 100.0 * float((logits[name].argmax(1) == truth).mean()),
                "drop_points": drop,
                "drop_low": low,
                "drop_high": high,
                "agreement_percent": Head().agreement_percent(logits["fp32"], logits[name]),
                "logit_sqnr_db": sqnr_db(logits["fp32"], logits[name]),
                "largest_activation": largest.value,
            }
        )
        print(rows[-1])
    return rows


def main() -> None:
    """Export, measure, build, compare, print, write."""
    args = arguments(__doc__ or "").parse_args()
    loaded, spec = demo(args.size)
    images = calibration(args.train, spec, args.samples)
    recipe = load_recipe()
    reporter = Terminal()
    engines, accuracy, in_float16 = [], [], []
    with (
        tempfile.TemporaryDirectory() as name,
        open_images(args.test, classes=spec.classes) as test,
    ):
        for variant in ("b0", *RANDOM_VARIANTS):
            root = Path(name) / variant
            root.mkdir()
            torch.manual_seed(0)
            van = loaded.van if variant == "b0" else VAN(variant, len(spec.classes or ())).eval()
            folded, _ = fold(van, spec.size)

            def place(relative: str, root: Path = root) -> Path:
                (root / relative).parent.mkdir(parents=True, exist_ok=True)
                return root / relative

            work = Work(reporter)
            prepared = prepare(folded, images, recipe, work)
            probe = take_probe(test, spec, folded, work)
            job = ExportJob(place, spec, folded, images, probe, work)
            exported = export_files(job, prepared, recipe, ("tensorrt",))
            schemes = exported.schemes
            if variant == "b0":

                def graph(file: str, place: Callable[[str], Path] = place) -> ImageModel:
                    return open_image_model(exact_graph(place(file)), spec, 10, batch=16)

                schemes = measure_schemes(schemes, graph, DeviceImages(test, Head(), len(test)), work).schemes
                for s in schemes:
                    assert s.accuracy is not None
                    accuracy.append(s)
                    drop = s.accuracy.drop_interval
                    a = s.accuracy
                    print(
                        f"{s.name:15s} {s.float_type} {a.images} images, top-1 {a.int8_percent:.2f}, drop "
                        f"{a.drop_points:+.2f} ({drop.low:+.2f} to {drop.high:+.2f}), SQNR {a.logit_sqnr_db:.1f} "
                        f"dB, agreement {a.agreement_percent:.2f} %"
                    )
                in_float16 = rounded(folded, images, test, spec, recipe, reporter)
            else:
                schemes = tuple(s for s in schemes if s.quantized_layers)
            for s in schemes:
                engines += [row(variant, build(place(s.file), s.name, card, Path(name))) for card in CARDS]
        twice = _twice(Path(name))
    print(f"the same engine built again with its timing cache: {twice}")
    write_result(
        args, {"accuracy": accuracy, "float16_accuracy": in_float16, "engines": engines, "same_cache_twice": twice}
    )


def _twice(folder: Path) -> dict[str, Any]:
    """Whether a build is repeatable: the same graph and card, the second time with the first one's timing cache."""
    onnx, cache = folder / "b0" / "onnx" / "model_int8.onnx", folder / "timing.cache"
    first, second = (build(onnx, "int8", CARDS[1], folder, cache) for _ in range(2))
    plans = [path.read_bytes() for path in sorted(folder.glob(f"b0-int8-{CARDS[1]}-*/{PLAN_NAME}"))[-2:]]
    differing = sum(a != b for a, b in zip(*plans, strict=False)) + abs(len(plans[0]) - len(plans[1]))
    return {
        "same_bytes": first.plan_sha256 == second.plan_sha256,
        "differing_bytes": differing,
        "plan_bytes": [first.plan_bytes, second.plan_bytes],
        "timing_cache": [first.timing_cache, second.timing_cache],
        "timing_cache_bytes": cache.stat().st_size if cache.exists() else None,
        "same_layers": first.layers == second.layers,
    }


if __name__ == "__main__":
    sys.exit(main())
