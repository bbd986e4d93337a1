"""``edge_van.timing.slices`` on a real engine: images per second of a slice; energy from a stand-in for a meter."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR
from edge_van.runtimes import open_model
from edge_van.timing.latency import random_feed
from edge_van.timing.slices import Slice

pytestmark = pytest.mark.alone

BATCH = 16


class TenWatts:
    """A stand-in for a meter: ten joules a second, and from the fourth start on it cannot be read."""

    source: Literal["rapl", "rails"] = "rapl"

    def __init__(self) -> None:
        self._starts = 0
        self._at = 0.0

    def start(self) -> None:
        self._starts += 1
        self._at = time.perf_counter()

    def joules(self) -> float | None:
        return 10.0 * (time.perf_counter() - self._at) if self._starts < 4 else None


@pytest.mark.parametrize("streams", [None, 2])
def test_images_per_second_are_the_engines(timed_bundle: Bundle, streams: int | None) -> None:
    """A rate of batches, or one that counts them twice over, is further from the engine's own than a busy machine."""
    with open_model("openvino", timed_bundle.file(FP32_IR), batch=BATCH, streams=streams) as session:
        feed = random_feed(session, np.random.default_rng(0), BATCH)
        slices = Slice(session, feed, BATCH, TenWatts(), 5.0, seconds=0.1)
        assert slices.joules_per_image([]) is None
        rates = [slices.turn() for _ in range(3)]
        assert slices.streams == (streams or 1)
        joules, last = slices.joules_per_image([0, 1, 2]), slices.joules_per_image([2])
        start = time.perf_counter()
        for _ in range(20):
            session.run(feed)
        alone = 20 * BATCH / (time.perf_counter() - start)
        slices.turn()
    assert joules == pytest.approx(10.0 / np.mean(rates), rel=0.3)
    assert last == pytest.approx(10.0 / rates[2], rel=0.05)
    assert 0.25 < np.median(rates) / alone < 4.0  # far from 1 / 16, on a machine that may be busy
    assert slices.joules_per_image([0, 1, 2, 3]) is None  # the last one's is not known
    assert slices.joules_per_image([0, 1, 2]) == joules


def test_every_stream_works_to_the_end_of_a_slice(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken wave at the end would leave streams idle and be told as fewer images per second."""
    counts: list[int] = []
    with open_model("openvino", timed_bundle.file(FP32_IR), streams=2) as session:
        run_many = session.run_many

        def counted(feed: dict[str, np.ndarray], count: int) -> None:
            counts.append(count)
            run_many(feed, count)

        monkeypatch.setattr(session, "run_many", counted)
        slices = Slice(session, random_feed(session, np.random.default_rng(0)), 1, None, 0.0, seconds=0.02)
        for _ in range(10):
            slices.turn()
    assert max(counts) > 4
    assert [count % 2 for count in counts] == [0] * len(counts)


def test_no_meter_gives_no_energy(timed_bundle: Bundle) -> None:
    with open_model("openvino", timed_bundle.file(FP32_IR)) as session:
        slices = Slice(session, random_feed(session, np.random.default_rng(0)), 1, None, 0.0, seconds=0.02)
        assert slices.turn() > 0
        assert slices.joules_per_image([0]) is None
