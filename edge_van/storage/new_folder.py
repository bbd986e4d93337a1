"""One way to write a folder whole: into a hidden one beside it, renamed into place at the end.

In: an output folder's path. Out: a folder to write into, which lies at the output after ``put_in_place``, or is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_van.storage.folders import (
    clean_up_after_killed_runs,
    clear_errors,
    explained,
    hidden_folder,
    lock_folder,
    make_parents,
    put_in_place,
    raise_on_termination,
    sync,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class NewFolder:
    """Context manager: ``path`` is the hidden folder, locked for as long as this process works on it.

    Leaving without ``put_in_place``, by whatever exception, Ctrl-C or SIGTERM, removes it with the parents that were
    made for it, and leaves an output that was there as it was. An OSError of the body that is about the output becomes
    a ``BundleError`` in plain words.

    ``check`` looks at the output once its parents are there, and raises where it may not be written. With
    ``one_at_a_time`` others that write beside the output wait until this is left.
    """

    def __init__(self, output: Path, *, check: Callable[[], None] = lambda: None, one_at_a_time: bool = False) -> None:
        self.output = output
        self._check, self._one_at_a_time = check, one_at_a_time
        self._folder: Path | None = None
        self._locks: list[int] = []
        self._turn: list[int] = []
        self._made: list[Path] = []
        self._signals: dict[int, Any] = {}

    @property
    def path(self) -> Path:
        if self._folder is None:
            raise RuntimeError("a new folder is written inside its with block and before it is put in place")
        return self._folder

    def __enter__(self) -> Self:
        try:
            self._signals = raise_on_termination()
            with clear_errors(self.output):
                make_parents(self.output, self._made)
                if self._one_at_a_time:
                    self._turn.append(lock_folder(self.output.parent))
                clean_up_after_killed_runs(self.output)
                self._check()
                self._folder, lock = hidden_folder(self.output)
                self._locks.append(lock)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if isinstance(error, OSError) and (clear := explained(error, self.output)):
            raise clear from error

    def put_in_place(
        self, check_replaced: Callable[[Path], None] = lambda there: None, commit: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for the disk, then rename; ``check_replaced`` and ``commit`` as ``folders.put_in_place`` takes them."""
        folder = self.path
        with clear_errors(self.output):
            for above, _, files in os.walk(folder):
                for path in (*(Path(above, name) for name in files), Path(above)):
                    sync(path)
            sync(folder.parent)
            put_in_place(folder, self.output, check_replaced, commit)
            self._folder, self._made = None, []
            _close(self._locks)  # the folder is anybody's now, who may wait for its lock
            sync(self.output.parent)

    def _leave(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        for parent in reversed(self._made):
            if self._one_at_a_time and parent == self.output.parent:
                continue  # others may wait for its lock
            with suppress(OSError):  # somebody else's file is in it by now
                parent.rmdir()
        self._made = []
        _close(self._locks)
        _close(self._turn)
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals = {}


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
