"""PyTorch on a GPU: latency, images a second, memory and energy of VANs, and how latency grows with the pixels.

In: nothing; weights are random (seed 0), so the times are a VAN's and the logits mean nothing. Out: a table and a JSON
with every sample. Each network is FP32, TF32, FP16 and BF16, eager and as a CUDA graph, and with ``--compile`` through
torch.compile as well. All of one network and batch take turns; times are the GPU's own events, after a warm-up, the
images there already. ``--device cpu`` goes the same way in FP32 and BF16 by the host's clock, to try it at a toy size.

The paper's figures (Guo et al., "Visual Attention Network", table 6: an RTX 3090, images/s at batch 128) stand beside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, results_folder, write_result

from edge_van.errors import EdgeVanError
from edge_van.export.onnx import export_onnx
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.runtimes import Session, open_model
from edge_van.timing.energy import NoMeter, open_meter
from edge_van.timing.interleave import Stop, sample_rounds
from edge_van.timing.latency import percentiles_ms, query_turn, random_feed, rounded
from edge_van.timing.models import GPU_PRECISIONS
from edge_van.timing.slices import Slice

PAPER_IMAGES_PER_S = {"b0": 2140, "b1": 1420, "b2": 762, "b3": 452, "b4": 341}
SIZES_PX = (224, 320, 448, 640, 896)


def main() -> None:
    """Measure, print, write after each network: a machine may be lent for a few minutes."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--variants", nargs="*", default=["b0", "b1", "b2", "b3"], help="at --size")
    parser.add_argument("--size", dest="pixels", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32, 128, 256])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES_PX), help="pixels, of a b0 at batch 1")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: minutes more")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--max-seconds", type=float, default=20.0, help="of each network and batch")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    content: dict[str, Any] = {"device": args.device, "paper_rtx_3090_images_per_s": PAPER_IMAGES_PER_S}
    content |= {"variants": [], "sizes": []}
    jobs = [("variants", v, args.pixels, args.batches) for v in args.variants]
    jobs += [("sizes", "b0", size, [1]) for size in args.sizes]
    for part, variant, size, batches in jobs:
        for row in measured(variant, size, batches, args):
            content[part].append(row)
            print(told(row), flush=True)
        write_result(args, content, f"{args.pixels}px-{args.device}")


def measured(variant: str, size: int, batches: Sequence[int], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each way to run the network at each batch size."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        torch.manual_seed(0)
        folded = fold(VAN(variant).eval(), (size, size))[0]
        path = export_onnx(folded, Path(folder) / "model.onnx", torch.zeros(1, 3, size, size))
        sessions: dict[str, Session] = {}
        for name, options in ways(args):
            try:
                sessions[name] = stack.enter_context(open_model("torch", path, device=args.device, **options))
            except EdgeVanError as error:
                print(f"not measured: {name}: {error}", flush=True)
        for batch in batches:
            yield from in_turns(sessions, variant, size, batch, args)


def ways(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, options of ``runtimes.torch``)."""
    on_gpu = args.device == "cuda"
    for compiled in (False, True) if args.compile else (False,):
        for graph in (False, True) if on_gpu else (False,):
            how = ("compiled" if compiled else "eager") + (", CUDA graph" if graph else "")
            for name, precision in GPU_PRECISIONS.items():
                if on_gpu or precision in ("f32", "bf16"):
                    yield f"{name} {how}", {"precision": precision, "compile": compiled, "cuda_graph": graph}


def in_turns(
    sessions: dict[str, Session], variant: str, size: int, batch: int, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Latency of one batch after the other, each from an idle start; then as many as go through."""
    generator = np.random.default_rng(0)
    feeds = {name: random_feed(session, generator, batch) for name, session in sessions.items()}
    turns: list[Callable[[], float]] = [
        session.device_turn(feeds[name]) or query_turn(session, feeds[name], 0.0) for name, session in sessions.items()
    ]
    for turn in turns * 5:  # kernels are chosen, and captured, in the first
        turn()
    latency = sample_rounds(turns, Stop(args.rounds, 10, args.max_seconds), generator)
    with open_meter(gpu=args.device == "cuda") as meter:
        known = None if isinstance(meter, NoMeter) else meter
        slices = [Slice(session, feeds[name], batch, known, 0.0) for name, session in sessions.items()]
        rates = sample_rounds([each.turn for each in slices], Stop(args.slices, 6, args.max_seconds), generator)
    for column, (name, each) in enumerate(zip(sessions, slices, strict=True)):
        times, images_per_s = latency.values[:, column], rates.values[:, column]
        median, p90, _ = percentiles_ms(times)
        yield {
            "variant": variant,
            "size_px": size,
            "batch": batch,
            "how": name,
            "median_ms": median,
            "p90_ms": p90,
            "samples_ms": rounded(times),
            "images_per_s": float(np.median(images_per_s)),
            "slices_images_per_s": rounded(images_per_s),
            "memory_mib": each.device_memory_mib,
            "joules_per_image": each.joules_per_image(rates.kept.tolist()),
        }


def told(row: dict[str, Any]) -> str:
    """A line of the table."""
    memory = "" if row["memory_mib"] is None else f"  {row['memory_mib']:8.0f} MiB"
    energy = "" if row["joules_per_image"] is None else f"  {1e3 * row['joules_per_image']:8.2f} mJ/image"
    what = f"{row['variant']} {row['size_px']:4d} px  batch {row['batch']:3d}  {row['how']:26s}"
    return f"{what}  {row['median_ms']:9.3f} ms  {row['images_per_s']:9.1f} images/s{memory}{energy}"


if __name__ == "__main__":
    sys.exit(main())
