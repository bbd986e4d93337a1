"""Files that appear whole or not at all, also where two commands write the same one.

In: a path, bytes. Out: the file, renamed into its place; a ``BundleError`` where it cannot be written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_van.errors import BundleError, UsageError
from edge_van.storage.folders import (
    STALE_AFTER_S,
    beside,
    clear_errors,
    raised_on_termination,
    require_writable,
    sync,
    write_durably,
)

LONGEST_NAME_BYTES = 233
"""255, which file systems take, without what the name of a partial file adds to that of the whole one."""
_CHUNK = 1 << 18
_PARTIAL = re.compile(r"\.(.+)\.partial-[0-9a-f]{12}", re.DOTALL)


def sha256_of(path: Path) -> str:
    """Of the file's bytes, in hexadecimal. Raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()


def require_output(output: Path, *, longest: int = LONGEST_NAME_BYTES) -> None:
    """``UsageError``, before minutes of work, for an output that is no file's path; ``BundleError`` where it cannot be
    written. ``longest`` is how long its name may be in bytes."""
    if len(os.fsencode(output.name)) > longest:
        raise UsageError(f"--output has a name of over {longest} bytes: give a shorter one")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output} lies in a folder that is not there: give a file's path")
    if output.exists() and not output.is_file():
        what = "is a folder" if output.is_dir() else "is no file but a device, a pipe or a socket"
        raise UsageError(f"--output {output} {what}: give a file's path")
    require_writable(output.parent)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put ``content`` in the place of ``path`` in one step: an interrupt leaves what was there, or the new file.

    A link is replaced, not followed; a device or a pipe is refused. Waits for another command that writes into the same
    folder. ``durable`` False is for many files that are easily made again: the disk is not waited for, nor are partial
    files of killed commands looked for (``remove_leftovers`` does). ``BundleError`` where it cannot be written.
    """
    with raised_on_termination(), clear_errors(path), locked(path.parent) as alone:
        if durable:
            remove_leftovers(path.parent, (path.name,), alone=alone)
        _put(path.parent, {path.name: content}, durable)


def replace_files(folder: Path, files: Mapping[str, bytes], *, alone: bool) -> None:
    """Put several ``files``, by their names, into ``folder``, durably: all are written, then renamed in order.

    To be called inside ``locked``, whose answer ``alone`` is. Raises OSError.
    """
    remove_leftovers(folder, files, alone=alone)
    _put(folder, files, durable=True)


def _put(folder: Path, files: Mapping[str, bytes], durable: bool) -> None:
    # A name of its own, not one for all: without locks two commands would rename each other's half-written files.
    partials = {name: beside(folder / name, "partial", secrets.token_hex(6)) for name in files}
    try:
        for name, partial in partials.items():
            _check_no_device(folder / name)
            if durable:
                write_durably(partial, files[name])
            else:
                partial.write_bytes(files[name])
        for name, partial in partials.items():
            partial.replace(folder / name)
        if durable:
            sync(folder)
    finally:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _check_no_device(path: Path) -> None:
    """Root may rename over /dev/null, and then the machine has none."""
    with suppress(FileNotFoundError):
        if stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
            raise BundleError(f"{path} is a device, pipe or socket and is not replaced: give the path of a file")


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Wait for the folder's lock and hold it; False on a file system that knows no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, names: Container[str], *, alone: bool) -> None:
    """Remove the partial files that killed commands left of files of these ``names``. To be called inside ``locked``.

    A partial file is only ever there under the folder's lock: whoever holds it sees none but leftovers. Where there are
    no locks only age tells.
    """
    for path in folder.iterdir():
        if partial_of(path.name) not in names:
            continue
        with suppress(OSError):  # another user's, or gone already
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and (alone or time.time() - info.st_mtime > STALE_AFTER_S):
                path.unlink()


def partial_of(name: str) -> str | None:
    """The name that a partial file, which is called ``name``, would get once it is whole; None for any other file."""
    match = _PARTIAL.fullmatch(name)
    return None if match is None else match[1]
