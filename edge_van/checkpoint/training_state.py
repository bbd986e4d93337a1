"""What a training goes on from after it was interrupted: tensors and counters in one file.

In: nested dictionaries, lists, numbers, strings and tensors, and a key that says of which training. Out: the same, from
a file that appears whole or not at all and is read without executing anything.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from edge_van.errors import CheckpointError, UsageError
from edge_van.storage.files import replace_file
from edge_van.storage.folders import add_goes_on, clear_errors, try_lock

SUFFIX, LOCK = ".pt", "lock"
RUNGS = "rungs.json"
"""What was tried to keep within a budget; see ``budget.memory``."""
TRIALS = "trials-"
"""What a folder's name starts with where candidates are made: a killed command's is of no use to another."""


@contextmanager
def training_states(output: Path, *, keep_rungs: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """The folder, hidden beside ``output``, where trainings keep their states: for this command alone. When all went
    well those that it wrote or went on from are gone, but for ``RUNGS`` where ``keep_rungs`` says so; another
    training's stay. An interrupt after a state was kept gets a note that says so. ``BundleError`` where the folder
    cannot be made, ``UsageError`` where another command trains for ``output``.
    """
    folder = output.with_name(f".{output.name}.training")
    with clear_errors(output):
        folder.mkdir(parents=True, exist_ok=True)
        # not the folder itself, whose lock is that of whoever replaces a file in it
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        locked = try_lock(descriptor)
        if locked is False:
            raise UsageError(f"another command trains for {output}: wait for it, or give another --output")
        if locked:  # else it may be another command's
            for left in folder.glob(f"{TRIALS}*"):
                shutil.rmtree(left, ignore_errors=True)
        before = _states(folder)
        try:
            yield folder
        except (KeyboardInterrupt, SystemExit) as stop:
            if _states(folder) != before:  # what was there may be another training's
                add_goes_on(stop)
            raise
        with suppress(OSError):  # what is done is done
            for name, written in _states(folder).items():
                if before.get(name) != written and (name != RUNGS or not keep_rungs()):
                    (folder / name).unlink()
    finally:
        with suppress(OSError):  # also after an error that came before anything was kept
            if not _states(folder) and _is_mine(descriptor):
                (folder / LOCK).unlink()
                folder.rmdir()
        os.close(descriptor)


def _states(folder: Path) -> dict[str, int]:
    """When each state was written, in ns."""
    kept = [*folder.glob(f"*{SUFFIX}"), *folder.glob(RUNGS)]
    return {path.name: path.stat().st_mtime_ns for path in kept}


def _is_mine(descriptor: int) -> bool:
    """Whether the lock is held here, or could not be by anyone: some file systems know no locks."""
    return try_lock(descriptor) is not False


def save_training_state(path: Path, key: str, state: dict[str, Any]) -> None:
    """Put ``state`` in the place of ``path``, in a folder that is there. ``BundleError`` where it cannot be written."""
    buffer = io.BytesIO()
    torch.save({"key": key, "state": state}, buffer)
    replace_file(path, buffer.getvalue())


def load_training_state(path: Path, key: str) -> dict[str, Any] | None:
    """None where there is no file.

    Raises ``CheckpointError`` for a file that cannot be read, ``UsageError`` for the state of another training: hours
    of work are not thrown away for a flag that was changed by mistake.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a training's state ({type(error).__name__}): delete it to start anew"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"{path} is no training's state: delete it to start anew")
    if content.get("key") != key:
        raise UsageError(
            f"{path} is the state of a training with other images, settings or versions: give the same again to go on, "
            f"delete it to start anew, or give another --output"
        )
    take_over(path)
    state: dict[str, Any] = content["state"]
    return state


def take_over(path: Path) -> None:
    """Make a state that is gone on from this command's own, which removes it when all went well."""
    with suppress(OSError):
        os.utime(path)
