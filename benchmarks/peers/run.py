"""The demo checkpoint through other tools and through this one: accuracy and speed side by side, one command.

In: training images (to calibrate on) and test images. Out: a table and a JSON: accuracy at ``--size`` of every model
against our FP32 one on the same images, latency of all in turns at every ``--latency-size``, and our clock beside
OpenVINO's ``benchmark_app`` on our two IRs. A tool that cannot be run here stands in the JSON with its reason.
``--checkpoint`` is another network, ``--variant`` one of random weights, of which only the times are measured.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks folder, for what its scripts share

import torch
from common import arguments, calibration, network, write_result

from edge_van.bundle.records import Accuracy
from edge_van.model.variants import VARIANTS
from edge_van.runtimes.openvino import has_bf16
from peers import app_check, executorch_xnnpack, mnn, nncf_default, ort_static, ours, torch_models
from peers.accuracy import measure
from peers.latency import DISTURBED, Timed, ratios, time_peers
from peers.peer import Peer, Unavailable, attempt, openvino_peer

BASELINE = "fp32"
AGAINST = (BASELINE, "nncf_defaults")
RUNS = 3
"""Each opens every model anew, so that where its memory happens to lie is not taken for a difference."""


@dataclass(frozen=True)
class Built:
    """Everything at one input size. ``irs`` are our two files, for ``benchmark_app``."""

    peers: tuple[Peer, ...]
    unavailable: tuple[Unavailable, ...]
    irs: dict[str, Path]


def main() -> None:
    """Build, measure accuracy, time, check the clock, print, write."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--checkpoint", type=Path, help="in place of the demo")
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="random weights: times only")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="peers that are left out")
    parser.add_argument("--no-accuracy", action="store_true", help="times only")
    parser.add_argument("--limit", type=int, help="test images for the accuracy; all of them if left out")
    parser.add_argument("--latency-size", type=int, nargs="*", default=[64, 224], help="pixels; none: no timing")
    parser.add_argument("--latency-samples", type=int, default=50, help="to calibrate on where only the time counts")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=10, help="runs of benchmark_app, and as many of ours")
    parser.add_argument("--seconds", type=int, default=4, help="length of each of them")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)  # before anything is compiled: inductor writes the number into its code
    loaded, spec = network(args, args.size)
    is_timed_only = args.no_accuracy or args.variant is not None
    if is_timed_only and not args.latency_size:
        parser.error("without accuracy and without --latency-size there is nothing to measure")
    if is_timed_only:  # the result says what was made
        args.size, args.samples = args.latency_size[0], args.latency_samples
    with tempfile.TemporaryDirectory() as name:
        accuracy: dict[str, Accuracy] = {}
        every: list[Built] = []
        if not is_timed_only:
            built = build(args, args.size, args.samples, Path(name))
            every.append(built)
            accuracy = measure(
                built.peers, BASELINE, args.test, spec, loaded.van.num_classes, threads=threads, limit=args.limit
            )
            print_accuracy(accuracy, built)
        speed = []
        for size in args.latency_size:
            if is_timed_only or size != args.size:
                folder = Path(name) / f"{size}px"
                folder.mkdir()
                models = build(args, size, args.latency_samples, folder)
                every.append(models)
            else:
                models = built
            speed.append(time_all(models, size, threads, args))
    content = {
        "threads": threads,
        "accuracy": accuracy,
        "how": {peer.name: peer.how for models in every for peer in models.peers},
        "unavailable": tuple({peer.name: peer for models in every for peer in models.unavailable}.values()),
        "latency": speed,
        "network": network_name(args),
    }
    label = args.variant or (args.checkpoint and args.checkpoint.name.partition(".")[0]) or ""
    write_result(args, content, f"{label}{'-times' if is_timed_only else ''}".lstrip("-"))


def network_name(args: Any) -> str:
    """For the table's heading."""
    if args.variant is not None:
        return f"VAN-{args.variant.upper()} of random weights"
    return "the demo checkpoint" if args.checkpoint is None else str(args.checkpoint.name)


