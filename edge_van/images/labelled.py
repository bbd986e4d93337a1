"""Images with what is true of each, for a network of any head: from class folders, or from a file of labels.

In: a path, a network's ``Head``, the number of its outputs and its class names. Out: an ``ImageSet`` with its truth.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_van.errors import DataError
from edge_van.head import Head
from edge_van.images.label_files import LabelFile, parse_labels
from edge_van.images.label_search import find_labels, read_labels
from edge_van.images.labels import listed, matched_names
from edge_van.images.sets import SUFFIXES as IMAGE_SUFFIXES
from edge_van.images.sets import ImageItem, ImageSet, open_images


@dataclass(frozen=True)
class Wanted:
    """What a network needs the truth of. ``labels`` is the file of them, None for one that is found, or folders."""

    head: Head
    outputs: int
    classes: tuple[str, ...] | None = None
    labels: str | Path | None = None

    @property
    def is_multi_label(self) -> bool:
        return self.head.task(self.outputs) == "multi_label"

    @property
    def is_binary(self) -> bool:
        return self.head.task(self.outputs) == "binary"


def open_labelled(path: Path, wanted: Wanted) -> ImageSet:
    """The images of a folder or .zip archive with their truth, closed by the caller.

    One class an image comes from its folder, or from ``wanted.labels``. Two classes of a single output likewise; where
    nothing names them the folders' names in order do, the output's own class last. Several labels an image come from a
    file: ``wanted.labels``, or one called labels, metadata or annotations (.csv, .tsv, .json, .jsonl) with the images,
    or one called as the archive, beside it. Such a file also serves where there are no class folders. Images without a
    row are left out, with a warning.

    Raises ``DataError`` for what cannot be read or does not fit, ``UsageError`` for a path that is not there.
    """
    if wanted.labels is not None:
        return _from_file(path, read_labels(Path(wanted.labels)), wanted)
    if not wanted.is_multi_label:
        try:
            return _two_folders(path, wanted) if wanted.is_binary else _folders(path, wanted)
        except DataError as error:
            if "class folders" not in str(error) or (found := find_labels(path)) is None:
                raise
            return _from_file(path, found, wanted)
    open_images(path, labelled=False).close()  # what is wrong with the images is said before what is with their labels
    if (found := find_labels(path)) is None:
        raise DataError(
            f"{path} has no file of labels, and a network of {wanted.outputs} labels needs one: give --labels FILE, or "
            f"put labels.csv or labels.json beside the images"
        )
    return _from_file(path, found, wanted)


def _folders(path: Path, wanted: Wanted) -> ImageSet:
    return open_images(path, classes=wanted.classes, num_classes=wanted.outputs)


def _two_folders(path: Path, wanted: Wanted) -> ImageSet:
    """The images of two class folders; of one name that is known, that folder is the output's own class."""
    classes = wanted.classes
    if classes is None or len(classes) == 2:
        return open_images(path, classes=classes, num_classes=2)
    images = open_images(path, num_classes=2)
    there = images.classes or ()
    matched = matched_names(there, classes)
    position = matched.get(there[0]), matched.get(there[1])
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


def _from_file(path: Path, found: tuple[str, bytes], wanted: Wanted) -> ImageSet:
    called, content = found
    images = open_images(path, labelled=False)
    try:
        return _with_truth(images, parse_labels(content, called, wanted.classes or ()), called, wanted)
    except BaseException:
        images.close()
        raise


def _with_truth(images: ImageSet, table: LabelFile, called: str, wanted: Wanted) -> ImageSet:
    rows = _rows_of(images, table)
    kept = [i for i, row in enumerate(rows) if row is not None]
    if not kept:
        first = next(iter(table.rows), "no image")
        raise DataError(
            f"{called} names none of the {len(images)} images of {images.source} ({images.items[0].name}; there: "
            f"{first}): give the file that belongs to them, with their folders or with none"
        )
    warnings = list(images.warnings)
    if missing := len(images) - len(kept):
        example = next(images.items[i].name for i, row in enumerate(rows) if row is None)
        warnings.append(f"{called} has no row for {missing} of {len(images)} images ({example}): they are left out")
    if absent := len(table.rows) - len({row for row in rows if row is not None}):
        warnings.append(f"{called} has {absent} rows for which there is no image")
    truth = [table.rows[rows[i] or ""] for i in kept]
    classes, positions = _classes(table, called, wanted, warnings)
    names = [images.items[i].name for i in kept]
    numbers = [sorted(positions[label] for label in labels) for labels in truth]
    if wanted.is_binary and table.ordered and len(table.names) == 1:  # a 0 in the only column is the other class
        [own] = positions.values()
        numbers = [[own] if there else [1 - own] for there in numbers]
    elif wanted.is_binary and len(positions) == 1:
        numbers = [there or [0] for there in numbers]
    seen = {number for there in numbers for number in there}
    if unseen := [name for i, name in enumerate(classes) if i not in seen]:
        warnings.append(
            f"{called}: no image has {len(unseen)} of the {len(classes)} labels ({listed(unseen)}): what is measured "
            f"on it says nothing of these"
        )
    labels, targets = _truth(numbers, names, called, wanted, len(classes))
    items = tuple(ImageItem(name, label) for name, label in zip(names, labels, strict=True))
    return replace(images, items=items, classes=classes, targets=targets, warnings=tuple(warnings))


