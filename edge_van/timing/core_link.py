"""How long a word takes from one core to another and back: what no counter of the kernel tells of a virtual machine.

In: the cores of this process. Out: microseconds, again and again during a run.

A hypervisor moves virtual cores about. Where two that shared a cache come to lie on parts of the processor that share
none, what they write to one another takes three times as long, and an engine whose threads meet after every layer runs
half as fast again or worse, some models more so than others: 1.5 times for 0.9 ms, seen on an EPYC of two virtual
cores. No CPU time is stolen then, and one thread alone is as fast as ever.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ECHO = Path(__file__).with_name("core_echo.py")
TRIPS, REPEATS = 100, 5
"""The best of ``REPEATS`` times ``TRIPS``: a tenth of a millisecond a pair of cores."""
MOST_POLLS = 2_000_000
"""Some tenths of a second without an answer: the other core does something else."""
MOST_PARTNERS = 7
SETTLE_S = 0.010
"""Threads of an engine spin for a while after a run, on the very cores that are asked."""


class CoreLink:
    """A context manager. The first core asks each of the others, ``MOST_PARTNERS`` at the most."""

    def __init__(self) -> None:
        self.least_us: tuple[float, ...] = ()
        """Of each other core, the least that was read so far."""
        self._cores = sorted(os.sched_getaffinity(0))[: MOST_PARTNERS + 1]
        self._memory: mmap.mmap | None = None
        self._echo: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self) -> tuple[float, ...]:
        """Microseconds there and back between the first core and each other one; infinite where none came back.

        Empty on a single core, and where a process cannot be started.
        """
        if len(self._cores) < 2:
            return ()
        time.sleep(SETTLE_S)
        mine = os.sched_getaffinity(0)
        try:
            if self._echo is None:
                self._start()
            os.sched_setaffinity(0, self._cores[:1])
            found = tuple(self._round_trip_us(place) for place in range(1, len(self._cores)))
            self.least_us = tuple(map(min, self.least_us, found)) if self.least_us else found
            return found
        except OSError:
            self._stop()
            return ()
        finally:
            os.sched_setaffinity(0, mine)

    def _start(self) -> None:
        descriptor = os.memfd_create("core_link")
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
            command = [sys.executable, "-I", "-S", str(ECHO), *map(str, (descriptor, TRIPS, *self._cores))]
            self._echo = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor], bufsize=0
            )
        finally:
            os.close(descriptor)

    def _stop(self) -> None:
        if self._echo is not None:
            self._echo.kill()
            self._echo.wait()
            for pipe in (self._echo.stdin, self._echo.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._echo = self._memory = None

    def _round_trip_us(self, place: int) -> float:
        return min(self._once_us(place) for _ in range(REPEATS))

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
        if not self._echo.stdout.read(1):
            raise BrokenPipeError("the echo ended")
        start = time.perf_counter()
        for i in range(1, TRIPS + 1):
            memory[0] = i
            for _ in range(MOST_POLLS):
                if memory[64] == i:
                    break
            else:
                self._stop()
                return math.inf
        return (time.perf_counter() - start) / TRIPS * 1e6
