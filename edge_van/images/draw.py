"""The seeded, class-balanced draw of a calibration set, and the content hashes that keep it apart from other sets.

In: an ``ImageSet``, how many, a seed, hashes to leave out. Out: positions in the set, the same on every machine.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge_van.errors import UsageError
from edge_van.images.decode import BrokenImageError
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage


@dataclass(frozen=True)
class Draw:
    """Positions in ``ImageSet.items``, in the order drawn, and what was left out on the way."""

    indices: tuple[int, ...]
    excluded: int  # their content is among the excluded hashes
    repeated: int  # their content was drawn before
    unreadable: tuple[BrokenImage, ...]
    hashes: tuple[str, ...]  # of the contents drawn, in the same order

    @property
    def left_out(self) -> int:
        return self.excluded + self.repeated + len(self.unreadable)


def draw_balanced(images: ImageSet, count: int, *, seed: int, exclude_hashes: frozenset[str] = frozenset()) -> Draw:
    """Draw ``count`` images, equally many per class as far as the classes go; fewer if the set has no more.

    Classes take turns, so a shorter draw with the same seed is the start of a longer one. Left out and counted are
    images whose content hash is in ``exclude_hashes``, repeated contents, and files that cannot be read; only images
    that come up are hashed. The order depends on seed, class and file name alone: it is the same on every machine,
    in a folder and in an archive, and does not rest on a random generator that may change. UsageError: count < 1.
    """
    if count < 1:
        raise UsageError(f"count is a number of images of 1 or more; got {count!r}")

    def rank(index: int) -> tuple[bytes, int]:
        item = images.items[index]
        # class and file name; unlabelled, the file name alone, as what lies above it may be a wrapping folder
        key = "/".join(item.name.rsplit("/", 2)[-2 if item.label is not None else -1 :])
        return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogateescape")).digest(), index

    per_class: dict[int | None, list[int]] = {}
    for _, index in sorted(map(rank, range(len(images.items)))):
        per_class.setdefault(images.items[index].label, []).append(index)
    # in the order in which each class first came up: it decides, by the seed, which classes get one image more
    turns = deque(deque(candidates) for candidates in per_class.values())
    drawn: list[int] = []
    drawn_hashes: dict[str, None] = {}  # in order
    excluded = repeated = 0
    unreadable: list[BrokenImage] = []
    while turns and len(drawn) < count:
        candidates = turns.popleft()
        while candidates:
            index = candidates.popleft()
            try:
                digest = images.content_hash(index)
            except BrokenImageError as error:
                unreadable.append(BrokenImage(images.items[index].name, error.reason))
                continue
            if digest in exclude_hashes or digest in drawn_hashes:
                excluded += digest in exclude_hashes
                repeated += digest in drawn_hashes
                continue
            drawn_hashes[digest] = None
            drawn.append(index)
            turns.append(candidates)
            break
    return Draw(tuple(drawn), excluded, repeated, tuple(unreadable), tuple(drawn_hashes))


def fingerprint(contents: Iterable[str]) -> str:
    """One sha256 for a set of content hashes, whatever their order."""
    return hashlib.sha256("\n".join(sorted(contents)).encode()).hexdigest()


def hashes(images: ImageSet, workers: int | None = None) -> frozenset[str]:
    """The content hashes of all images that can be read, for ``draw_balanced(exclude_hashes=...)``."""
    workers = min(4, os.cpu_count() or 1) if workers is None else workers

    def part(start: int) -> set[str]:
        hashes_of_part = set()
        for index in range(start, min(start + 256, len(images.items))):
            try:
                hashes_of_part.add(images.content_hash(index))
            except BrokenImageError:
                continue
        return hashes_of_part

    with ThreadPoolExecutor(workers, thread_name_prefix="edge-van-hash") as pool:
        return frozenset().union(*pool.map(part, range(0, len(images.items), 256)))
