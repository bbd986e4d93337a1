"""What a training goes on from after it was interrupted: tensors and counters in one file.

In: nested dictionaries, lists, numbers, strings and tensors, and a key that says of which training. Out: the same, from
a file that appears whole or not at all and is read without executing anything.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from edge_van.errors import CheckpointError
from edge_van.storage.files import replace_file


def save_training_state(path: Path, key: str, state: dict[str, Any]) -> None:
    """Put ``state`` in the place of ``path``, in a folder that is there. ``BundleError`` where it cannot be written."""
    buffer = io.BytesIO()
    torch.save({"key": key, "state": state}, buffer)
    replace_file(path, buffer.getvalue())


def load_training_state(path: Path, key: str) -> dict[str, Any] | None:
    """None where there is no file, or one of a training with another key.

    Raises ``CheckpointError`` for a file that cannot be read.
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
    state: dict[str, Any] = content["state"]
    return state if content.get("key") == key else None
