"""The table at the end of ``edge-van benchmark``.

In: a ``BenchmarkResult``. Out: text on standard output, the next command last.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from edge_van.bundle.layout import BENCHMARK_NAME
from edge_van.bundle.records import Interval
from edge_van.cli.tables import console_for_results, table_for_results
from edge_van.timing.record import (
    SCENARIO_TITLES,
    BenchmarkModel,
    BenchmarkResult,
    Conditions,
    QueryLatency,
    Throughput,
    best_throughput,
)


def show_benchmark(result: BenchmarkResult, written: Path | None, bundles: Sequence[Path]) -> None:
    """Latency and throughput, then start-up; what is missing and why, what to doubt, what to do next.

    ``written``: the result's file, once it is there.
    """
    console = console_for_results()
    if result.single_stream:
        count = len(result.single_stream[0].samples_ms)
        title = f"{SCENARIO_TITLES['single_stream']}, {count} queries of one image each, in turns"
        _show_queries(console, title, result, result.single_stream)
    if result.multi_stream:
        count, images = len(result.multi_stream[0].samples_ms), result.multi_stream[0].images_per_query
        title = f"{SCENARIO_TITLES['multi_stream']}, {count} queries of {images} images each, in turns"
        _show_queries(console, title, result, result.multi_stream)
    _show_offline(console, result)
    _show_startup(console, result)
    for line in _not_alike(result.models):
        console.print(line)
    for skipped in result.skipped:
        console.print(f"not measured: {skipped.model}: {skipped.reason}")
    _show_conditions(console, result.conditions)
    for doubt in result.doubts:
        console.print(f"doubt: {doubt.text}")
    if not result.doubts:
        watched = " that was watched" if result.conditions.not_watched else ""
        console.print(f"Nothing{watched} speaks against these figures.")
    if written is not None:
        console.print(f"Result: {written}", soft_wrap=True)
        in_its_bundle = len(bundles) == 1 and written == bundles[0] / BENCHMARK_NAME
        subject = bundles[0] if in_its_bundle else written  # a report of a bundle is of the result that lies in it
        console.print(f"Next:   edge-van report {shlex.quote(str(subject))}", soft_wrap=True)


def _show_conditions(console: Console, c: Conditions) -> None:
    taken = (("other processes", c.other_cpu_percent), ("the hypervisor", c.stolen_cpu_percent))
    shares = ", ".join(f"{who} took {percent:.1f} %" for who, percent in taken if percent is not None)
    console.print(
        f"{c.rounds} rounds kept (each one query of every model, or one slice of time at one batch size), "
        f"{c.rounds_discarded} disturbed ones thrown away{f'; of the CPU time {shares}' if shares else ''}"
    )
    if c.not_watched:
        console.print(f"not watched here: {'; '.join(c.not_watched)}")


def _not_alike(models: Sequence[BenchmarkModel]) -> Iterator[str]:
    """Where not all models do the same work, and where an engine was not left as it comes."""
    runtimes: dict[str, dict[str, None]] = {}
    for model in models:
        runtimes.setdefault(model.takes, {})[model.runtime] = None
    if len(runtimes) > 1:
        parts = [f"{', '.join(names)}: {takes}" for takes, names in runtimes.items()]
        yield f"What an image is when it reaches the model, from where on it is timed: {'; '.join(parts)}"
    yield from dict.fromkeys(f"{model.runtime} is {model.settings}" for model in models if model.settings)


def _ratio(ratio: float, interval: Interval) -> str:
    return f"{ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _show_queries(console: Console, title: str, result: BenchmarkResult, rows: Sequence[QueryLatency]) -> None:
    times = f"times {result.baseline} (95 % interval)"
    table = table_for_results(title, ("model", "p50 ms", "p90 ms", "p99 ms", times), left=("model",))
    for row in rows:
        table.add_row(
            row.model,
            f"{row.median_ms:.2f}",
            f"{row.p90_ms:.2f}",
            f"{row.p99_ms:.2f}",
            _ratio(row.ratio, row.ratio_interval),
        )
    console.print(table)


def _show_offline(console: Console, result: BenchmarkResult) -> None:
    base = best_throughput(result, result.baseline)
    if base is None:
        return
    energy = any(row.joules_per_image is not None for row in result.offline)
    columns = ["model", "images/s", "best batch", "streams", f"times {result.baseline}'s best (95 % interval)"]
    memory = any(row.device_memory_mib is not None for row in result.offline)
    columns += [*(["mJ/image"] if energy else []), *(["GPU MiB"] if memory else [])]
    title = f"{SCENARIO_TITLES['offline']}, each model at the best of its batch sizes"
    table = table_for_results(title, columns, left=("model",))
    for model in result.models:
        row = best_throughput(result, model.name)
        if row is None:
            continue
        cells = [row.model, f"{row.images_per_s:.1f}", str(row.batch), str(row.streams), _best_against(row, base)]
        if energy:
            cells.append("-" if row.joules_per_image is None else f"{1e3 * row.joules_per_image:.2f}")
        if memory:
            cells.append("-" if row.device_memory_mib is None else f"{row.device_memory_mib:.0f}")
        table.add_row(*cells)
    console.print(table)


def _best_against(row: Throughput, base: Throughput) -> str:
    """Paired where both are best at one batch size. Others were not measured in the same minute: no interval holds what
    the machine did in between."""
    if row.batch == base.batch:
        return _ratio(row.ratio, row.ratio_interval)
    return f"{row.images_per_s / base.images_per_s:.2f} (not paired)"


def _show_startup(console: Console, result: BenchmarkResult) -> None:
    if not result.startup:
        return
    sizes = {model.name: model.file_bytes for model in result.models}
    columns = (
        "model",
        "load ms",
        "first ms",
        "cached: load ms",
        "first ms",
        "peak MiB",
        "of them before loading",
        "MB",
    )
    table = table_for_results("Start-up, each in a process of its own", columns, left=("model",))
    for row in result.startup:
        cached = (row.cached_load_ms, row.cached_first_inference_ms)
        table.add_row(
            row.model,
            f"{row.load_ms:.0f}",
            f"{row.first_inference_ms:.0f}",
            *("-" if value is None else f"{value:.0f}" for value in cached),
            f"{row.peak_memory_mib:.0f}",
            f"{row.before_load_mib:.0f}",
            f"{sizes[row.model] / 1e6:.1f}",
        )
    console.print(table)
