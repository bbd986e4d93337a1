"""Results of benchmark runs for the tests that need no engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from bundle_samples import MANIFEST

from edge_van.bundle.records import Interval
from edge_van.statistics import paired_ratio
from edge_van.timing.record import (
    BENCHMARK_KIND,
    BENCHMARK_SCHEMA_VERSION,
    BenchmarkBundle,
    BenchmarkModel,
    BenchmarkResult,
    BenchmarkSettings,
    Conditions,
    QueryLatency,
    Throughput,
)

SETTINGS = BenchmarkSettings(("single_stream", "offline"), 2, 1, (1, 8), 8, 10, 700, 0.0, 0, 60.0)
MEDIANS_MS = {"openvino-fp32": 4.0, "openvino-int8": 2.0}


def query_rows(medians_ms: dict[str, float], count: int = 700, noise: float = 0.02, images: int = 1) -> Any:
    """Rows of times around the medians; all models share the machine's swings, as in a real run."""
    generator = np.random.default_rng(1)
    swings = 1.0 + noise * generator.standard_normal((count, 1)) ** 2
    times = swings * np.array(list(medians_ms.values())) * (1.0 + 0.002 * generator.random((count, len(medians_ms))))
    rows = []
    for i, name in enumerate(medians_ms):
        ratio, *ends = paired_ratio(times[:, 0], times[:, i])
        interval = Interval(*ends)
        p50, p90, p99 = (float(v) for v in np.percentile(times[:, i], [50, 90, 99]))
        raw = tuple(round(float(t), 4) for t in times[:, i])
        variation = float(times[:, i].std() / times[:, i].mean())
        rows.append(QueryLatency(name, images, raw, p50, p90, p99, variation, ratio, interval))
    return tuple(rows)


def rate_rows(medians_ms: dict[str, float], batch: int, slices: int = 10) -> Any:
    rows = []
    base = next(iter(medians_ms.values()))
    for name, ms in medians_ms.items():
        rates = tuple(1e3 * batch / ms * (1 + 0.001 * i) for i in range(slices))
        ratio, *ends = paired_ratio(np.full(slices, base / ms), np.ones(slices))
        interval = Interval(*ends)
        rows.append(Throughput(name, batch, 1, rates, float(np.median(rates)), 0.01, ratio, interval))
    return tuple(rows)


def result(medians_ms: dict[str, float] | None = None, **changes: Any) -> BenchmarkResult:
    """A run of OpenVINO's FP32 and INT8 on the sample machine; ``changes`` are fields of the record."""
    medians = medians_ms or MEDIANS_MS
    fields: dict[str, Any] = {
        "schema_version": BENCHMARK_SCHEMA_VERSION,
        "kind": BENCHMARK_KIND,
        "edge_van_version": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "edge-van benchmark bundle",
        "bundles": (BenchmarkBundle("bundle", "b0", MANIFEST.created, MANIFEST.checkpoint_sha256, (224, 224)),),
        "machine": MANIFEST.machine,
        "settings": SETTINGS,
        "baseline": next(iter(medians)),
        "models": tuple(
            BenchmarkModel(name, "bundle", name.split("-")[0], name.split("-")[1], "openvino/model.xml", 4_000_000, 2)
            for name in medians
        ),
        "conditions": Conditions(720, 0, 0.5, 0.1, 0, 0.3),
        "single_stream": query_rows(medians),
        "offline": rate_rows(medians, 8),
    }
    return BenchmarkResult(**(fields | changes))
