"""``prune``: what a repository's devices ask for no more, so that a server's disk does not fill up with old bundles.

In: a repository's folder. Out: that folder without those files, how many there were and of how many bytes.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

from edge_van.deployment.repository import METADATA, SNAPSHOT, TARGETS, TARGETS_ROLE, opened
from edge_van.errors import UsageError
from edge_van.storage.files import locked
from edge_van.storage.folders import clear_errors

_VERSIONED = re.compile(r"([1-9][0-9]*)\.(targets|snapshot)\.json")
_TARGET = re.compile(r"[0-9a-f]{64}\..+|\.[0-9a-f]{64}\..+\.part", re.DOTALL)
"""A file, or what a command that was killed had of it."""


def prune(folder: Path, kept_for: timedelta) -> tuple[int, int]:
    """Remove metadata of targets and snapshots that others took the place of longer ago than ``kept_for``, and the
    bundles' files that no targets metadata lists any more: (files, bytes).

    A device in the middle of a download, or one whose snapshot is of a cache, needs those for a while. Roots stay, by
    which devices of long ago follow; and so does every file that was not written by a ``Repository``. It takes no key.
    Raises ``UsageError`` for what is no repository, ``BundleError`` for metadata that cannot be read.
    """
    metadata = folder / METADATA
    if not metadata.is_dir():
        raise UsageError(f"{folder} is no repository: make one with edge-van repository init")
    removed = []
    with clear_errors(folder), locked(metadata):
        before = datetime.now(timezone.utc) - kept_for
        listed: set[str] = set()
        for role in (TARGETS_ROLE, SNAPSHOT):
            kept, old = _split(_versions(metadata, role), before)
            removed += old
            if role == TARGETS_ROLE:
                for path in kept:
                    listed |= {
                        f"{name.rpartition('/')[0]}/{target.hashes['sha256']}.{name.rpartition('/')[2]}"
                        for name, target in opened(path).signed.targets.items()
                    }
        targets = folder / TARGETS
        removed += [
            path
            for path in targets.rglob("*")
            if _TARGET.fullmatch(path.name) and path.is_file() and path.relative_to(targets).as_posix() not in listed
        ]
        size = sum(path.stat().st_size for path in removed)
        for path in removed:
            path.unlink()
    return len(removed), size


def _versions(metadata: Path, role: str) -> list[Path]:
    """Of a role's files, the oldest first."""
    found = {}
    for path in metadata.iterdir():
        if (match := _VERSIONED.fullmatch(path.name)) is not None and match[2] == role:
            found[int(match[1])] = path
    return [found[version] for version in sorted(found)]


def _split(versions: list[Path], before: datetime) -> tuple[list[Path], list[Path]]:
    """(kept, to be removed): a version is old from when the next one was written."""
    kept = versions[-1:]
    old: list[Path] = []
    for path, following in pairwise(versions):
        replaced = datetime.fromtimestamp(following.stat().st_mtime, timezone.utc)
        (old if replaced < before else kept).append(path)
    return kept, old
