"""Reads a weights file of any origin without ever running what is in it.

In: a path. Out: a ``WeightsFile``: what ``torch.save`` or safetensors put there, tensors and plain values.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edge_van.checkpoint.pickle_guard import Pickled, PickleLimitError, check_pickle
from edge_van.checkpoint.stand_ins import runs_code, stand_ins
from edge_van.errors import CheckpointError, MissingRuntimeError, UsageError
from edge_van.text import printable

MAX_BYTES = 4 * 2**30
"""Over this a file is refused unread: b6 with its average and an optimizer's two moments has 3.2 GB."""

LEGACY_PICKLES = 5
"""Magic number, protocol, system, the object, the names of its storages; raw numbers follow."""

_EXPECTED = "expected a checkpoint written by torch.save, or a .safetensors file"
_NAMESPACE = "argparse.Namespace"
_WEIGHTS_ALONE = "save the weights alone where it came from, torch.save(model.state_dict(), 'weights.pth')"

# What people give by mistake: (first bytes, what it is, what to do).
_MISTAKES = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch it with git lfs pull",
    ),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the file inside"),
    (b"BZh", "a bzip2 archive", "unpack it and give the file inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and give the file inside"),
    (b"\x89HDF", "an HDF5 file (Keras)", "give the PyTorch weights"),
    (b"{", "a JSON file", "give the weights beside it"),
)
_ONNX = "an ONNX file: a finished graph, not a checkpoint"


def sniff(path: Path) -> str:
    """``"zip"``, ``"legacy"`` (both from torch.save) or ``"safetensors"``, by the file's first bytes, never its name.

    A ``UsageError`` says that the path leads to no file; a ``CheckpointError`` says what the file is instead.
    """
    try:
        if not path.is_file():
            raise UsageError(f"checkpoint {str(path)!r} {why_no_file(path)}")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); {_EXPECTED}: check the path and its permissions"
        ) from error
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size / 2**30:.1f} GiB; a VAN's checkpoint has at most 4: {_WEIGHTS_ALONE}")
    # Before the others: its first byte is the last of its header's length, which is 0x80, a pickle's, once in 32.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "legacy"
    raise CheckpointError(f"{path} is {_mistake(path, head)}")


def why_no_file(path: Path) -> str:
    """What stands where a checkpoint was expected, and what to give."""
    expected = "give a checkpoint file, a Hugging Face model folder, or imagenet1k"
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(path)) and not path.parent.exists():
        return "is a URL, and files are read: download it, and give its path"
    if path.is_symlink():
        return f"is a link that leads nowhere, or in a ring; {expected}"
    if path.exists():
        return f"is not a regular file; {expected}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not path.parent.exists():
        return f"does not exist; a hub's name of a model is not read, its folder is: download it, or {expected}"
    return f"does not exist; {expected}"


def _mistake(path: Path, head: bytes) -> str:
    """What a file that is no checkpoint is, what was expected, and what to do."""
    if not head:
        return f"empty (0 bytes); {_EXPECTED}: copy or download it again"
    for magic, what, advice in _MISTAKES:
        if head.startswith(magic):
            return f"{what}; {_EXPECTED}: {advice}"
    if head.lstrip().startswith(b"<"):
        return f"an HTML or XML page, perhaps a login or error page saved in its place; {_EXPECTED}: download it again"
    if head[257:262] == b"ustar":
        return f"a tar archive (an official .pth.tar is none, whatever its name); {_EXPECTED}: unpack it"
    # An ONNX file begins with its ir_version (field 1) and goes on with the producer's name (field 2).
    if path.suffix == ".onnx" or (head[0] == 0x08 and head[2:3] == b"\x12"):
        return f"{_ONNX}; {_EXPECTED}: give the weights it was exported from"
    return f"no file of a known kind (it begins with {head[:8].hex(' ')}); {_EXPECTED}: copy or download it again"


@dataclass(frozen=True)
class WeightsFile:
    """``content`` as it was saved, objects of other classes replaced by a ``Skipped``; a safetensors' ``metadata``."""

    content: Any
    metadata: dict[str, str] = field(default_factory=dict)


