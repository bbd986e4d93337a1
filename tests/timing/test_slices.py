"""``edge_van.timing.slices`` on a real engine: images per second of a slice; energy from a stand-in for a meter."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pytest

from edge_van.benchmark import random_feed
from edge_van.bundle import Bundle
from edge_van.layout import FP32_IR
from edge_van.runtimes import open_model
from edge_van.timing.slices import Slice


class TenWatts:
    """A stand-in for a meter: ten joules a second."""

    source: Literal["rapl", "rails"] = "rapl"

    def joules(self) -> float:
        return 10.0 * time.perf_counter()


@pytest.mark.parametrize("streams", [None, 2])
def test_images_per_second_are_the_engines(timed_bundle: Bundle, streams: int | None) -> None:
    with open_model("openvino", timed_bundle.file(FP32_IR), batch=4, streams=streams) as session:
        feed = random_feed(session, np.random.default_rng(0), 4)
        slices = Slice(session, feed, 4, TenWatts(), 5.0, seconds=0.1)
        assert slices.joules_per_image([]) is None
        rates = [slices.turn() for _ in range(3)]
        assert slices.streams == (streams or 1)
        joules, last = slices.joules_per_image([0, 1, 2]), slices.joules_per_image([2])
        start = time.perf_counter()
        for _ in range(20):
            session.run(feed)
        alone = 80 / (time.perf_counter() - start)
    assert joules == pytest.approx(10.0 / np.mean(rates), rel=0.3)
    assert last == pytest.approx(10.0 / rates[2], rel=0.05)
    assert 0.2 < np.median(rates) / alone < 5.0  # the same order, on a machine that may be busy


def test_no_meter_gives_no_energy(timed_bundle: Bundle) -> None:
    with open_model("openvino", timed_bundle.file(FP32_IR)) as session:
        slices = Slice(session, random_feed(session, np.random.default_rng(0)), 1, None, 0.0, seconds=0.02)
        assert slices.turn() > 0
        assert slices.joules_per_image([0]) is None
