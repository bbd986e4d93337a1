"""A slice of a model's time in the offline scenario: batch after batch, images per second, and the energy meanwhile.

In: an open session, a feed of ``batch`` images. Out: ``turn()``, images per second of one slice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from edge_van.runtimes import Session
from edge_van.timing.energy import EnergyMeter

SLICE_S = 0.25
"""Long enough for the meters and for many batches, short enough that the machine is the same for all in a round."""
MIN_SLICES = 6
"""The fewest that have a 95 % interval: from the lowest to the highest of n, 1 - 2 / 2^n (see ``paired_ratio``)."""


class Slice:
    """``meter`` None: no energy."""

    def __init__(
        self,
        session: Session,
        feed: dict[str, NDArray[Any]],
        batch: int,
        meter: EnergyMeter | None,
        lead_ms: float,
        seconds: float = SLICE_S,
    ) -> None:
        self._session, self._feed, self._batch = session, feed, batch
        self._meter, self._lead_s, self._seconds = meter, lead_ms / 1e3, seconds
        self._energy: list[tuple[float | None, int]] = []  # (joules, images) of every slice
        self.streams = session.streams
        self.device_memory_mib = session.device_memory_mib(feed)

    def turn(self) -> float:
        """The first batches are untimed: they take over from the model before, the last says how many fill a slice."""
        stop = time.perf_counter() + self._lead_s
        self._session.run_many(self._feed, self.streams)
        while time.perf_counter() < stop:
            self._session.run_many(self._feed, self.streams)
        start = time.perf_counter()
        self._session.run_many(self._feed, self.streams)
        # whole waves: at the end of a broken one some streams would stand idle
        waves = max(math.ceil(self._seconds / (time.perf_counter() - start)), 2)
        count = waves * self.streams
        if self._meter:
            self._meter.start()
        start = time.perf_counter()
        self._session.run_many(self._feed, count)
        seconds = time.perf_counter() - start
        if self._meter:
            self._energy.append((self._meter.joules(), count * self._batch))
        return count * self._batch / seconds

    def joules_per_image(self, slices: Iterable[int]) -> float | None:
        """Over the slices of these numbers: of the processor packages (RAPL), a Jetson's module (rails) or a GPU
        (NVML), idle power included.

        None without a meter, or where it could not be read in one of them.
        """
        joules, images = 0.0, 0
        for number in slices if self._energy else ():
            taken, count = self._energy[number]
            if taken is None:
                return None
            joules, images = joules + taken, images + count
        return joules / images if images else None
