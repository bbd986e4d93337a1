"""Many images by several workers, answered in their order.

In: functions that do the same, one a worker, and arguments. Out: each argument with its result, as it becomes ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

AHEAD = 4
"""Arguments that wait for each worker: enough that none stands still, few enough that stopping is quick."""
T = TypeVar("T")
R = TypeVar("R")


def in_turns(workers: Sequence[Callable[[T], R]], arguments: Sequence[T]) -> Generator[tuple[T, R], None, None]:
    """Each worker is called by one thread at a time; of a single one by the caller's own.

    Once it is closed no worker is called any more: close it before what the workers use.
    """
    if len(workers) == 1:
        for argument in arguments:
            yield argument, workers[0](argument)
        return
    idle: SimpleQueue[Callable[[T], R]] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def turn(argument: T) -> R:
        worker = idle.get()
        try:
            return worker(argument)
        finally:
            idle.put(worker)

    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(len(workers), "edge-van-predict") as pool:
        try:
            for argument in arguments:
                waiting.append((argument, pool.submit(turn, argument)))
                if len(waiting) > AHEAD * len(workers):
                    first, done = waiting.popleft()
                    yield first, done.result()
            while waiting:
                first, done = waiting.popleft()
                yield first, done.result()
        finally:
            for _, done in waiting:
                done.cancel()