def _rows_of(images: ImageSet, table: LabelFile) -> list[str | None]:
    """The row of each image: of its path, or of the end of it, with or without the suffix.

    A row that names folders the image is not in is another image's, train/1.jpg none of those of val/.
    """
    home = images.source.resolve()
    above = (home.with_suffix("") if home.suffix.lower() == ".zip" else home).parts
    ends: dict[tuple[str, ...], list[int]] = {}
    for i, item in enumerate(images.items):
        parts = _bare(item.name)
        for start in range(len(parts)):
            ends.setdefault(parts[start:], []).append(i)
    found: list[str | None] = [None] * len(images)
    often: Counter[int] = Counter()
    for row in table.rows:
        parts = _bare(row)
        matches = ends.get(parts, [])
        if not matches:  # the row may begin further up than the set
            cuts = (k for k in range(1, len(parts)) if parts[:k] == above[-k:] and parts[k:] in ends)
            parts = parts[next(cuts, len(parts)) :]
            matches = [i for i in ends.get(parts, []) if _bare(images.items[i].name) == parts]
        if len(matches) > 1:  # of several ends the whole path
            matches = [i for i in matches if _bare(images.items[i].name) == parts]
        for i in matches:
            found[i] = row
            often[i] += 1
    return [row if often[i] == 1 else None for i, row in enumerate(found)]


def _bare(name: str) -> tuple[str, ...]:
    """The parts of a path, without an image's suffix."""
    composed = unicodedata.normalize("NFC", name)  # as one system writes names, and another does not
    *folders, base = (part for part in composed.split("/") if part not in ("", "."))
    suffix = next((s for s in IMAGE_SUFFIXES if base.lower().endswith(s) and len(s) < len(base)), "")
    return (*folders, base[: len(base) - len(suffix)])


def _classes(
    table: LabelFile, called: str, wanted: Wanted, warnings: list[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """(names in the order of the answers, {label of the file: its number})."""
    known = wanted.classes
    answers = 2 if wanted.is_binary else wanted.outputs
    if table.numbers and not matched_names(table.names, known or ()):
        if int(table.names[-1]) >= answers:
            raise DataError(
                f"{called} has the class number {table.names[-1]}, the network classes 0 to {answers - 1}: mend it, or "
                f"give names"
            )
        names = known if known is not None and len(known) == answers else tuple(map(str, range(answers)))
        return tuple(names), {name: int(name) for name in table.names}
    if known is None:
        wants = 2 if wanted.is_binary and len(table.names) == 2 else wanted.outputs
        if wanted.is_binary and not table.ordered and wants == 1 and all(table.rows.values()):
            raise DataError(
                f"{called} calls every image {table.names[0]!r}, which does not say whose the network's output is: "
                f"give both classes with --classes FILE, the output's own last"
            )
        names = table.names
        if table.ordered and len(names) > wants:  # as above
            used = {label for labels in table.rows.values() for label in labels}
            names = tuple(name for name in names if name in used)
        if len(names) != wants:
            raise DataError(
                f"{called} has {len(table.names)} labels ({listed(table.names)}), the head {wanted.outputs} outputs: "
                f"give the names of the outputs in their order with --classes FILE"
            )
        known = names
    found = matched_names(table.names, known)
    used = {label for labels in table.rows.values() for label in labels}
    # of categories that no image has one may be the group of the others, as some tools export COCO's
    if strange := [name for name in table.names if name not in found and (name in used or not table.ordered)]:
        raise DataError(
            f"{called} has labels that are none of the network's: {listed(strange)}; its own are {listed(known)}: "
            f"rename them, or give the names in the order of the outputs with --classes FILE"
        )
    if other := [f"{label} for {known[i]}" for label, i in found.items() if label != known[i]]:
        warnings.append(f"{called}: labels were matched to classes with other capitals or letters: {listed(other)}")
    if wanted.is_binary and len(known) == 1:
        return (f"not {known[0]}", known[0]), dict.fromkeys(found, 1)
    return tuple(known), found


def _truth(
    numbers: list[list[int]], names: list[str], called: str, wanted: Wanted, classes: int
) -> tuple[list[int | None], npt.NDArray[np.bool_] | None]:
    """(a class an image, None), or (None an image, bool (images, outputs)) of a network of several labels."""
    if wanted.is_multi_label:
        targets = np.zeros((len(numbers), classes), np.bool_)
        for row, there in zip(targets, numbers, strict=True):
            row[there] = True
        if not targets.any():
            raise DataError(f"{called} gives none of the {len(names)} images a label: there is nothing to measure")
        return [None] * len(numbers), targets
    for name, there in zip(names, numbers, strict=True):
        if len(there) != 1:
            advice = "mend it" if wanted.is_binary else "mend it, or give --head sigmoid if an image may have several"
            raise DataError(f"{called} gives {name} {len(there)} labels, and the network chooses one class: {advice}")
    return [there[0] for there in numbers], None
