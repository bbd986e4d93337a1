"""Images with what is true of each, for a network of any head: from class folders, or from a file of labels.

In: a path, a network's ``Head``, the number of its outputs and its class names. Out: an ``ImageSet`` with its truth.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from edge_van.errors import DataError, UsageError
from edge_van.head import Head
from edge_van.images.label_files import SUFFIXES, LabelFile, parse_labels
from edge_van.images.labels import listed, matched_names
from edge_van.images.sets import ImageItem, ImageSet, open_images

MAX_BYTES = 1024 * 2**20
_NAMES = ("labels", "metadata", "annotations", "_annotations", "_classes")
"""Of a file of labels that is found by itself, in the folder of the images or at the root of their archive."""


@dataclass(frozen=True)
class Wanted:
    """What a network needs the truth of. ``labels`` is the file of them, None for one that is found, or folders."""

    head: Head
    outputs: int
    classes: tuple[str, ...] | None = None
    labels: Path | None = None


def open_labelled(path: Path, wanted: Wanted) -> ImageSet:
    """The images of a folder or .zip archive with their truth, closed by the caller.

    One class an image comes from its folder, or from ``wanted.labels``. Two classes of a single output likewise; where
    nothing names them the folders' names in order do, the output's own class last. Several labels an image come from a
    file: ``wanted.labels``, or one called labels, metadata or annotations (.csv, .tsv, .json, .jsonl) with the images,
    or one called as the archive, beside it. Images without a row are left out, with a warning.

    Raises ``DataError`` for what cannot be read or does not fit, ``UsageError`` for a path that is not there.
    """
    task = wanted.head.task(wanted.outputs)
    found = _given(wanted.labels) if wanted.labels is not None else None
    if task == "single_label" and found is None:
        return open_images(path, classes=wanted.classes, num_classes=wanted.outputs)
    if task == "binary" and found is None:
        return _two_folders(path, wanted.classes)
    found = found or _found(path)
    if found is None:
        raise DataError(
            f"{path} has no file of labels, and a network of {wanted.outputs} labels needs one: give --labels FILE, or "
            f"put labels.csv or labels.json beside the images"
        )
    called, content = found
    images = open_images(path, labelled=False)
    try:
        table = parse_labels(content, called)
        return _with_truth(images, table, called, wanted)
    except BaseException:
        images.close()
        raise


def _two_folders(path: Path, classes: tuple[str, ...] | None) -> ImageSet:
    """The images of two class folders; of one name that is known, that folder is the output's own class."""
    if classes is None or len(classes) == 2:
        return open_images(path, classes=classes, num_classes=2)
    images = open_images(path, num_classes=2)
    there = images.classes or ()
    position = matched_names(there, classes).get(there[0]), matched_names(there, classes).get(there[1])
    if position == (None, 0):
        return images
    if position == (0, None):
        items = tuple(ImageItem(item.name, 1 - (item.label or 0)) for item in images.items)
        return replace(images, items=items, classes=there[::-1])
    images.close()
    raise DataError(
        f"{path} has the folders {listed(there)}, the network's output is {classes[0]!r}: call one of them so, or give "
        f"both names with --classes FILE, the output's own last"
    )


def _given(labels: Path) -> tuple[str, bytes]:
    if not labels.name.lower().endswith(SUFFIXES):
        raise UsageError(f"{labels} has none of the suffixes of label files ({' '.join(SUFFIXES)}): rename it")
    try:
        return labels.name, labels.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{labels} is not there: give the file of the labels") from error
    except OSError as error:
        raise DataError(f"{labels} cannot be read ({error.strerror}): give the file of the labels") from error


def _found(path: Path) -> tuple[str, bytes] | None:
    """(name, content) of a file of labels in the folder or archive, or beside the archive under its name."""
    names = [f"{stem}{suffix}" for stem in _NAMES for suffix in SUFFIXES]
    if path.is_dir():
        there = [path / name for name in names if (path / name).is_file()]
    else:
        inside = _in_archive(path, names)
        if inside is not None:
            return inside
        there = [beside for suffix in SUFFIXES if (beside := path.with_suffix(suffix)).is_file()]
    if len(there) > 1:
        raise DataError(
            f"{path} has several files of labels ({listed([f.name for f in there])}): give one with --labels"
        )
    return _given(there[0]) if there else None


