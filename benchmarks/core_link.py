"""Core-to-core latency: what no counter of the kernel tells of a virtual machine.

In: the cores of this process. Out: microseconds, again and again during a measurement.

A hypervisor moves virtual cores about. Where two that shared a cache come to lie on parts of the processor that share
none, a cache line takes two to three times as long from one to the other and back, and an engine whose threads meet
after every layer takes half as long again, some models more so than others: 1.45 ms for 0.9 ms, seen on an EPYC of two
virtual cores. No CPU time is stolen then, and one thread alone is as fast as ever.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_van.machine import this_cpu

ECHO = Path(__file__).with_name("core_echo.py")
SHARED_MEMORY = Path("/dev/shm")
TRIPS, REPEATS = 100, 5
"""The best of ``REPEATS`` times ``TRIPS``: a tenth of a millisecond a pair of cores."""
MOST_POLLS = 200_000
"""Some hundredths of a second without an answer: the other core does something else."""
READY_S = 1.0
"""For the echo to say that it is there: it starts in some hundredths of a second."""
MOST_PARTNERS = 7
SETTLE_S = 0.010
"""Threads of an engine spin for a while after a run, on the very cores that are asked."""
APART = 2.0
"""Cores are apart where a word between two takes so many times as long as at best in the run. Seen: 0.9 to 1.3 times
where nothing changed, 2.5 to 3 times where a hypervisor moved them."""


def is_apart(round_trips_us: Iterable[tuple[float, ...]], least_us: tuple[float, ...]) -> bool:
    """Whether in any of these readings of a ``CoreLink`` a core was ``APART`` times as far as its least."""
    pairs = (pair for trips in round_trips_us for pair in zip(trips, least_us, strict=False))
    return any(APART * least < us < math.inf for us, least in pairs)


def is_virtual() -> bool:
    """Whether an x86 CPU says that a hypervisor runs it. Elsewhere cores stay where they are, as far as is known."""
    return "hypervisor" in this_cpu()[1]


class CoreLink:
    """A context manager. The first core asks each of the others, ``MOST_PARTNERS`` at the most."""

    def __init__(self) -> None:
        self.least_us: tuple[float, ...] = ()
        """Of each other core, the least that was read so far."""
        self._cores = sorted(os.sched_getaffinity(0))[: MOST_PARTNERS + 1] if is_virtual() else []
        self._memory: mmap.mmap | None = None
        self._echo: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self) -> tuple[float, ...]:
        """Microseconds there and back between the first core and each other one, Python's loop included.

        Infinite for a core that does not answer, which has other work, and for those after it. Empty on a single core,
        on a machine that is not virtual, and where the other end cannot be started or its memory not be had.
        """
        if len(self._cores) < 2:
            return ()
        time.sleep(SETTLE_S)
        mine = os.sched_getaffinity(0)
        try:
            if self._echo is None:
                self._start()
            os.sched_setaffinity(0, self._cores[:1])
            found: list[float] = []
            for place in range(1, len(self._cores)):
                found.append(math.inf if math.inf in found else self._round_trip_us(place))
        except OSError:
            self._stop()
            return ()
        finally:
            os.sched_setaffinity(0, mine)
        self.least_us = tuple(map(min, self.least_us, found)) if self.least_us else tuple(found)
        return tuple(found)

    def _start(self) -> None:
        folder = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(mmap.PAGESIZE))  # not truncate(): with the disk full, touching a hole is a SIGBUS
            file.flush()
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
            words = map(str, (ECHO, file.fileno(), TRIPS, *self._cores))
            self._echo = subprocess.Popen(
                [sys.executable, "-I", "-S", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()],
                bufsize=0,
                process_group=0,  # a Ctrl-C is not for it
            )

    def _stop(self) -> None:
        if self._echo is not None:
            self._echo.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._echo.wait(READY_S)
            for pipe in (self._echo.stdin, self._echo.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._echo = self._memory = None

    def _round_trip_us(self, place: int) -> float:
        best = math.inf
        for _ in range(REPEATS):
            found = self._once_us(place)
            if math.isinf(found):
                self._stop()  # it still waits for the rest of the questions
                return found
            best = min(best, found)
        return best

    def _once_us(self, place: int) -> float:
        if self._echo is None:
            self._start()
        assert self._echo is not None
        assert self._echo.stdin is not None
        assert self._echo.stdout is not None
        assert self._memory is not None
        memory = self._memory
        memory[0] = memory[64] = 0
        self._echo.stdin.write(bytes([place]))
        ready, _, _ = select.select([self._echo.stdout], [], [], READY_S)
        if not ready:
            return math.inf
        if not self._echo.stdout.read(1):
            raise BrokenPipeError("the echo ended")
        start = time.perf_counter()
        for i in range(1, TRIPS + 1):
            memory[0] = i
            for _ in range(MOST_POLLS):
                if memory[64] == i:
                    break
            else:
                return math.inf
        return (time.perf_counter() - start) / TRIPS * 1e6
