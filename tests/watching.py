"""A reporter that a test looks at afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watching:
    """Keeps by how much each stage advanced, and what it was told."""

    def __init__(self, done: list[int] | None = None) -> None:
        self.done: list[int] = [] if done is None else done
        self.notes: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield self.done.append

    def note(self, text: str) -> None:
        self.notes.append(text)
