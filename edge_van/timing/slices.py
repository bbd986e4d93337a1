"""A slice of a model's time in the offline scenario: batch after batch, images per second, and the energy meanwhile.

In: an open session, a feed of ``batch`` images. Out: ``turn()``, images per second of one slice.
"""

from __future__ import annotations

import time
from typing import Any

from numpy.typing import NDArray

from edge_van.runtimes import Session
from edge_van.timing.energy import EnergyMeter, NoMeter

SLICE_S = 0.25
"""Long enough for the meters and for many batches, short enough that the machine is the same for all in a round."""


class Slice:
    """``joules_per_image`` is that of the whole machine or board, idle power included, over all slices so far."""

    def __init__(
        self,
        session: Session,
        feed: dict[str, NDArray[Any]],
        batch: int,
        meter: EnergyMeter | NoMeter,
        seconds: float = SLICE_S,
    ) -> None:
        self._session, self._feed, self._batch, self._seconds = session, feed, batch, seconds
        self._meter = None if isinstance(meter, NoMeter) else meter
        self._joules, self._images = 0.0, 0
        self.streams = session.streams

    def turn(self) -> float:
        """The first batches are untimed: they take over from the model before, and say how many fill a slice."""
        start = time.perf_counter()
        self._session.run_many(self._feed, self.streams)
        each = (time.perf_counter() - start) / self.streams
        count = max(round(self._seconds / each), 2 * self.streams)
        before = self._meter.joules() if self._meter else 0.0
        start = time.perf_counter()
        self._session.run_many(self._feed, count)
        seconds = time.perf_counter() - start
        if self._meter:
            self._joules += self._meter.joules() - before
            self._images += count * self._batch
        return count * self._batch / seconds

    @property
    def joules_per_image(self) -> float | None:
        return self._joules / self._images if self._images else None
