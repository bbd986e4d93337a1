"""What each choice of post-training quantisation is worth: noise, accuracy, the time it takes to make and to run.

In: training and test images (10,000 for the published table). Out: a table and a JSON. One thing at a time is changed
from what ships for OpenVINO, whose kernels on this CPU compute every row; all are timed in turns at the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import arguments, calibration, checkpoint_or_demo, write_result
from ptq_accuracy import compared, in_words, run, test_images
from torch import Tensor
from torch.fx import Interpreter, Node

from edge_van.bundle.recipe import for_reconstruction
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.model.fold import FoldedVAN, fold
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import Calibrated, QuantizedVAN, calibrate, capture, convert
from edge_van.quantization.qat import quantization_aware
from edge_van.quantization.scheme import LAYERS, Scheme, for_openvino, module_path, roles
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import RunLength, measure_latency

STRENGTH = 0.5
LENGTH = RunLength(600, 60.0, max_seconds=300.0)
CORRECTED_ON = 100
"""Images that biases are corrected on: a run of the network over them for each layer."""


@dataclass(frozen=True)
class Start:
    """What every choice starts from."""

    folded: FoldedVAN
    images: CalibrationImages

    def calibrated(self, scheme: Scheme, strength: float = STRENGTH) -> Calibrated:
        return calibrate(equalize(self.folded, self.images, strength=strength), self.images, scheme)


Make = Callable[[Start], QuantizedVAN]


def plain(scheme: Scheme, strength: float = STRENGTH) -> Make:
    return lambda start: convert(start.calibrated(scheme, strength))


def trained(**changes: float) -> Make:
    """By distillation on the calibration images, as the recipe's reconstruction but for ``changes``."""
    settings = replace(for_reconstruction(), **changes)  # type: ignore[arg-type]
    scheme = for_openvino("openvino")
    return lambda start: convert(quantization_aware(start.calibrated(scheme), start.folded, start.images, settings))


class _Means(Interpreter):
    """Runs a graph and keeps the mean of each layer's output, by channel."""

    def __init__(self, graph: Any, wanted: dict[Node, str]) -> None:
        super().__init__(graph)
        self.wanted, self.means = wanted, {}  # type: ignore[var-annotated]

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            self.means[self.wanted[n]] = result.mean([d for d in range(result.dim()) if d != 1])
        return result


@torch.no_grad()
def means(graph: Any, images: Tensor) -> dict[str, Tensor]:
    layers = {node: module_path(node) for node, role in roles(graph) if role in LAYERS}
    kept = _Means(graph, layers)
    kept.run(images)
    return kept.means


@torch.no_grad()
def biases_corrected(start: Start) -> QuantizedVAN:
    """Layer after layer, each from a network whose layers before are corrected (Nagel et al., 2019, section 4.2)."""
    quantized = convert(start.calibrated(for_openvino("openvino")))
    images = start.images.normalized(start.images.pixels[:CORRECTED_ON])
    expected = means(capture(quantized.model), images)
    biases = dict([*quantized.graph.named_parameters(), *quantized.graph.named_buffers()])
    for layer in expected:
        biases[f"{layer}.bias"].add_(expected[layer] - means(quantized.graph, images)[layer])
    return quantized


def choices() -> dict[str, Make]:
    """By what is changed."""
    ours = for_openvino("openvino")

    def left(*places: str) -> Make:
        return plain(replace(ours, left=frozenset(places)))

    blocks = tuple(f"block4.{j}.attn.proj_2" for j in range(2))
    return {
        "as it ships": plain(ours),
        "equalisation 0": plain(ours, 0.0),
        "equalisation 0.25": plain(ours, 0.25),
        "equalisation 0.75": plain(ours, 0.75),
        "equalisation 1": plain(ours, 1.0),
        "ranges of all that was seen": plain(replace(ours, ranges="minmax")),
        "7-bit weights": plain(replace(ours, pairs=False, weight_bits=7)),
        "8-bit weights, for VNNI alone": plain(replace(ours, pairs=False)),
        "gate, residual, LayerNorm inputs in INT8": plain(for_openvino("openvino_fast")),
        "LayerNorms in float": plain(for_openvino("asymmetric")),
        "head in float": left("head"),
        "head and last LayerNorm in float": left("head", "norm4"),
        "first patch embedding in float": left("patch_embed1.proj"),
        "last stage's proj_2 in float": left(*blocks),
        "biases corrected in sequence": biases_corrected,
        "ranges by the output's error": trained(learning_rate=0.0),
        "reconstruction": trained(),
    }


def main() -> None:
    """Make, run, time, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, help="another network than the embedded demo")
    args = parser.parse_args()
    loaded, spec, label = checkpoint_or_demo(args)
    images = calibration(args.train, spec, args.samples)
    pixels, labels = test_images(args.test, spec)
    folded, _ = fold(loaded.van, spec.size)
    check = images.normalized(images.pixels[:8])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ir = export_openvino(export_onnx(folded, folder / "fp32.onnx", check), spec, folder / "fp32.xml")
        reference = run("openvino", ir, pixels, images, "FP32")
        files = {"fp32": ir}
        for number, (choice, make) in enumerate(choices().items()):
            begin = time.perf_counter()
            quantized = make(Start(folded, images))
            seconds = time.perf_counter() - begin
            onnx = export_onnx(quantized, folder / f"{number}.onnx", check)
            files[choice] = export_openvino(onnx, spec, folder / f"{number}.xml")
            worth = compared(reference, run("openvino", files[choice], pixels, images, choice), labels)
            rows.append({"choice": choice, "made_in_s": seconds, **worth})
            print(f"{choice:42s} {seconds:5.0f} s  {in_words(worth)}", flush=True)
        models = [ModelFile(choice, "openvino", path) for choice, path in files.items()]
        latency = measure_latency(models, baseline="as it ships", length=LENGTH)
    for row, timed in zip([{"choice": "fp32"}, *rows], latency.rows, strict=True):
        ends = timed.ratio_interval
        row |= {"median_ms": timed.median_ms, "ratio": timed.ratio, "ratio_low": ends.low, "ratio_high": ends.high}
        print(f"{row['choice']:42s} {timed.median_ms:.3f} ms  {timed.ratio:.3f} ({ends.low:.3f} to {ends.high:.3f})")
    top1 = 100.0 * float((reference.argmax(1) == labels).mean())
    content = {"fp32_top1_percent": top1, "test_images": len(labels), "rounds": latency.rounds, "rows": rows}
    write_result(args, ({"checkpoint": label} if label else {}) | content | {"notes": latency.notes}, label)


if __name__ == "__main__":
    sys.exit(main())
