"""A ``benchmark.json`` read again: by type and version, and that its figures are of what it says.

In: a file. Out: a ``BenchmarkResult``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_van.bundle.records import LARGEST
from edge_van.errors import UsageError
from edge_van.storage.json_format import JSONFormat
from edge_van.timing.record import (
    BENCHMARK_KIND,
    BENCHMARK_SCHEMA_VERSION,
    MAX_BUNDLES,
    MAX_MODELS,
    BenchmarkResult,
)

BENCHMARK_FORMAT = JSONFormat(
    BenchmarkResult, BENCHMARK_KIND, BENCHMARK_SCHEMA_VERSION, 1, 256 * 2**20, "benchmark result", "measure again"
)


def read_benchmark(path: Path) -> BenchmarkResult:
    """The result in ``path``; ``UsageError`` for a file that is none, is broken, contradicts itself, or is of a version
    that is not read.
    """
    result = BENCHMARK_FORMAT.read(path)
    check_consistent(result, path)
    return result


def check_consistent(result: BenchmarkResult, path: Path) -> None:
    """Rows name models that are there, and every figure is one: a report must not stumble over them.

    Raises ``UsageError``, which names ``path``.
    """
    names = [model.name for model in result.models]
    bundles = [bundle.name for bundle in result.bundles]
    if len(set(names)) < len(names) or len(set(bundles)) < len(bundles):
        raise UsageError(f"{path} has two models or two bundles of one name: measure again")
    if not 1 <= len(bundles) <= MAX_BUNDLES or not 1 <= len(names) <= MAX_MODELS:
        raise UsageError(
            f"{path} has {len(bundles)} bundles and {len(names)} models, 1 to {MAX_BUNDLES} and 1 to {MAX_MODELS} are "
            f"read: measure again"
        )
    queries = (*result.single_stream, *result.multi_stream)
    used = {result.baseline, *(row.model for row in queries), *(row.model for row in result.offline)}
    used |= {row.model for row in result.startup} | {row.model for row in result.layers}
    if unknown := sorted(used - set(names)):
        raise UsageError(f"{path} has figures of {unknown[0]!r}, which is not among its models: measure again")
    if unknown := sorted({model.bundle for model in result.models} - set(bundles)):
        raise UsageError(f"{path} has a model of {unknown[0]!r}, which is not among its bundles: measure again")
    intervals = [*(row.ratio_interval for row in queries), *(rate.ratio_interval for rate in result.offline)]
    if not all(i.low <= i.high for i in intervals) or not all(0.0 < value < LARGEST for value in _positive(result)):
        raise UsageError(f"{path} has a time, rate or ratio that is no positive number: measure again")
    if not all(0.0 <= value < LARGEST for value in _not_negative(result)):
        raise UsageError(f"{path} has a figure that is under 0 or no number: measure again")
    if not all(row.samples_ms for row in queries) or not all(row.slices for row in result.offline):
        raise UsageError(f"{path} has figures without the samples they are taken of: measure again")


def _positive(result: BenchmarkResult) -> Iterator[float]:
    for row in (*result.single_stream, *result.multi_stream):
        yield from (row.median_ms, row.p90_ms, row.p99_ms, row.ratio, row.ratio_interval.low, row.images_per_query)
        yield from row.samples_ms
    for rate in result.offline:
        yield from (rate.images_per_s, rate.ratio, rate.ratio_interval.low, rate.batch, rate.streams)
        yield from rate.slices
    for start in result.startup:
        yield from (start.load_ms, start.first_inference_ms, start.peak_memory_mib, start.before_load_mib)


def _not_negative(result: BenchmarkResult) -> Iterator[float]:
    for row in (*result.single_stream, *result.multi_stream):
        yield from (row.coefficient_of_variation, row.ratio_interval.high)
    for rate in result.offline:
        yield from (rate.coefficient_of_variation, rate.ratio_interval.high)
        yield from (rate.joules_per_image or 0.0, rate.device_memory_mib or 0.0)
    yield from (model.file_bytes for model in result.models)
    for start in result.startup:
        yield from (start.cached_load_ms or 0.0, start.cached_first_inference_ms or 0.0)
    for profile in result.layers:
        yield from (layer.mean_ms for layer in profile.layers)
    c = result.conditions
    yield from (c.rounds, c.rounds_discarded, c.load_average_1min)
    yield from (c.other_cpu_percent or 0.0, c.stolen_cpu_percent or 0.0, c.throttle_events or 0)
