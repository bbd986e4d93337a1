"""Which file says what is true of a set of images: the one that is given, or one that lies with them.

In: a path of labels, or of images. Out: the name and the bytes of a file of labels.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from edge_van.errors import DataError, UsageError
from edge_van.images.label_files import SUFFIXES
from edge_van.images.labels import listed

MAX_BYTES = 512 * 2**20
_NAMES = ("labels", "metadata", "annotations", "_annotations", "_classes")
"""Of a file of labels that is found by itself, in the folder of the images or at the root of their archive."""


def read_labels(labels: Path) -> tuple[str, bytes]:
    """(name, content); ``UsageError`` for a file that is not there or called otherwise, ``DataError`` for no file."""
    if not labels.name.lower().endswith(SUFFIXES):
        raise UsageError(f"{labels} has none of the suffixes of label files ({' '.join(SUFFIXES)}): rename it")
    try:
        info = labels.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_BYTES:  # a pipe would block
            raise DataError(f"{labels} is no regular file, or over {MAX_BYTES} bytes: it is no file of labels")
        return labels.name, labels.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{labels} is not there: give the file of the labels") from error
    except OSError as error:
        raise DataError(f"{labels} cannot be read ({error.strerror}): give the file of the labels") from error


def find_labels(path: Path) -> tuple[str, bytes] | None:
    """(name, content) of a file of labels in the folder or archive, or beside the archive under its name."""
    names = {f"{stem}{suffix}" for stem in _NAMES for suffix in SUFFIXES}
    if path.is_dir():
        there = sorted(path / name for name in names if (path / name).is_file())
    else:
        if (inside := _in_archive(path, names)) is not None:
            return inside
        there = [beside for suffix in SUFFIXES if (beside := path.with_suffix(suffix)).is_file()]
    if len(there) > 1:
        raise DataError(
            f"{path} has several files of labels ({listed([f.name for f in there])}): give one with --labels"
        )
    return read_labels(there[0]) if there else None


def _in_archive(path: Path, names: set[str]) -> tuple[str, bytes] | None:
    """At the root, or in the one folder that is there. As images are, it is unpacked only from what can be bounded."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.replace("\\", "/").removeprefix("./"): info for info in archive.infolist()}
            seen = {name: i for name, i in entries.items() if not name.startswith((".", "__MACOSX/"))}
            roots = {name.partition("/")[0] for name in seen if not name.endswith("/") or "/" in name[:-1]}
            wrapped = f"{next(iter(roots))}/" if len(roots) == 1 else ""
            there = [i for name, i in seen.items() if name in names or name.removeprefix(wrapped) in names]
            if not there:
                return None
            if len(there) > 1:
                raise DataError(f"{path} has several files of labels: give one with --labels FILE")
            [info] = there
            if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{path} has {info.filename} encrypted, or neither stored nor deflated: pack it again")
            if info.file_size > MAX_BYTES:
                raise DataError(f"{path}: {info.filename} unpacks to over {MAX_BYTES} bytes: it is no file of labels")
            return PurePosixPath(info.filename.replace("\\", "/")).name, archive.read(info)
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises anything, from zlib's own to UnicodeDecodeError
        raise DataError(f"{path}: its file of labels cannot be read ({str(error)[:80]}); pack it again") from error
