"""The images that ``predict`` takes, each with the file of its heat map.

In: paths of image files, folders and zip archives. Out: ``Source`` records, whose bytes are read when asked for.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edge_van.errors import UsageError
from edge_van.images.decode import BrokenImageError
from edge_van.images.sets import MAX_BYTES, SUFFIXES, ImageSet, open_images
from edge_van.storage.files import LONGEST_NAME_BYTES
from edge_van.storage.folders import clear_errors
from edge_van.text import one_line, shown

_SUFFIX = "_grad_cam.png"
_WHAT_TO_GIVE = "give image files, folders or .zip archives of images"


@dataclass(frozen=True)
class Source:
    """One image. ``read`` raises ``BrokenImageError``."""

    name: str  # as shown
    read: Callable[[], bytes]
    file: Path | None  # None for one in an archive
    grad_cam: Path | None = None


def open_sources(
    stack: ExitStack, paths: Sequence[Path], note: Callable[[str], None] = lambda text: None
) -> list[Source]:
    """Every path's images in the order given; archives stay open until the stack is closed.

    ``note`` is told how many files of a folder or archive are left out, since their names are no images'. A file that
    cannot be read is known when it is read. Raises ``UsageError`` for a path that is not there or no path at all,
    ``DataError`` for a folder or archive that cannot be opened or holds no image.
    """
    sources: list[Source] = []
    for path in paths:
        if _is_set(path):
            images = stack.enter_context(open_images(path, labelled=False))
            if images.ignored:
                what = "file was" if images.ignored == 1 else "files were"
                note(
                    f"{images.ignored} {what} left out of {shown(path)}: hidden, or without an image's suffix "
                    f"({', '.join(SUFFIXES)})"
                )
            sources += [_member(path, images, i, in_folder=path.is_dir()) for i in range(len(images))]
        else:
            sources.append(Source(shown(path), _file_reader(path), path))
    if not sources:
        raise UsageError(f"no image was given: {_WHAT_TO_GIVE}")
    return sources


def _is_set(path: Path) -> bool:
    """Whether ``path`` holds images, and is none."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if re.match("[a-z][a-z0-9+.-]*:/", str(path)):
            raise UsageError(f"{shown(path)} is a URL: download it first, and {_WHAT_TO_GIVE}") from None
        if not path.is_symlink():
            raise UsageError(f"{shown(path)} is not there: {_WHAT_TO_GIVE}") from None
        return False
    except OSError:  # no permission, a ring of links, a name too long: reading it says which
        return False
    return stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and path.suffix.lower() == ".zip")


def _member(path: Path, images: ImageSet, index: int, *, in_folder: bool) -> Source:
    file = path / images.items[index].name
    return Source(shown(file), lambda: images.read(index), file if in_folder else None)


def _file_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):  # a pipe would block, a device never end
                raise BrokenImageError("it is no regular file")
            if info.st_size > MAX_BYTES:
                raise BrokenImageError(f"{info.st_size} bytes, over the limit of {MAX_BYTES}")
            return path.read_bytes()
        except OSError as error:
            raise BrokenImageError(f"it cannot be read ({error.strerror})") from error

    return read


def with_targets(sources: Sequence[Source], folder: Path, *, force: bool) -> list[Source]:
    """Each source with a heat map's file of its own: images of one stem are told apart by a number.

    Raises ``UsageError`` for a folder that is a file, a heat map that is there already and may not be replaced, or one
    that would replace an image.
    """
    with clear_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--grad-cam takes a folder, {shown(folder)} is a file: choose another")
        files = [source.file for source in sources if source.file is not None] if force else []
        inputs = {path for file in files for path in (_own_place(file), os.path.realpath(file))}
        names = _names([Path(_plain(source.name)).stem for source in sources])
        for name in names:
            target = folder / name
            if not force and os.path.lexists(target):
                raise UsageError(f"{shown(target)} exists: give --force to replace it, or choose another folder")
            if _own_place(target) in inputs:
                raise UsageError(f"the heat map {shown(target)} would replace an image: choose another folder")
    return [replace(source, grad_cam=folder / name) for source, name in zip(sources, names, strict=True)]


def _plain(name: str) -> str:
    """Without what a terminal that lists the folder would obey, what the locale has no letters for, and backslashes."""
    encoding = sys.getfilesystemencoding()
    return one_line(name).encode(encoding, "backslashreplace").decode(encoding).replace("\\", "_")


def _own_place(path: Path) -> str:
    """Where the file or link itself lies, whatever links lead there."""
    return str(Path(os.path.realpath(path.parent), path.name))


def _names(stems: Sequence[str]) -> list[str]:
    """A file name for each, all different also where the file system takes no notice of case, none too long for it."""
    taken: set[str] = set()
    following: dict[str, int] = {}  # the number to go on from, so that many equal stems are no search each
    names = []
    for stem in stems:
        key = _cut(stem, "").casefold()
        number = following.get(key, 1)
        while (name := _cut(stem, f"_{number}" if number > 1 else "")).casefold() in taken:
            number += 1
        taken.add(name.casefold())
        following[key] = number + 1
        names.append(name + _SUFFIX)
    return names


def _cut(stem: str, number: str) -> str:
    """``stem`` and ``number``, the former without what would make the whole name longer than a file's may be."""
    room = LONGEST_NAME_BYTES - len(_SUFFIX) - len(number)
    return stem.encode()[:room].decode("utf-8", "ignore") + number
