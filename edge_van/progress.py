"""How long work tells what it does: stages with a count, shown as bars with an ETA on a terminal.

In: a stage's name and its total. Out: a callable that takes the amount done since its last call.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from edge_van.text import one_line

Advance = Callable[[int], None]


class Reporter(Protocol):
    """What a pipeline needs of whoever watches it."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Shows nothing: for library use."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        yield lambda amount: None

    def note(self, text: str) -> None:
        pass


SILENT = Silent()


@contextmanager
def no_signal_lost() -> Iterator[Callable[[], None]]:
    """No Ctrl-C or SIGTERM is lost inside: yields a function that raises one again which the work swallowed.

    Python drops an exception that a signal's handler raises while a weak reference's callback or a destructor runs, and
    torch's graph capture runs thousands; C++ engines turn it into an error of theirs. Does nothing off the main thread.
    """
    pending: list[int] = []
    before = _handlers()

    def note(number: int, frame: FrameType | None) -> None:
        pending.append(number)
        before[number](number, frame)

    def raise_again() -> None:
        if pending:
            before[pending[0]](pending[0], None)

    try:
        for number in before:
            signal.signal(number, note)
        yield raise_again
    except Exception:
        raise_again()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise_again()


def _handlers() -> dict[int, Any]:
    """What Python does at each signal that ends a program; nothing off the main thread, which hears none."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    return {int(n): handler for n, handler in handlers.items() if callable(handler)}


@contextmanager
def signals_wait() -> Iterator[None]:
    """A Ctrl-C or SIGTERM inside comes at the end: the extensions of onnx and TensorRT abort the process where an
    exception reaches them while they are imported. Does nothing off the main thread."""
    pending: list[int] = []
    before = _handlers()
    for number in before:
        signal.signal(number, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pending:
            before[pending[0]](pending[0], None)


@dataclass(frozen=True)
class Work:
    """What every stage needs to know of whoever asked for it: who watches, and whether a broken image is fatal."""

    reporter: Reporter = SILENT
    strict: bool = False

    def warn(self, texts: Iterable[str]) -> None:
        """Tell the watcher; the stage returns the same texts as well."""
        for text in texts:
            self.reporter.note(f"warning: {text}")


UNWATCHED = Work()


class Terminal:
    """Bars with rate and ETA on standard error, gone when done; one plain line a stage where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        if not self._console.is_terminal:
            self._console.print(f"{name} ...")
            with no_signal_lost() as check:
                yield lambda amount: check()
            return
        columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        if total is not None:
            columns += [MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn()]
        with no_signal_lost() as check, Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(name, total=total, rate="")

            def advance(amount: int) -> None:
                check()
                progress.advance(task, amount)
                speed = progress.tasks[0].speed
                progress.update(task, rate=f"{speed:.0f}/s" if speed else "")

            yield advance

    def note(self, text: str) -> None:
        self._console.print(one_line(text))
