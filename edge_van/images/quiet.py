"""What Pillow's libraries write to standard error by themselves, switched off: a damaged image is said by its name.

In: nothing. Out: libtiff without its own messages, in this process.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress


def silence_libtiff() -> None:
    """Take libtiff's handlers of errors and warnings away, of which Pillow sets none: it raises by itself.

    They write a line for each bad code word of an image. The library is the one that Pillow's extension is
    linked with; one that is linked into it without its symbols keeps them.
    """
    from PIL import _imaging

    with suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(libtiff, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