def read_weights(path: Path, kind: str) -> WeightsFile:
    """What is in a file that ``sniff`` called ``kind``.

    Nothing is unpickled but tensors, plain Python values and ``argparse.Namespace``; objects of any other class are
    passed over, and those that could run code refused. Tensors of a zip or safetensors file are mapped, not copied. A
    damaged, unsafe or oversized file is a ``CheckpointError`` of one line.
    """
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind == "zip":
        _check_zip(path)
    pickled = _check_pickles(path, kind)
    if unsafe := next((name for name in pickled.kinds if runs_code(name)), None):
        raise CheckpointError(f"{path} {_unsafe(unsafe)}")
    # The one class an official checkpoint holds beside tensors and plain values: its training arguments.
    others = stand_ins(pickled, {_NAMESPACE})
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *others]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a file end in the error below, or in nothing
            return WeightsFile(torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip"))
    except Exception as error:
        raise CheckpointError(f"{path} {_torch_reason(error)}") from error


def _check_pickles(path: Path, kind: str) -> Pickled:
    """What the file's pickles name; refuses those that would keep the reader busy for ever."""
    pickled = Pickled()
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.filename.lower().endswith("data.pkl"):  # torch finds it in any case
                        with archive.open(entry) as stream:
                            pickled = pickled.merged(check_pickle(stream))
        else:
            with path.open("rb") as stream:
                size = path.stat().st_size
                for _ in range(LEGACY_PICKLES):
                    if stream.tell() < size:
                        pickled = pickled.merged(check_pickle(stream))
    except PickleLimitError as error:
        raise CheckpointError(f"{path} is more than is read ({printable(error)}): {_WEIGHTS_ALONE}") from error
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut off ({printable(error)}); {_EXPECTED}: copy or download it again"
        ) from error
    return pickled


def _unsafe(name: str) -> str:
    return (
        f"holds {printable(name)}, which could run code when it is read, and was refused; "
        f"only tensors, plain values and argparse.Namespace are read: {_WEIGHTS_ALONE}"
    )


def _torch_reason(error: Exception) -> str:
    """torch.load's many lines as one: its own advice is to switch the protection off, so it is not repeated."""
    text = str(error)
    if match := re.search(r"GLOBAL (\S+)", text):
        return _unsafe(match[1])
    if isinstance(error, pickle.UnpicklingError):
        detail = text.split("WeightsUnpickler error:")[-1].split("Check the documentation")[0]
        return (
            f"holds pickle instructions beyond tensors and plain values, and was refused "
            f"({printable(detail.strip())}); {_EXPECTED}: {_WEIGHTS_ALONE}"
        )
    detail = printable((text.splitlines() or [type(error).__name__])[0])
    return f"is damaged or cut off ({detail}); {_EXPECTED}: copy or download it again"


def _check_zip(path: Path) -> None:
    """Refuses a zip that torch.save did not write, one that unpacks to more than it is, or one with a bit turned over:
    torch itself looks at no checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or cut off (its zip directory cannot be read); {_EXPECTED}: copy or download it again"
        ) from error
    names = [entry.filename.lower() for entry in entries]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path} holds two entries of one name, which torch.save never writes: {_WEIGHTS_ALONE}")
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, a program with its weights; {_EXPECTED}: {_WEIGHTS_ALONE}"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(
            f"{path} is an archive of NumPy arrays; {_EXPECTED}: save the state dict of the PyTorch network"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a zip archive that torch.save did not write; {_EXPECTED}: unpack it and give the weights inside"
        )
    # torch.save stores every entry as it is: a packed one is somebody else's work, and the way a zip bomb is made.
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_BYTES or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path} is a zip archive with compressed or oversized entries ({path.stat().st_size} bytes unpack to "
            f"{unpacked}); torch.save stores them uncompressed: {_WEIGHTS_ALONE}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or cut off ({printable(error)}): copy or download it again"
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged or cut off (the checksum of {printable(damaged)} does not fit): copy or download it "
            f"again"
        )


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingRuntimeError(
            f"{path} is a .safetensors file and safetensors is not installed; pip install 'edge-van[quantize]'"
        ) from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return WeightsFile(tensors, dict(file.metadata() or {}))
    except Exception as error:
        detail = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise CheckpointError(
            f"{path} is a damaged or cut off .safetensors file ({detail}): copy or download it again"
        ) from error
