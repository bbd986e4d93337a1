"""What the graph and the engine's settings are worth in time: each kind of layer in float, each operator in INT8, each
setting, one at a time, in turns with what ships.

In: training images. Out: a table and a JSON. Noise is that of the logits of the calibration images. A kind of layer
whose float is no slower in place than its INT8 would better be float: of each kind, and each stage, that shows. The
bytes that go in stand beside the pixels' normalisation and layout: a model that takes them as floats in NCHW has
neither.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, calibration, network, write_result
from numpy.typing import NDArray

from edge_van.errors import VerificationError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.model.fold import fold
from edge_van.progress import Terminal
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import Calibrated, calibrate, convert, post_training_quantize
from edge_van.quantization.scheme import DEPTHWISE, LAYERS, Role, Scheme, for_openvino, place_of, roles
from edge_van.runtimes.openvino import has_bf16, load_openvino, openvino_core
from edge_van.statistics import paired_ratio, sqnr_db
from edge_van.timing.interleave import Stop, sample_rounds

STRENGTH = 0.5
LEAD_RUNS = 2
"""Runs before the one that is timed: the caches are its own then."""
SETTINGS: dict[str, dict[str, Any]] = {
    "the same, once more": {},  # what two compilations of one file differ by
    "no compiled subgraphs (SNIPPETS_MODE)": {"SNIPPETS_MODE": "DISABLE"},
    "work shared out by TBB (TBB_PARTITIONER)": {"TBB_PARTITIONER": "AUTO"},
    "threads not pinned": {"ENABLE_CPU_PINNING": False},
    "denormals flushed": {"CPU_DENORMALS_OPTIMIZATION": True},
    "one thread": {"INFERENCE_NUM_THREADS": 1},
}
IN_WORDS = {
    Role.PATCH_EMBED: "patch embeddings",
    Role.POINTWISE: "1x1 convolutions",
    Role.LKA_LOCAL: "LKA 5x5",
    Role.LKA_DILATED: "LKA 7x7 of dilation 3",
    Role.FFN_DEPTHWISE: "feed-forward 3x3",
    Role.HEAD: "head",
}


def schemes() -> dict[str, Scheme]:
    """By what is changed."""
    ours = for_openvino("openvino")
    return {
        "as it ships": ours,
        **{f"{words} in float": replace(ours, roles=ours.roles - {role}) for role, words in IN_WORDS.items()},
        "all depthwise in float": replace(ours, roles=ours.roles - DEPTHWISE),
        "LayerNorms in float": replace(ours, roles=LAYERS),
        "gate in INT8": replace(ours, roles=ours.roles | {Role.GATE}),
        "shortcuts in INT8": replace(ours, roles=ours.roles | {Role.RESIDUAL}),
        "gate, shortcuts, LayerNorm inputs in INT8": for_openvino("openvino_fast"),
        "symmetric activations": replace(ours, symmetric=True),
        "8-bit weights, for VNNI alone": replace(ours, pairs=False),
    }


def by_stage(calibrated: Calibrated) -> dict[str, Scheme]:
    """What ships, and each kind of place of each stage in float."""
    ours = calibrated.scheme
    groups: dict[str, set[str]] = defaultdict(set)
    for node, role in roles(calibrated.observed):
        if (place := place_of(node, role)) and ours.quantizes(role, place):
            stage = re.search(r"\d", place)
            kind = place.split(".", 2)[-1] if place.startswith("block") else place.split(".")[0].rstrip("1234")
            groups[f"stage {stage[0]}, {kind}" if stage else kind].add(place)
    return {"as it ships": ours} | {
        f"{name} in float": replace(ours, left=frozenset(places)) for name, places in sorted(groups.items())
    }


def compiled(file: Path, settings: dict[str, Any], *, free_batch: bool = False) -> tuple[Any, Any]:
    """(the request, its input) as ``runtimes.openvino`` compiles for latency, but for ``settings``."""
    core = openvino_core()
    model = core.read_model(file)
    [port] = model.inputs
    model.reshape({port: [-1 if free_batch else 1, *list(port.partial_shape)[1:]]})
    usual = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", {**usual, **settings}).create_infer_request()
    shape = [1, *(d.get_length() for d in list(port.partial_shape)[1:])]
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    is_float = port.element_type != load_openvino().Type.u8
    return request, (pixels / np.float32(127.5) - np.float32(1.0) if is_float else pixels)


def turn(request: Any, image: NDArray[Any]) -> Callable[[], float]:
    """Milliseconds of a query after a query."""
    request.set_input_tensor(load_openvino().Tensor(image, shared_memory=True))

    def run() -> float:
        for _ in range(LEAD_RUNS):
            request.infer(share_outputs=True)
        start = time.perf_counter()
        request.infer(share_outputs=True)
        return (time.perf_counter() - start) * 1e3

    return run


def logits(file: Path, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    request, _ = compiled(file, {})
    return np.concatenate([next(iter(request.infer({0: image[None]}).values())).copy() for image in pixels])


def main() -> None:
    """Make, time, print, write."""
    parser = arguments(__doc__ or "", test=False, size=224, samples=32)
    parser.add_argument("--checkpoint", type=Path, help="another network than the embedded demo")
    parser.add_argument("--variant", help="of random weights, for its times alone")
    parser.add_argument("--by-stage", action="store_true", help="each kind of layer of a stage in float, no settings")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--max-seconds", type=float, default=600.0)
    args = parser.parse_args()
    loaded, spec = network(args, args.size)
    images = calibration(args.train, spec, args.samples, batch=5)
    folded, _ = fold(loaded.van, spec.size)
    equalized = equalize(folded, images, strength=STRENGTH)
    check = images.normalized(images.pixels[:2])
    rows: list[dict[str, Any]] = []
    turns: list[Callable[[], float]] = []
    calibrated = calibrate(equalized, images, for_openvino("openvino"))
    wanted = by_stage(calibrated) if args.by_stage else schemes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        float_onnx = export_onnx(folded, folder / "fp32.onnx", check)
        float_ir = export_openvino(float_onnx, spec, folder / "fp32.xml")
        expected = logits(float_ir, images.pixels)

        def add(what: str, file: Path, settings: dict[str, Any], **more: Any) -> None:
            noise = None if file.suffix == ".onnx" else sqnr_db(expected, logits(file, images.pixels))
            rows.append({"changed": what, "logit_sqnr_db": noise})
            turns.append(turn(*compiled(file, settings, **more)))

        for number, (what, scheme) in enumerate(wanted.items()):
            print(f"making: {what}", flush=True)
            if calibrated.serves(scheme):
                quantized = convert(calibrated, scheme)
            else:
                quantized = post_training_quantize(equalized, images, scheme)
            try:
                onnx = export_onnx(quantized, folder / f"{number}.onnx", check)
            except VerificationError as error:  # at a size that it was not trained at a network is mostly noise
                if number == 0:
                    raise
                print(f"left out: {error}", flush=True)
                continue
            add(what, export_openvino(onnx, spec, folder / f"{number}.xml"), {})
            if number == 0:
                shipped, shipped_onnx = folder / "0.xml", onnx
        for what, settings in SETTINGS.items() if not args.by_stage else ():
            add(what, shipped, settings)
        if not args.by_stage:
            add("a free batch size", shipped, {}, free_batch=True)
            add("floats in NCHW go in", shipped_onnx, {})
        add("FP32", float_ir, {})
        if has_bf16():
            add("BF16", float_ir, {"INFERENCE_PRECISION_HINT": "bf16"})
            add("INT8, the rest in BF16", shipped, {"INFERENCE_PRECISION_HINT": "bf16"})
        for each in turns:
            for _ in range(5):
                each()
        with Terminal().stage(f"Timing {len(turns)} models in turns", args.rounds) as advance:
            stop = Stop(args.rounds, 100, args.max_seconds)
            rounds = sample_rounds(turns, stop, np.random.default_rng(0), advance)
    for column, row in enumerate(rows):
        times = rounds.values[:, column]
        ratio, low, high = paired_ratio(rounds.values[:, 0], times)
        row |= {"median_ms": float(np.median(times)), "ratio": ratio, "ratio_low": low, "ratio_high": high}
        noise = "" if row["logit_sqnr_db"] is None else f"{row['logit_sqnr_db']:6.1f} dB"
        print(f"{row['changed']:44s} {row['median_ms']:7.3f} ms  {ratio:.3f} ({low:.3f} to {high:.3f})  {noise}")
    content = {"variant": args.variant or loaded.van.variant.name, "rounds": len(rounds.values), "rows": rows}
    content["kept_disturbed"] = rounds.kept_disturbed
    write_result(args, content, "-".join(filter(None, (args.variant, "by-stage" if args.by_stage else ""))))


if __name__ == "__main__":
    sys.exit(main())
