"""The table at the end of ``edge-van benchmark``.

In: a ``BenchmarkResult``. Out: text on standard output, the next command last.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from edge_van.benchmark_record import BenchmarkResult, QueryLatency, best_throughput
from edge_van.records import Interval
from edge_van.show import console_for_results, table_for_results


def show_benchmark(result: BenchmarkResult, output: Path | None, bundles: Sequence[Path]) -> None:
    """Latency and throughput, then start-up; what is missing and why, what to doubt, where it is written."""
    console = console_for_results()
    if result.single_stream:
        count = len(result.single_stream[0].samples_ms)
        _show_queries(
            console, f"SingleStream, {count} queries of one image each, in turns", result, result.single_stream
        )
    if result.multi_stream:
        count, images = len(result.multi_stream[0].samples_ms), result.multi_stream[0].images_per_query
        title = f"MultiStream, {count} queries of {images} images each, in turns"
        _show_queries(console, title, result, result.multi_stream)
    _show_offline(console, result)
    _show_startup(console, result)
    for skipped in result.skipped:
        console.print(f"not measured: {skipped.model}: {skipped.reason}")
    c = result.conditions
    if c.other_cpu_percent is not None and c.stolen_cpu_percent is not None:
        console.print(
            f"{c.rounds} rounds kept, {c.rounds_discarded} disturbed ones thrown away; meanwhile other processes took "
            f"{c.other_cpu_percent:.1f} % of the CPU time and the hypervisor {c.stolen_cpu_percent:.1f} %"
        )
    for doubt in result.doubts:
        console.print(f"doubt: {doubt.text}")
    if not result.doubts:
        console.print("Nothing speaks against these figures.")
    if output is not None:
        console.print(f"Result: {output}", soft_wrap=True)
    subject = bundles[0] if len(bundles) == 1 else output
    if subject is not None:
        console.print(f"Next:   edge-van report {shlex.quote(str(subject))}", soft_wrap=True)


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
    if not result.offline:
        return
    energy = any(row.joules_per_image is not None for row in result.offline)
    columns = ["model", "images/s", "best batch", "streams", f"times {result.baseline} at that batch (95 % interval)"]
    table = table_for_results(
        "Offline, best of the batch sizes", [*columns, *(["mJ/image"] if energy else [])], left=("model",)
    )
    for model in result.models:
        row = best_throughput(result, model.name)
        if row is None:
            continue
        ratio = _ratio(row.ratio, row.ratio_interval)
        cells = [row.model, f"{row.images_per_s:.1f}", str(row.batch), str(row.streams), ratio]
        if energy:
            cells.append("-" if row.joules_per_image is None else f"{1e3 * row.joules_per_image:.2f}")
        table.add_row(*cells)
    console.print(table)


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
