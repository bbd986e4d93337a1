"""What ``edge-van sensitivity`` writes and reads again: what quantising each place of a network costs.

In: measured numbers, or ``sensitivity.json``. Out: frozen records checked by type and version; no engine, no torch.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_van.bundle.records import Interval
from edge_van.errors import UsageError
from edge_van.machine import Machine
from edge_van.statistics import LARGEST_DB
from edge_van.storage.json_format import JSONFormat, encode

SENSITIVITY_SCHEMA_VERSION = 1
SENSITIVITY_KIND = "edge-van sensitivity"
MAX_PLACES = 10_000


@dataclass(frozen=True)
class ActivationRange:
    """The grid of a tensor from end to end, what was seen of it in float, and the share of values outside the grid."""

    grid_low: float
    grid_high: float
    seen_low: float
    seen_high: float
    clipped_percent: float


@dataclass(frozen=True)
class Cost:
    """Logits against those in float: SQNR in dB, and the metric's drop in points from FP32.

    ``sqnr_db`` is of all logits together, as everywhere else: a few images may make most of its noise. So layers are
    compared by ``image_sqnr_db``, the mean of each image's own, which two halves of the images agree on.
    """

    sqnr_db: float
    image_sqnr_db: float
    image_sqnr_db_halves: tuple[float, float]
    drop_points: float
    drop_interval: Interval


@dataclass(frozen=True)
class PlaceSensitivity:
    """A layer with its weights and its input, or an operation without weights.

    ``only``: nothing else is quantised. ``without``: all but it is. ``weights_kept``: its weights were on their grid
    all the time, as the bundle does not hold them in float.
    """

    name: str
    part: str
    only: Cost
    without: Cost
    activations: tuple[ActivationRange, ...] = ()
    weights_kept: bool = False


@dataclass(frozen=True)
class Measurement:
    """What was asked: two files' rows belong together where all of this is the same."""

    scheme: str
    file: str
    file_sha256: str
    float_sha256: str  # of the FP32 graph
    data: str
    images: int
    images_sha256: str  # of their pixels as the network gets them, and of what is true of them
    head: str  # activation and threshold
    made_with: str  # the versions that the figures depend on
    metric: str = "top-1"


@dataclass(frozen=True)
class PartNoise:
    """The places of one part together: their share of the noise that all places make, and the SQNR of it alone."""

    name: str
    places: int
    share_percent: float
    sqnr_db: float


@dataclass(frozen=True)
class Sensitivity:
    """The content of ``sensitivity.json``. It is whole once ``places`` has all ``of_places``."""

    schema_version: int
    kind: str  # SENSITIVITY_KIND
    edge_van_version: str
    created: str  # ISO 8601, UTC
    checkpoint_sha256: str
    measurement: Measurement
    machine: Machine
    all_quantized: Cost
    of_places: int
    places: tuple[PlaceSensitivity, ...]

    @property
    def is_whole(self) -> bool:
        return len(self.places) == self.of_places

    @property
    def kept(self) -> list[str]:
        """Places whose weights stayed on their grid: their noise is that of the input alone."""
        return [place.name for place in self.places if place.weights_kept]

    def gain_db(self, place: PlaceSensitivity) -> float:
        """By how much an image's SQNR is higher where this place alone is left in float."""
        return place.without.image_sqnr_db - self.all_quantized.image_sqnr_db

    def ranked(self) -> list[PlaceSensitivity]:
        """The place that costs most first: by the noise that it makes alone."""
        return sorted(self.places, key=lambda place: place.only.image_sqnr_db)

    def parts(self) -> list[PartNoise]:
        """The parts of the network, the noisiest first. What the places of a part make alone, of all images together,
        is summed, as if it were independent: it adds up to the noise of all within a few tenths of a dB where it was
        measured."""
        noise: dict[str, list[float]] = {}
        for place in self.places:
            noise.setdefault(place.part, []).append(10.0 ** (-place.only.sqnr_db / 10.0))
        total = sum(map(sum, noise.values()))
        rows = [
            PartNoise(name, len(own), 100.0 * sum(own) / total, -10.0 * math.log10(sum(own)))
            for name, own in noise.items()
        ]
        return sorted(rows, key=lambda row: row.sqnr_db)

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of the ranking by one half of the images and by the other; None of fewer than three places, and
        where all are alike."""
        if len(self.places) < 3:
            return None  # two of them are alike or opposite
        first, second = (_ranks([place.only.image_sqnr_db_halves[half] for place in self.places]) for half in (0, 1))
        if min(first) == max(first) or min(second) == max(second):
            return None  # no noise anywhere: there is nothing to rank
        return statistics.correlation(first, second)


def _ranks(values: list[float]) -> list[float]:
    """From 0; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) - 1) / 2 for value in values]


SENSITIVITY_FORMAT = JSONFormat(
    Sensitivity, SENSITIVITY_KIND, SENSITIVITY_SCHEMA_VERSION, 1, 64 * 2**20, "sensitivity result", "measure again"
)


def read_sensitivity(path: Path) -> Sensitivity:
    """The result in ``path``; ``UsageError`` for a file that is none, is broken, or contradicts itself."""
    result = SENSITIVITY_FORMAT.read(path)
    check_consistent(result, path)
    return result


def check_consistent(result: Sensitivity, where: Path | str) -> None:
    """No place twice, no more than there are, and every figure is one. ``UsageError``, which names ``where``."""
    names = [place.name for place in result.places]
    costs = [result.all_quantized, *(cost for place in result.places for cost in (place.only, place.without))]
    figures = [f for c in costs for f in (c.sqnr_db, c.image_sqnr_db, *c.image_sqnr_db_halves, c.drop_points)]
    intervals = [cost.drop_interval for cost in costs]
    ranges = [r for place in result.places for r in place.activations]
    if (
        len(set(names)) < len(names)
        or not len(names) <= result.of_places <= MAX_PLACES
        or result.measurement.images < 2
        or not all(abs(figure) <= LARGEST_DB for figure in figures)
        or not all(-101.0 <= i.low <= i.high <= 101.0 for i in intervals)
        or not all(
            r.grid_low <= r.grid_high and r.seen_low <= r.seen_high and 0.0 <= r.clipped_percent <= 100.0
            for r in ranges
        )
    ):
        raise UsageError(f"{where} has a place twice, or a figure that is none: {SENSITIVITY_FORMAT.again}")


def encode_sensitivity(result: Sensitivity) -> bytes:
    """Readable JSON, the same bytes for the same result."""
    return encode(result)


def sensitivity_schema() -> dict[str, Any]:
    """The JSON Schema of ``sensitivity.json``."""
    return msgspec.json.schema(Sensitivity)
