"""A model's rounds as rows of the record.

In: times or rates, round by round, of a model and of the baseline model. Out: ``QueryLatency``, ``Throughput``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Interval
from edge_van.statistics import paired_ratio
from edge_van.timing.interleave import Rounds
from edge_van.timing.latency import percentiles_ms, rounded
from edge_van.timing.record import QueryLatency, Throughput
from edge_van.timing.slices import Slice


def query_row(name: str, images: int, times: NDArray[np.float64], base: NDArray[np.float64]) -> QueryLatency:
    """``times`` and ``base``: (rounds,), milliseconds of a query of ``images``."""
    variation = float(times.std() / times.mean())
    ratio, low, high = paired_ratio(base, times)
    return QueryLatency(name, images, rounded(times), *percentiles_ms(times), variation, ratio, Interval(low, high))


def rate_rows(
    names: Sequence[str], batch: int, slices: Sequence[Slice], rounds: Rounds, baseline: str
) -> Iterator[Throughput]:
    """A row for each of ``names``, whose rates in images/s are the columns of ``rounds``."""
    base = rounds.values[:, names.index(baseline)]
    for i, (name, each) in enumerate(zip(names, slices, strict=True)):
        rates = rounds.values[:, i]
        ratio, low, high = paired_ratio(rates, base)  # more images a second is faster
        yield Throughput(
            model=name,
            batch=batch,
            streams=each.streams,
            slices=tuple(round(float(rate), 3) for rate in rates),
            images_per_s=float(np.median(rates)),
            coefficient_of_variation=float(rates.std() / rates.mean()),
            ratio=ratio,
            ratio_interval=Interval(low, high),
            joules_per_image=each.joules_per_image(rounds.kept.tolist()),
            device_memory_mib=each.device_memory_mib,
        )
