"""``edge-van benchmark``: its flags, its table, its gate.

In: arguments. Out: a ``benchmark.json``, a table or the same JSON on standard output, the latency gate's exit code.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_van.bundle.layout import BENCHMARK_NAME
from edge_van.cli.types import FilePath, Limit, Numbers, print_json
from edge_van.errors import BundleError, UsageError
from edge_van.progress import Terminal, Work
from edge_van.text import file_name, one_line
from edge_van.timing.record import SCENARIOS, TIMED_RUNTIMES, BenchmarkResult, Scenario

if TYPE_CHECKING:
    from edge_van.progress import Reporter
    from edge_van.timing.run import BenchmarkOptions

_PATH = FilePath()
_LONGEST_S = 86_400.0
_MAX_SLOWDOWN = 1.10
_LEAST_S = 60.0  # a virtual machine is faster or slower for seconds or minutes at a time, its ratios with it


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--runtime", "runtimes", multiple=True, type=click.Choice(TIMED_RUNTIMES), help="This one only; repeatable."
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice([s.replace("_", "-") for s in SCENARIOS]),
    help="This one only; repeatable.  [default: all three]",
)
@click.option(
    "--against",
    metavar="MODEL",
    help="What ratios are taken to.  [default: that of --baseline, or the first FP32 model]",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="cuda: PyTorch on the NVIDIA GPU, in FP32, TF32, FP16 and BF16, eager, compiled and as CUDA graphs; engines.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: each engine's own choice]")
@click.option("--streams", type=click.IntRange(1, 256), default=1, show_default=True, help="Offline: requests at once.")
@click.option(
    "--batch", "batches", type=Numbers(), default="1,4,8,16,32", show_default=True, help="Offline, with commas."
)
@click.option(
    "--query-size", type=click.IntRange(2, 1024), default=8, show_default=True, help="MultiStream: images a query."
)
@click.option("--warm-up", "warmup_runs", type=click.IntRange(0, 10_000), default=10, show_default=True)
@click.option(
    "--samples", type=click.IntRange(10, 100_000), default=662, show_default=True, help="Queries of each model."
)
@click.option(
    "--min-duration",
    type=Limit(0, _LONGEST_S),
    help=f"Seconds that a scenario lasts at least; all models, and in Offline all batch sizes, share them.  "
    f"[default: {_LEAST_S:g}, or --max-duration where that is less]",
)
@click.option(
    "--max-duration",
    type=Limit(1, _LONGEST_S),
    default=120.0,
    show_default=True,
    help="Seconds after which a scenario (Offline: a batch size) takes no more, once a median has the rounds it needs.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--no-startup", is_flag=True, help="Leave out load time, first inference and memory.")
@click.option("--no-layers", is_flag=True, help="Leave out the time of each layer.")
@click.option(
    "--baseline", type=_PATH, help="An earlier result: no model may have fallen back against the one of --against."
)
@click.option(
    "--max-slowdown",
    type=Limit(1, 1000),
    help=f"With --baseline: what falls back by more ends with exit code 4, where noise does not explain it.  "
    f"[default: {_MAX_SLOWDOWN:.2f}]",
)
@click.option("--output", type=_PATH, help=f"The result's file.  [default: {BENCHMARK_NAME} in a single BUNDLE]")
@click.option("--force", is_flag=True, help="Replace a file that is no result of edge-van benchmark.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def benchmark(bundles: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
    """Time every runtime that is here, side by side in one run: latency, throughput, start-up, memory, layers.

    Next: edge-van report BUNDLE draws the result. Given to a later run as --baseline FILE, it is a regression gate.
    """
    import edge_van
    from edge_van.timing.benchmark import check_libraries, check_output
    from edge_van.timing.record_file import read_benchmark

    if flags["max_slowdown"] is not None and flags["baseline"] is None:
        raise UsageError("--max-slowdown compares with an earlier result: give it with --baseline FILE")
    output = flags["output"] or (bundles[0] / BENCHMARK_NAME if len(bundles) == 1 else None)
    if output is None and not as_json:
        raise UsageError(f"the result of {len(bundles)} bundles lies in none of them: give --output FILE (or --json)")
    check_libraries()
    before = None if flags["baseline"] is None else read_benchmark(flags["baseline"])
    opened = [edge_van.open_bundle(path) for path in bundles]
    if output is not None:
        check_output(output, flags["baseline"], force=flags["force"])
    reporter, measured, written = Terminal(), list[BenchmarkResult](), None
    paths = {*bundles, flags["output"], flags["baseline"]}
    try:
        edge_van.benchmark(
            opened,
            options=_options(flags),
            baseline=before,
            output=output,
            command=_command(sys.argv[1:], paths),
            work=Work(reporter),
            on_result=measured.append,
        )
        written = output
    except BundleError as error:
        if measured and before is not None:  # the gate's error would be the only one that is shown
            reporter.note(f"warning: {error}")
        raise
    finally:  # minutes of work are shown though they could not be written
        for result in measured:
            _show(result, written, bundles, as_json, before, flags["max_slowdown"] or _MAX_SLOWDOWN, reporter)


def _show(
    result: BenchmarkResult,
    written: Path | None,
    bundles: tuple[Path, ...],
    as_json: bool,
    before: BenchmarkResult | None,
    max_slowdown: float,
    reporter: Reporter,
) -> None:
    try:
        if as_json:
            print_json(result)
        else:
            from edge_van.cli.tables_benchmark import show_benchmark

            show_benchmark(result, written, bundles)
    finally:  # a closed pipe must not hide the gate
        if before is not None:
            _gate(before, result, max_slowdown, reporter)


def _gate(before: BenchmarkResult, now: BenchmarkResult, max_slowdown: float, reporter: Reporter) -> None:
    from edge_van.timing.gate import slowdown_gate

    slowdowns = slowdown_gate(before, now, max_slowdown, reporter.note)
    worst = max(slowdowns, key=lambda s: s.factor)
    reporter.note(
        f"no slowdown over {max_slowdown:g} is shown in {len(slowdowns)} figures; the largest is {worst.factor:.2f} "
        f"({worst.figure} of {worst.figure.model})"
    )


def _command(words: list[str], paths: Collection[Path | None]) -> str:
    """As it was typed, bundles and files without the folders that they lie in."""
    shown, flag = [], ""
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        is_path = Path(value) in paths and (name or flag) != "--against"
        shown.append(f"{name}{equals}{file_name(Path(value)) if is_path else value}")
        flag = word
    return one_line(f"edge-van {shlex.join(shown)}")


def _options(flags: dict[str, Any]) -> BenchmarkOptions:
    from edge_van.timing.record import BenchmarkSettings
    from edge_van.timing.run import BenchmarkOptions

    most = flags["max_duration"]
    least = min(_LEAST_S, most) if flags["min_duration"] is None else flags["min_duration"]
    if least > most:
        raise UsageError(f"--min-duration {least:g} is over --max-duration {most:g}: raise the latter")
    if flags["device"] == "cuda" and (flags["threads"] is not None or flags["streams"] > 1):
        raise UsageError("--threads and --streams are the CPU's: leave them out with --device cuda")
    wanted: tuple[Scenario, ...] = tuple(
        s for s in SCENARIOS if not flags["scenarios"] or s.replace("_", "-") in flags["scenarios"]
    )
    settings = BenchmarkSettings(
        scenarios=wanted,
        threads=flags["threads"],
        streams=flags["streams"],
        batches=flags["batches"],
        multi_stream_samples=flags["query_size"],
        warmup_runs=flags["warmup_runs"],
        samples=flags["samples"],
        min_duration_s=least,
        seed=flags["seed"],
        max_duration_s=most,
        device=flags["device"],
    )
    return BenchmarkOptions(
        settings=settings,
        runtimes=tuple(dict.fromkeys(flags["runtimes"])) or None,
        against=flags["against"],
        startup=not flags["no_startup"],
        layers=not flags["no_layers"],
        force=flags["force"],
    )
