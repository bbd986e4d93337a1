"""The other end of ``core_link``: a process that answers from the core it is told to be on.

In: a shared memory's file descriptor, how many round trips, and the cores as arguments; on standard input one byte a
probe, the place of its core among them. Out: a byte when it is ready, then the answers in the memory.
"""

import mmap
import os
import signal
import sys

GIVEN_UP_S = 1.0
"""The asking process may be gone, or be stopped: then this one is killed instead of spinning for ever."""


def main() -> None:
    """Runs by itself, without the package, to be there in milliseconds; ends with its standard input."""
    memory = mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE)
    trips, *cores = (int(word) for word in sys.argv[2:])
    while asked := os.read(0, 1):
        signal.setitimer(signal.ITIMER_REAL, GIVEN_UP_S)
        os.sched_setaffinity(0, {cores[asked[0]]})
        os.write(1, b"!")
        for i in range(1, trips + 1):
            while memory[0] != i:
                pass
            memory[64] = i  # another cache line than the question
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
