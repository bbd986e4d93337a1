"""Folders that appear whole or not at all, whatever interrupts the writing; files: ``edge_van.storage.files``.

In: an output folder's path. Out: a locked hidden folder beside it, a rename into place, OSErrors in plain words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from edge_van.errors import BundleError

STALE_AFTER_S = 24 * 3600.0

_WRITABLE = "choose a folder you may write to, or a copy in one"
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EACCES: f"permission denied; {_WRITABLE}",
    errno.EPERM: f"not permitted; {_WRITABLE}",
    errno.EROFS: f"the file system is read-only; {_WRITABLE}",
    errno.EFBIG: "the file is larger than the file system or a limit allows; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTEMPTY: "something else was put there meanwhile; move it away and run again",
    errno.EEXIST: "something else was put there meanwhile; move it away and run again",
}
_ABOUT_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def clear_errors(output: Path) -> Iterator[None]:
    """Turn every OSError of code that does nothing but write ``output`` into a ``BundleError``."""
    try:
        yield
    except OSError as error:
        raise _as_bundle_error(error, output) from error


def explained(error: OSError, output: Path) -> BundleError | None:
    """The ``BundleError`` for an OSError from code that wrote into ``output`` but did other things too.

    None where it is none of ours: a permission denied on some file elsewhere says nothing of the output. A full disk
    always does; its message names the file.
    """
    if error.errno not in _ADVICE:
        return None
    if error.errno not in _ABOUT_SPACE and isinstance(error.filename, str):
        path = Path(error.filename).absolute()
        beside_output = path.is_relative_to(output.parent) and any(
            part == output.name or part.startswith(f".{output.name}.")
            for part in path.relative_to(output.parent).parts[:1]
        )
        if not beside_output and path not in output.parents:
            return None
    return _as_bundle_error(error, output)


def _as_bundle_error(error: OSError, output: Path) -> BundleError:
    at = f" (at {error.filename})" if error.filename else ""
    advice = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return BundleError(f"{output} cannot be written{at}: {advice}")


def require_writable(folder: Path, output: Path | None = None) -> None:
    """``BundleError``, before any work, where no file can be made in ``folder``; it names ``output``, by default that
    folder. What every command says of a bundle that is read-only.

    A file without a name is made: root may do anything by the permissions, on a read-only disk and in /proc too.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        output = output or folder
        named = None if folder.absolute() == output.absolute() else str(folder)  # not that of the file
        raise _as_bundle_error(OSError(error.errno, error.strerror, named), output) from error


def free_space_check(path: Path, needed_bytes: int) -> None:
    """``BundleError`` with the numbers unless the disk that ``path`` is or would be on has ``needed_bytes`` free."""
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if (free := shutil.disk_usage(there).free) < needed_bytes:
        raise BundleError(
            f"{path} needs {needed_bytes / 2**20:,.1f} MiB, {free / 2**20:,.1f} MiB are free on its disk; "
            "free some space or choose another folder"
        )


def make_parents(output: Path, made: list[Path]) -> None:
    """Make the folders above ``output`` that are not there yet; each one made is added to ``made``, outermost first."""
    for folder in [p for p in output.parents if not p.exists()][::-1]:
        folder.mkdir(exist_ok=True)
        made.append(folder)


def hidden_folder(output: Path) -> tuple[Path, int]:
    """A new hidden folder beside ``output`` and the file descriptor that holds its lock for as long as it is open.

    The kernel drops the lock when the process dies, however it dies: that tells an abandoned folder from one at work,
    across containers and reused process numbers too.
    """
    while True:
        folder = beside(output, "partial", secrets.token_hex(6))
        folder.mkdir()  # not mkdtemp: its 0700 would stay on the finished bundle
        lock = lock_folder(folder)
        if folder.is_dir():  # another run's clean-up may have seen it before it was locked
            return folder, lock
        os.close(lock)


