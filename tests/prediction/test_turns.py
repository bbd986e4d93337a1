"""``prediction.turns``: every argument once, in order, no worker by two threads at a time, and a quick end."""

import threading
import time

import pytest

from edge_van.prediction.turns import AHEAD, in_turns


class Worker:
    """Squares; remembers whether it was ever called by two threads at a time."""

    def __init__(self) -> None:
        self.calls, self.was_shared = 0, False
        self._lock = threading.Lock()

    def __call__(self, number: int) -> int:
        if not self._lock.acquire(blocking=False):
            self.was_shared = True
            return -1
        try:
            self.calls += 1
            time.sleep(0.001 * (number % 3))  # later ones are often ready sooner
            return number * number
        finally:
            self._lock.release()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_argument_once_and_in_order(count: int) -> None:
    workers = [Worker() for _ in range(count)]
    assert list(in_turns(workers, range(60))) == [(n, n * n) for n in range(60)]
    assert not any(worker.was_shared for worker in workers)
    assert sum(worker.calls for worker in workers) == 60


def test_who_stops_early_waits_for_little() -> None:
    workers = [Worker(), Worker()]
    results = in_turns(workers, range(1000))
    assert next(results) == (0, 0)
    results.close()
    assert sum(worker.calls for worker in workers) <= (AHEAD + 1) * len(workers)


def test_once_it_is_closed_no_worker_is_called() -> None:
    workers = [Worker(), Worker()]
    results = in_turns(workers, range(1000))
    next(results)
    results.close()
    calls = sum(worker.calls for worker in workers)
    time.sleep(0.05)
    assert sum(worker.calls for worker in workers) == calls <= 1 + 2 * len(workers)  # what waited was given up


def test_an_error_comes_where_its_argument_stands() -> None:
    def worker(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = in_turns([worker, worker], range(9))
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_nothing_is_done_for_nothing() -> None:
    assert list(in_turns([Worker(), Worker()], [])) == []
