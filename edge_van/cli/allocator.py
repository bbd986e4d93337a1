"""Tells the C library to keep memory that is freed: torch frees and takes tens of megabytes in every operator.

In: nothing. Out: a process whose freed blocks stay its own. At 224 px half of the time of calibration went into memory
that the kernel cleared anew for each operator.
"""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""``mallopt``'s names for what is set (malloc.h of glibc)."""
_SET_UP = {
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
}
_KEPT_BYTES = 1 << 30
"""As much may lie unused at the end of the heap before it is given back."""
_STEP_BYTES = 64 << 20
"""The heap grows by as much at least."""


def keep_freed_memory() -> bool:
    """For verbs that run torch, not for what is timed. False where nothing was done: another C library than glibc, or
    one that the user has set up in the environment."""
    if _SET_UP & os.environ.keys() or platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _STEP_BYTES))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