def build(args: Any, size: int, samples: int, folder: Path) -> Built:
    """Every model at ``size`` pixels, calibrated on the same images."""
    loaded, spec = network(args, size)
    images = calibration(args.train, spec, samples)
    van = loaded.van.eval()
    irs = ours.build(van, spec, images, folder, args.without)
    makers: list[tuple[Sequence[str], Callable[[], list[Peer]]]] = [
        (nncf_default.NAMES, lambda: nncf_default.build(loaded, spec, images, folder)),
        (ort_static.NAMES, lambda: ort_static.build(van, spec, images, folder)),
        (executorch_xnnpack.NAMES, lambda: executorch_xnnpack.build(van, spec, images, folder)),
        (mnn.NAMES, lambda: mnn.build(van, spec, images, folder)),
    ]
    found: list[Peer | Unavailable] = [openvino_peer(name, ours.HOW[name], path) for name, path in irs.items()]
    if has_bf16():
        how = {"fp32": "BF16, folded; OpenVINO", "openvino": "ours, the rest in BF16; OpenVINO"}
        found += [openvino_peer(f"{name}_bf16", words, irs[name], precision="bf16") for name, words in how.items()]
    for names, make in makers:
        if not set(names) <= set(args.without):
            found += attempt(names, make)
    found += torch_models.build(van, spec, images, set(torch_models.NAMES) - set(args.without))
    found = [peer for peer in found if peer.name not in args.without]
    missing = tuple(f for f in found if isinstance(f, Unavailable))
    for peer in missing:
        print(f"{peer.name} cannot be run here: {peer.reason}", flush=True)
    clocked = {name: irs[name] for name in ours.CLOCKED}
    return Built(tuple(f for f in found if isinstance(f, Peer)), missing, clocked)


def time_all(built: Built, size: int, threads: int, args: Any) -> dict[str, Any]:
    """Latency of all peers at ``size`` in several runs, and the two clocks on our IRs."""
    runs = [time_peers(built.peers, threads=threads, rounds=args.rounds, seed=seed) for seed in range(RUNS)]
    against = {base: ratios(runs, base) for base in AGAINST if any(p.name == base for p in built.peers)}
    print_latency(against, runs, size)
    checks = app_check.compare_all(built.irs, pairs=args.pairs, seconds=args.seconds) if args.pairs else ()
    return {"latency_size_px": size, "ratios": against, "runs": runs, "benchmark_app": checks}


def print_accuracy(accuracy: dict[str, Accuracy], built: Built) -> None:
    """One line a model."""
    print(f"top-1 of {next(iter(accuracy.values())).images} images, FP32 minus the model's, 95 % interval")
    for peer in built.peers:
        if (a := accuracy.get(peer.name)) is not None:
            i = a.drop_interval
            print(
                f"  {peer.name:18s} top-1 {a.int8_percent:6.2f}  drop {a.drop_points:+.2f} ({i.low:+.2f} to "
                f"{i.high:+.2f})  agreement {a.agreement_percent:6.2f}  SQNR {a.logit_sqnr_db:6.2f} dB  {peer.how}"
            )


def print_latency(against: dict[str, list[dict[str, Any]]], runs: Sequence[Timed], size: int) -> None:
    """One line a model, with a mark where turns and alone are apart."""
    print(f"batch 1, {size} px, {len(runs)} x {runs[0].rounds} rounds in turns, every run settled")
    other = {base: {row["name"]: row for row in rows} for base, rows in against.items()}
    for row in against[BASELINE]:
        ratio = "  ".join(
            f"{base} / its time {r['ratio']:.2f} ({r['lowest']:.2f} to {r['highest']:.2f})"
            for base, r in ((base, rows[row["name"]]) for base, rows in other.items())
        )
        mark = "" if 1 / DISTURBED <= row["in_turns_over_alone"] <= DISTURBED else "  DISTURBED"
        beside = f"alone {row['alone_ms']:7.2f}, CPU time afterwards {row['lingering_cpu_ms']:5.2f}"
        print(f"  {row['name']:18s} {row['median_ms']:7.2f} ms ({beside})  {ratio}{mark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