def _in_archive(path: Path, names: Sequence[str]) -> tuple[str, bytes] | None:
    """At the root, or in the one folder that is there; the archive itself is checked where its images are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            roots = {entry.partition("/")[0] for entry in archive.namelist()}
            wrapped = f"{roots.pop()}/" if len(roots) == 1 else ""
            there = [i for i in archive.infolist() if i.filename in names or i.filename.removeprefix(wrapped) in names]
            if not there:
                return None
            if len(there) > 1:
                raise DataError(f"{path} has several files of labels: give one with --labels FILE")
            if there[0].file_size > MAX_BYTES:
                raise DataError(
                    f"{path}: {there[0].filename} unpacks to over {MAX_BYTES} bytes: it is no file of labels"
                )
            return PurePosixPath(there[0].filename).name, archive.read(there[0])
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError):
        return None  # what is wrong with it is said where its images are read


def _with_truth(images: ImageSet, table: LabelFile, called: str, wanted: Wanted) -> ImageSet:
    rows = _rows_of(images, table)
    kept = [i for i, row in enumerate(rows) if row is not None]
    if not kept:
        first = next(iter(table.rows), "no image")
        raise DataError(
            f"{called} names none of the {len(images)} images of {images.source} ({images.items[0].name}; there: "
            f"{first}): give the file that belongs to them"
        )
    warnings = list(images.warnings)
    if missing := len(images) - len(kept):
        example = next(images.items[i].name for i, row in enumerate(rows) if row is None)
        warnings.append(f"{called} has no row for {missing} of {len(images)} images ({example}): they are left out")
    if absent := len(table.rows) - len({row for row in rows if row is not None}):
        warnings.append(f"{called} has {absent} rows for which there is no image")
    truth = [table.rows[rows[i] or ""] for i in kept]
    classes, positions = _classes(table, called, wanted, warnings)
    numbers = [sorted(positions[label] for label in labels) for labels in truth]
    labels, targets = _truth(numbers, [images.items[i].name for i in kept], called, wanted, len(classes))
    items = tuple(ImageItem(images.items[i].name, label) for i, label in zip(kept, labels, strict=True))
    return replace(images, items=items, classes=classes, targets=targets, warnings=tuple(warnings))


def _rows_of(images: ImageSet, table: LabelFile) -> list[str | None]:
    """The row of each image: by its path, else by its file name where only one image has it, else without a suffix."""
    spelt = [
        {name: name for name in table.rows},
        _once({row: PurePosixPath(row).name for row in table.rows}),
        _once({row: PurePosixPath(row).stem for row in table.rows}),
    ]
    names = [item.name for item in images.items]
    ways = [names, [PurePosixPath(n).name for n in names], [PurePosixPath(n).stem for n in names]]
    found: list[str | None] = [None] * len(names)
    for way, keys in zip(ways, spelt, strict=True):
        often: dict[str, int] = {}
        for key in way:
            often[key] = often.get(key, 0) + 1
        for i, key in enumerate(way):
            if found[i] is None and often[key] == 1:
                found[i] = keys.get(key)
    return found


def _once(keys: dict[str, str]) -> dict[str, str]:
    """{key: row}, without the keys that several rows have."""
    found: dict[str, str] = {}
    several = set()
    for row, key in keys.items():
        if key in found:
            several.add(key)
        found[key] = row
    return {key: row for key, row in found.items() if key not in several}


def _classes(
    table: LabelFile, called: str, wanted: Wanted, warnings: list[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """(names in the order of the answers, {label of the file: its number})."""
    binary = wanted.head.task(wanted.outputs) == "binary"
    known = wanted.classes
    if known is None:
        wants = 2 if binary and len(table.names) == 2 and not table.ordered else wanted.outputs
        if len(table.names) != wants:
            raise DataError(
                f"{called} has {len(table.names)} labels ({listed(table.names)}), the head {wanted.outputs} outputs: "
                f"give the names of the outputs in their order with --classes FILE"
            )
        known = table.names
    found = matched_names(table.names, known)
    if strange := [name for name in table.names if name not in found]:
        raise DataError(
            f"{called} has labels that are none of the network's: {listed(strange)}; its own are {listed(known)}: "
            f"rename them, or give the names in the order of the outputs with --classes FILE"
        )
    if binary and len(known) == 1:
        return (f"not {known[0]}", known[0]), dict.fromkeys(found, 1)
    there = {label for labels in table.rows.values() for label in labels}
    if unseen := [name for i, name in enumerate(known) if i not in {found[label] for label in there}]:
        warnings.append(
            f"{called}: no image has {len(unseen)} of the {len(known)} labels ({listed(unseen)}): what is measured on "
            f"it says nothing of these"
        )
    return tuple(known), found


def _truth(
    numbers: list[list[int]], names: list[str], called: str, wanted: Wanted, classes: int
) -> tuple[list[int | None], np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None]:
    """(a class an image, None), or (None an image, bool (images, outputs)) of a network of several labels."""
    if wanted.head.task(wanted.outputs) == "multi_label":
        targets = np.zeros((len(numbers), classes), np.bool_)
        for row, there in zip(targets, numbers, strict=True):
            row[there] = True
        return [None] * len(numbers), targets
    if wanted.outputs == 1 and not any(0 in there for there in numbers):  # a row without the label is the other class
        numbers = [there or [0] for there in numbers]
    for name, there in zip(names, numbers, strict=True):
        if len(there) != 1:
            raise DataError(
                f"{called} gives {name} {len(there)} labels, and the network chooses one class: give --head sigmoid "
                f"with the checkpoint if an image may have several, else mend it"
            )
    return [there[0] for there in numbers], None
