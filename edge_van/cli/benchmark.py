"""``edge-van benchmark``: its flags, its table, its gate.

In: arguments. Out: a ``benchmark.json``, a table or the same JSON on standard output, the latency gate's exit code.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Collection
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_van.bundle.layout import BENCHMARK_NAME
from edge_van.cli.types import Limit, Numbers, print_json
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.text import file_name, one_line, without_folders
from edge_van.timing.record import SCENARIOS, TIMED_RUNTIMES, BenchmarkResult, Scenario

if TYPE_CHECKING:
    from edge_van.bundle.bundle import Bundle
    from edge_van.progress import Reporter
    from edge_van.timing.run import BenchmarkOptions

_PATH = click.Path(path_type=Path)
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
    from edge_van.bundle.bundle import open_bundle
    from edge_van.progress import Terminal
    from edge_van.storage.files import replace_file
    from edge_van.storage.folders import raised_on_termination
    from edge_van.timing.record import encode_benchmark, read_benchmark
    from edge_van.timing.run import run_benchmark

    if flags["max_slowdown"] is not None and flags["baseline"] is None:
        raise UsageError("--max-slowdown compares with an earlier result: give it with --baseline FILE")
    output = flags["output"] or (bundles[0] / BENCHMARK_NAME if len(bundles) == 1 else None)
    if output is None and not as_json:
        raise UsageError(f"the result of {len(bundles)} bundles lies in none of them: give --output FILE (or --json)")
    _check_libraries()
    before = None if flags["baseline"] is None else read_benchmark(flags["baseline"])
    opened = [open_bundle(path) for path in bundles]
    if output is not None:
        _check_output(output, flags["baseline"], flags["force"])
    options = _options(flags)
    if before is not None:
        options = _compared(before, opened, options)
    reporter = Terminal()
    paths = {*bundles, flags["output"], flags["baseline"]}
    with raised_on_termination():
        result = run_benchmark(opened, options, reporter, _command(sys.argv[1:], paths))
    result = replace(
        result, skipped=tuple(replace(s, reason=without_folders(s.reason, bundles)) for s in result.skipped)
    )
    written = None
    try:
        if output is not None:
            replace_file(output, encode_benchmark(result))
            written = output
    except BundleError as error:
        if before is not None:  # the gate's error would be the only one that is shown
            reporter.note(f"warning: {error}")
        raise
    finally:  # minutes of work are shown though they could not be written
        try:
            if as_json:
                print_json(result)
            else:
                from edge_van.cli.tables_benchmark import show_benchmark

                show_benchmark(result, written, bundles)
        finally:  # a closed pipe must not hide the gate
            if before is not None:
                _gate(before, result, flags["max_slowdown"] or _MAX_SLOWDOWN, reporter)


def _gate(before: BenchmarkResult, now: BenchmarkResult, max_slowdown: float, reporter: Reporter) -> None:
    from edge_van.timing.gate import slowdown_gate

    found = slowdown_gate(before, now, max_slowdown, reporter.note)
    worst = max(found, key=lambda s: s.factor)
    reporter.note(
        f"no slowdown over {max_slowdown:g} is shown in {len(found)} figures; the largest is {worst.factor:.2f} "
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


def _compared(before: BenchmarkResult, bundles: list[Bundle], options: BenchmarkOptions) -> BenchmarkOptions:
    """``options`` with the baseline model of ``before``; refuses before minutes of work what cannot be compared."""
    from edge_van.machine import describe_machine
    from edge_van.timing.gate import require_same_conditions, require_same_models
    from edge_van.timing.models import timed_models
    from edge_van.timing.run import identity

    require_same_conditions(before, identity(bundles), options.settings, describe_machine(), options.against)
    models, skipped = timed_models(bundles, options.runtimes)
    require_same_models(before, [model.name for model in models], skipped)
    return replace(options, against=before.baseline)


def _check_libraries() -> None:
    """Said before anything is measured."""
    missing = [name for name in ("psutil", "cpuinfo") if find_spec(name) is None]
    if missing:
        raise MissingRuntimeError(
            f"timing takes {' and '.join(missing)}, not installed here: pip install 'edge-van[benchmark]'"
        )


def _options(flags: dict[str, Any]) -> BenchmarkOptions:
    from edge_van.timing.record import BenchmarkSettings
    from edge_van.timing.run import BenchmarkOptions

    most = flags["max_duration"]
    least = min(_LEAST_S, most) if flags["min_duration"] is None else flags["min_duration"]
    if least > most:
        raise UsageError(f"--min-duration {least:g} is over --max-duration {most:g}: raise the latter")
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
    )
    return BenchmarkOptions(
        settings=settings,
        runtimes=tuple(dict.fromkeys(flags["runtimes"])) or None,
        against=flags["against"],
        startup=not flags["no_startup"],
        layers=not flags["no_layers"],
    )


def _check_output(output: Path, baseline: Path | None, force: bool) -> None:
    """Before minutes of work: an output that is in the way, or cannot be written."""
    from edge_van.timing.record import read_benchmark

    if not output.parent.is_dir():
        raise UsageError(f"--output {output} lies in a folder that is not there: give a file's path")
    if output.exists() and not output.is_file():
        what = "is a folder" if output.is_dir() else "is no file but a device, a pipe or a socket"
        raise UsageError(f"--output {output} {what}: give a file's path")
    try:
        with tempfile.TemporaryFile(dir=output.parent):  # what permissions do not tell: /proc, a read-only mount
            pass
    except OSError as error:
        raise UsageError(
            f"{output.parent} cannot be written to ({error.strerror}): give another file with --output"
        ) from error
    if baseline is not None and output.exists() and output.samefile(baseline):
        raise UsageError(
            f"the result would replace its own baseline {baseline}, and the next run be compared with this one: give "
            f"another file with --output"
        )
    if output.exists() and not force:
        try:
            read_benchmark(output)
        except UsageError as error:
            raise UsageError(f"{output} is no result of edge-van benchmark: give --force to replace it") from error
