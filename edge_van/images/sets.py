"""Labelled images from a folder tree or a zip archive.

In: a path. Out: an ``ImageSet``: names in a stable order, labels, and the bytes of each image when asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_van.errors import DataError, UsageError
from edge_van.images.decode import BrokenImageError
from edge_van.images.labels import folder_labels

_JPEG, _HEIF = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), (".heic", ".heif")
SUFFIXES = (*_JPEG, ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", *_HEIF)
MAX_BYTES = 256 * 2**20
"""A file that unpacks to more is not read: it is no photograph, and may be a zip bomb."""


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image: its path inside the source, with forward slashes, and the index of its class (None: unknown)."""

    name: str
    label: int | None


@dataclass(frozen=True)
class ImageSet:
    """The images of one source, sorted by path. A context manager; reads may come from several threads at once.

    classes  class names in the order of the labels; None where the images are unlabelled
    ignored  files that are hidden or carry no image suffix
    warnings of what was matched that is not the same, and of classes without an image, a line each
    targets  bool (images, classes), which labels each image has, where it may have several; None elsewhere
    """

    source: Path
    items: tuple[ImageItem, ...] = field(repr=False)
    classes: tuple[str, ...] | None
    ignored: int
    _store: _Folder | _Zip = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    targets: npt.NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> bytes:
        """The bytes of the image file; BrokenImageError where they cannot be had or are over ``MAX_BYTES``."""
        return self._store.read(self.items[index].name)

    def content_hash(self, index: int) -> str:
        """SHA-256 of the image file, in hexadecimal; raises as ``read`` does."""
        return hashlib.sha256(self.read(index)).hexdigest()

    @property
    def truth_sha256(self) -> str:
        """SHA-256 of the images' names with what is true of each: labels may change while the images do not."""
        rows = [(item.name, item.label) for item in self.items]
        targets = b"" if self.targets is None else self.targets.tobytes()
        return hashlib.sha256(repr((self.classes, rows)).encode() + targets).hexdigest()

    def close(self) -> None:
        """Let go of the source. Reading from a closed archive is an error."""
        self._store.close()

    def __enter__(self) -> ImageSet:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_images(
    path: Path, classes: Sequence[str] | None = None, num_classes: int | None = None, labelled: bool = True
) -> ImageSet:
    """The images of a folder tree or .zip archive laid out as ``<class>/<image>``, wrapping folders skipped.

    The class folders are matched by name to ``classes``, in any Unicode form and, with a warning, in any case; a class
    without a folder is warned of. Without ``classes`` their sorted names are the classes, ``num_classes`` of them where
    that is given. With ``labelled`` False every layout is
    taken: labels are set where the folders are known classes (a share of ``classes`` will do) or, without
    ``classes``, where they are several class folders and as many as ``num_classes``; otherwise they are None.

    Hidden files, ``__MACOSX`` and files without an image suffix are left aside and counted. Raises DataError for a
    source that cannot be read, is damaged or unsafe, holds no image, or does not fit the classes.
    """
    path = Path(path)
    store = _open_store(path)
    try:
        names = sorted(store.names, key=lambda name: name.split("/"))
        if not names:
            expected = "<class>/<image>" if labelled else "images"
            raise DataError(
                f"{path} holds no image ({store.ignored} other files); expected {expected} with one of the suffixes "
                f"{' '.join(SUFFIXES)}: check the path"
            )
        found = folder_labels(path, names, classes, num_classes, labelled)
        items = tuple(ImageItem(name, label) for name, label in zip(names, found.labels, strict=True))
        return ImageSet(path, items, found.classes, store.ignored, store, found.warnings)
    except BaseException:
        store.close()
        raise


def splits(path: Path) -> tuple[Path, Path | None]:
    """(images to measure on, images to calibrate on) for a folder with train/ beside val/, valid/, validation/ or
    test/; the folder itself and None for any other."""
    try:
        held_out = [path / name for name in ("val", "valid", "validation", "test") if (path / name).is_dir()]
        has_train = (path / "train").is_dir()
    except OSError:  # a name too long for the system, say: opening it says why
        return path, None
    if held_out and has_train:
        return held_out[0], path / "train"
    return path, None