def lock_folder(folder: Path) -> int:
    """Wait for the folder's lock; the file descriptor to close. Without effect on file systems that know no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def put_in_place(
    folder: Path, output: Path, check: Callable[[Path], None], commit: Callable[[], None] = lambda: None
) -> None:
    """Rename the hidden ``folder`` to ``output``; what was there is moved aside, and put back on any failure.

    Else it is removed: ``check`` sees it once it is aside, where nobody finds it by its name any more, and raises if it
    must not be. ``commit`` runs with ``folder`` in place: what it raises undoes that too.
    """
    aside = beside(output, "replaced", folder.name.rpartition("-")[2])  # so that it is known which run moved it
    try:
        if output.exists():
            output.rename(aside)
            check(aside)
        folder.rename(output)
        commit()
    except BaseException:
        if output.exists() and not folder.exists():
            output.rename(folder)
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def clean_up_after_killed_runs(output: Path) -> None:
    """Remove hidden folders that killed runs left beside ``output``; give back a folder caught between two renames."""
    pattern = re.compile(re.escape(f".{output.name}.") + "(partial|replaced)-([0-9a-f]{12})")
    for folder in output.parent.iterdir():
        match = pattern.fullmatch(folder.name)
        if match is None or folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):  # another user's, or gone already: then it is not for us to touch
            if match[1] == "replaced" and not output.exists():
                _give_back(folder, beside(output, "partial", match[2]), output)
            else:
                with _abandoned(folder) as abandoned:
                    if abandoned:
                        shutil.rmtree(folder)


def is_being_written(output: Path) -> bool:
    """Whether another command has a hidden folder at work that is to lie at ``output``. False where the file system
    knows no locks: nothing tells such a folder from a killed run's."""
    pattern = re.compile(re.escape(f".{output.name}.") + "partial-[0-9a-f]{12}")
    there = output.parent.iterdir() if output.parent.is_dir() else iter(())
    return any(_is_locked(folder) for folder in there if pattern.fullmatch(folder.name) and not folder.is_symlink())


def _is_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        return try_lock(descriptor) is False
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Take the lock without waiting, alone or ``shared`` with others that share it: False where another process has it,
    None where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _give_back(aside: Path, partial: Path, output: Path) -> None:
    """Rename ``aside`` to ``output``, unless the run that moved it lives: its ``partial`` is about to go there."""
    if not partial.is_dir():  # cleaned up before, or in its place by now: nothing that holds files is renamed over
        aside.rename(output)
        return
    with _abandoned(partial) as abandoned:
        if abandoned:
            aside.rename(output)


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether the run that made ``folder`` is dead; inside the block its lock is ours."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        locked = try_lock(descriptor)
        abandoned = locked is not False
        if locked is None:  # only age can tell
            newest = max(os.lstat(path).st_mtime for path in (folder, *folder.rglob("*")))
            abandoned = time.time() - newest > STALE_AFTER_S
        yield abandoned
    finally:
        os.close(descriptor)


def beside(output: Path, purpose: str, token: str) -> Path:
    """The hidden name next to ``output`` of what is on its way there (``partial``) or was there (``replaced``)."""
    return output.parent / f".{output.name}.{purpose}-{token}"


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it; a leftover of the same name is replaced, never followed."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def raise_on_termination() -> dict[int, Any]:
    """Let SIGTERM and SIGHUP end the program through ``SystemExit``, so that clean-up runs; the handlers to restore.

    A signal someone handles or ignores already (nohup) stays theirs; outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    return {number: signal.signal(number, _leave_the_program) for number in numbers}


def add_goes_on(stop: BaseException) -> None:
    """Let the message of an interrupt say that nothing was lost."""
    # as add_note, which Python 3.10 lacks
    vars(stop)["__notes__"] = [*getattr(stop, "__notes__", ()), "the same command goes on where it was stopped"]


@contextmanager
def raised_on_termination() -> Iterator[None]:
    """``raise_on_termination`` inside a ``with``, undone at its end."""
    handlers = raise_on_termination()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave_the_program(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
