"""Files of labels that lie beside images: CSV, JSON, JSON lines, COCO's.

In: the bytes of such a file. Out: a ``LabelFile``: image names with the labels of each; a ``DataError`` names the row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_van.errors import DataError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "-1", "-1.0", "false", "no", "")
_IMAGE_KEYS = ("image", "file_name", "filename", "file", "path", "image_name", "name", "id")
_LABEL_KEYS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category")
_ONE_LABEL = ("label", "tag", "class", "category")
_EXPECTED = (
    "expected a CSV with the image first and then a column of 0 and 1 for each label or one column of labels with "
    "spaces between them, a JSON of {image: [labels]} or of [{image, labels}], or COCO's annotations"
)


@dataclass(frozen=True)
class LabelFile:
    """rows     {image as it is written there: its labels}
    names    every label; in the order of the columns or categories where ``ordered``, else by name
    """

    rows: Mapping[str, frozenset[str]]
    names: tuple[str, ...]
    ordered: bool


def parse_labels(content: bytes, called: str) -> LabelFile:
    """The labels in ``content``, of a file ``called`` so. ``DataError`` for none, or what contradicts itself."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{called} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    lower = called.lower()
    try:
        if lower.endswith((".csv", ".tsv")):
            return _table(text, "\t" if lower.endswith(".tsv") else ",", called)
        if lower.endswith(".jsonl"):
            return _entries([json.loads(line) for line in text.splitlines() if line.strip()], called)
        return _document(json.loads(text), called)
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{called} cannot be read ({str(error)[:100]}): {_EXPECTED}") from error


def _table(text: str, separator: str, called: str) -> LabelFile:
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if any(map(str.strip, row))]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(f"{called} has no row of an image and its labels: {_EXPECTED}")
    header, *body = [[cell.strip() for cell in row] for row in rows]
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise DataError(
                f"{called}, row {number}: {len(row)} cells under {len(header)} columns; labels with commas between "
                f"them stand in quotes: mend it"
            )
    columns = header[1:]
    of_flags = all(cell.lower() in (*_YES, *_NO) for row in body for cell in row[1:])
    if of_flags and (len(columns) > 1 or columns[0].lower() not in _LABEL_KEYS):
        _check_names(columns, called)
        pairs = (
            (row[0], [n for n, cell in zip(columns, row[1:], strict=True) if cell.lower() in _YES]) for row in body
        )
        return LabelFile(_rows(pairs, called), tuple(columns), ordered=True)
    if len(columns) > 1:
        position = next((i for i, name in enumerate(columns) if name.lower() in _LABEL_KEYS), None)
        if position is None:
            strange = next(cell for row in body for cell in row[1:] if cell.lower() not in (*_YES, *_NO))
            raise DataError(
                f"{called} has {strange[:40]!r} where 0 or 1 was expected, and no column called labels: mend it"
            )
    else:
        position = 0
    is_one = columns[position].lower() in _ONE_LABEL
    return _named(((row[0], _split(row[1 + position], is_one=is_one)) for row in body), called)


def _split(cell: str, *, is_one: bool) -> list[str]:
    """Labels with ``;``, ``|``, ``,`` or, without one of these, with spaces between them; of a column that is called
    label the spaces are its name's."""
    for separator in ";|,":
        if separator in cell:
            return [part.strip() for part in cell.split(separator) if part.strip()]
    return ([cell] if cell else []) if is_one else cell.split()


def _document(content: Any, called: str) -> LabelFile:
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return _coco(content, called)
    if isinstance(content, dict):
        return _named(((image, _listed(labels, image, called)) for image, labels in content.items()), called)
    return _entries(content, called)


def _entries(content: Any, called: str) -> LabelFile:
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        raise DataError(f"{called} holds no entries of images: {_EXPECTED}")
    pairs = []
    for number, entry in enumerate(content, 1):
        image = next((entry[key] for key in _IMAGE_KEYS if isinstance(entry.get(key), str)), None)
        key = next((key for key in _LABEL_KEYS if key in entry), None)
        if image is None or key is None:
            raise DataError(f"{called}, entry {number} has no image or no labels ({', '.join(entry)}): {_EXPECTED}")
        pairs.append((image, _listed(entry[key], image, called)))
    return _named(pairs, called)


def _listed(labels: Any, image: str, called: str) -> list[str]:
    """``[names]``, one name, or ``{name: whether}``."""
    if isinstance(labels, str):
        return [labels]
    if isinstance(labels, dict) and all(value in (0, 1) for value in labels.values()):
        return [name for name, there in labels.items() if there]
    if isinstance(labels, list) and all(isinstance(name, str) for name in labels):
        return labels
    raise DataError(f"{called}: the labels of {image} are {str(labels)[:60]}, expected a list of names: mend it")


def _coco(content: dict[str, Any], called: str) -> LabelFile:
    """An image has the categories that an annotation of it is of; their order is that of their ids."""
    try:
        names = {c["id"]: str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"])}
        found: dict[Any, set[str]] = {image["id"]: set() for image in content["images"]}
        for annotation in content["annotations"]:
            found[annotation["image_id"]].add(names[annotation["category_id"]])
        rows = _rows(((image["file_name"], found[image["id"]]) for image in content["images"]), called)
    except (KeyError, TypeError) as error:
        raise DataError(f"{called} looks like COCO's annotations, but lacks {str(error)[:60]}: mend it") from error
    _check_names(list(names.values()), called)
    return LabelFile(rows, tuple(names.values()), ordered=True)


def _named(pairs: Iterable[tuple[str, list[str]]], called: str) -> LabelFile:
    rows = _rows(pairs, called)
    return LabelFile(rows, tuple(sorted(frozenset[str]().union(*rows.values()))), ordered=False)


def _rows(pairs: Iterable[tuple[str, Iterable[str]]], called: str) -> dict[str, frozenset[str]]:
    rows: dict[str, frozenset[str]] = {}
    for image, labels in _checked(pairs, called):
        there = frozenset(labels)
        if rows.setdefault(image, there) != there:
            raise DataError(f"{called} has {image} twice, with different labels: keep one of them")
    return rows


def _checked(pairs: Iterable[tuple[str, Iterable[str]]], called: str) -> Iterator[tuple[str, Iterable[str]]]:
    for image, labels in pairs:
        if not isinstance(image, str) or not image:
            raise DataError(f"{called} has a row without an image: {_EXPECTED}")
        yield image.replace("\\", "/").removeprefix("./"), labels


def _check_names(names: list[str], called: str) -> None:
    if not all(names) or len(set(names)) < len(names):
        raise DataError(f"{called} has labels without a name, or two of one name: mend its first row or its categories")