def _open_store(path: Path) -> _Folder | _Zip:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        if missing and re.match("[a-z][a-z0-9+.-]*:/", str(path)):
            raise UsageError(f"{path} is a URL, and folders and .zip archives are read: download it first") from None
        kind, reason = (UsageError, "does not exist") if missing else (DataError, f"cannot be read ({error.strerror})")
        raise kind(f"{path} {reason}; expected a folder or .zip archive of images: check the path") from None
    if stat.S_ISDIR(mode):
        return _Folder(path)
    if stat.S_ISREG(mode) and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        return _Zip(path)
    raise DataError(f"{path} is neither a folder nor a .zip archive; expected one of these: unpack it first")


def _has_image_suffix(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _is_hidden_folder(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _too_large(size: int) -> BrokenImageError:
    return BrokenImageError(f"{size} bytes unpacked, over the limit of {MAX_BYTES}")


class _Folder:
    """Where the bytes are. ``names`` are the images, unsorted; ``ignored`` counts the other files."""

    def __init__(self, root: Path) -> None:
        self.root, self.names, self.ignored = root, list[str](), 0
        own = root.stat()
        # each folder with the identities of itself and those above it, so that a link to one of them is not followed
        todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset({(own.st_dev, own.st_ino)}))]
        while todo:
            prefix, above = todo.pop()
            try:
                entries = list(os.scandir(root / prefix))
            except OSError as error:
                raise DataError(f"{root / prefix} cannot be listed ({error.strerror}): check its permissions") from None
            for entry in entries:
                try:
                    at = entry.stat()
                except OSError:
                    at = None  # a dangling link: an image that is broken, not one that is absent
                if at is not None and stat.S_ISDIR(at.st_mode):
                    inode = (at.st_dev, at.st_ino)
                    if not _is_hidden_folder(entry.name) and inode not in above:
                        todo.append((f"{prefix}{entry.name}/", above | {inode}))
                elif _has_image_suffix(entry.name) and (at is None or stat.S_ISREG(at.st_mode)):
                    self.names.append(prefix + entry.name)
                else:
                    self.ignored += 1

    def read(self, name: str) -> bytes:
        try:
            with (self.root / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_BYTES:
                    raise _too_large(size)
                return file.read()
        except OSError as error:
            raise BrokenImageError(f"it cannot be read ({error.strerror})") from error

    def close(self) -> None:
        pass


class _Zip:
    """The images of an archive; every entry is checked before any is read."""

    def __init__(self, path: Path) -> None:
        self.ignored = 0
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._lock = threading.Lock()  # unpacking is a tenth of decoding: not worth a handle, and an index, per thread
        try:
            self._file = zipfile.ZipFile(path)
        except Exception as error:  # a damaged index raises anything from BadZipFile to UnicodeDecodeError
            raise DataError(f"{path} is no whole zip archive ({error}); fetch or pack it again") from error
        try:
            for info in self._file.infolist():
                self._add(path, info)
        except DataError:
            self.close()
            raise
        self.names = list(self._entries)

    def _add(self, path: Path, info: zipfile.ZipInfo) -> None:
        name = info.filename.replace("\\", "/")  # as some Windows tools write it
        *folders, base = name.split("/")
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in (*folders, base):
            raise DataError(f"{path} has the entry {name!r}, which points out of the archive; pack it again without it")
        folders = [folder for folder in folders if folder not in ("", ".")]
        if not base or any(map(_is_hidden_folder, folders)):
            return
        if not _has_image_suffix(base) or stat.S_ISLNK(info.external_attr >> 16):
            self.ignored += 1
            return
        if info.flag_bits & 0x1:
            raise DataError(f"{path} is encrypted ({name}); expected an open archive: unpack it, or pack it again")
        # zipfile unpacks these two in pieces; the others all at once, whatever comes out
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{path} packs {name} with zip method {info.compress_type}; expected stored or deflate: pack it again"
            )
        place = "/".join((*folders, base))
        if place in self._entries:
            raise DataError(
                f"{path} has two entries {place!r}, of which others unpack the last: pack the images again, each once"
            )
        self._entries[place] = info

    def read(self, name: str) -> bytes:
        info = self._entries[name]
        if info.file_size > MAX_BYTES:
            raise _too_large(info.file_size)
        if self._file.fp is None:
            raise UsageError(f"{self._file.filename} was closed before {name} was read; read from an open ImageSet")
        try:
            with self._lock:
                return self._file.read(info)
        except Exception as error:
            raise BrokenImageError(f"damaged in the archive ({error})") from error

    def close(self) -> None:
        self._file.close()
