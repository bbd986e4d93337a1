"""Files of labels that lie beside images: CSV, JSON, JSON lines, COCO's.

In: the bytes of such a file, the names of a network's labels. Out: a ``LabelFile``; a ``DataError`` names the row.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_van.errors import DataError
from edge_van.images.labels import matched_names

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
_YES, _NO, _MINUS = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no"), ("-1", "-1.0")
_IMAGE_KEYS = (
    *("file_name", "filename", "image", "image_path", "path", "file", "image_name", "image_id", "img", "name", "id"),
)
"""What a column or entry of images is called; where there are several, the first of these is it."""
_LABEL_KEYS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "target")
_ONE_LABEL = ("label", "tag", "class", "category", "target")
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
_EXPECTED = (
    "expected a CSV with a column of images and then one of 0 and 1 for each label or a single one of labels, a JSON "
    "of {image: [labels]} or of [{image, labels}], or COCO's annotations"
)
_NUMBER = re.compile(r"0|[1-9]\d{0,8}")
_Pairs = Iterable[tuple[str, Iterable[str]]]


@dataclass(frozen=True)
class LabelFile:
    """rows     {image as it is written there: its labels}
    names    every label; in the order of the columns or categories where ``ordered``, else by name
    ordered  whether it is
    numbers  the labels are whole numbers: those of the classes, where these are not called so
    """

    rows: Mapping[str, frozenset[str]]
    names: tuple[str, ...]
    ordered: bool
    numbers: bool = False


class _CocoImage(msgspec.Struct):
    id: int | str
    file_name: str


class _CocoAnnotation(msgspec.Struct):
    image_id: int | str
    category_id: int | str


class _CocoCategory(msgspec.Struct):
    id: int | str
    name: str


class _Coco(msgspec.Struct):
    """What is read of COCO's annotations: polygons, most of the file, are passed over."""

    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


def parse_labels(content: bytes, called: str, known: Sequence[str] = ()) -> LabelFile:
    """The labels in ``content``, of a file ``called`` so. A cell that is one of the ``known`` names is not split.

    ``DataError`` for none, or what contradicts itself.
    """
    lower = called.lower()
    try:
        if lower.endswith((".json", ".jsonl")) and b'"annotations"' in content and b'"categories"' in content:
            return _coco(msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=_Coco), called)
        text = content.decode("utf-8-sig")
        text = text.partition("\n")[2] if text[:4].lower() == "sep=" else text  # Excel's own first line
        if lower.endswith((".csv", ".tsv")):
            return _table(text, "\t" if lower.endswith(".tsv") else _separator(text), called, known)
        if lower.endswith(".jsonl"):
            return _entries([_loads(line) for line in text.split("\n") if line.strip()], called)
        return _document(_loads(text), called)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{called} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{called} looks like COCO's annotations, but is none ({str(error)[:100]}): mend it") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{called} cannot be read ({str(error)[:100]}): {_EXPECTED}") from error


def _loads(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in [k for k, _ in pairs[:i]])
            raise ValueError(f"{twice[:60]!r} is there twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def _separator(text: str) -> str:
    """A comma, or the semicolon with which spreadsheets of much of Europe write a CSV."""
    header = text.partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def _table(text: str, separator: str, called: str, known: Sequence[str]) -> LabelFile:
    lines = [row for row in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if any(map(str.strip, row))]
    if len(lines) < 2 or len(lines[0]) < 2:
        raise DataError(f"{called} has no row of an image and its labels: {_EXPECTED}")
    header, *body = [[cell.strip() for cell in row] for row in lines]
    if any(cell.lower().endswith(_PICTURES) for cell in header):
        raise DataError(f"{called} begins with an image, {header[0][:60]}, and not with the columns' names: add these")
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise DataError(
                f"{called}, row {number}: {len(row)} cells under {len(header)} columns; labels with commas between "
                f"them stand in quotes: mend it"
            )
    lower = [name.lower() for name in header]
    image = next((lower.index(key) for key in _IMAGE_KEYS if key in lower), 0)
    if not header[image]:
        raise DataError(
            f"{called}: its first column has no name, as a table's own numbers have none: call the images' image"
        )
    others = [i for i in range(len(header)) if i != image and lower[i] not in _IMAGE_KEYS and (lower[i] or i)]
    named = next((i for i in others if lower[i] in _LABEL_KEYS), None)
    if named is None or len(others) == 0:
        return _flags([[row[image], *(row[i] for i in others)] for row in body], [header[i] for i in others], called)
    cells = _split([row[named] for row in body], is_one=lower[named] in _ONE_LABEL, known=known)
    rows: dict[str, frozenset[str]] = {}
    for image_name, labels in _checked(zip((row[image] for row in body), cells, strict=True), called):
        rows[image_name] = rows.get(image_name, frozenset()) | frozenset(labels)  # a row for each label will do
    return _by_name(rows)


def _flags(body: list[list[str]], names: list[str], called: str) -> LabelFile:
    """``body`` is the image and a cell for each of the labels ``names``."""
    _check_names(names, called)
    if not names:
        raise DataError(f"{called} has no column of labels: {_EXPECTED}")
    said = {cell.lower() for row in body for cell in row[1:]}
    if strange := sorted(said - {*_YES, *_NO, *_MINUS}):
        raise DataError(
            f"{called} has {strange[0][:40]!r} where 0 or 1 was expected, and no column called labels: mend it, or "
            f"take out the columns that are no labels"
        )
    if said & set(_MINUS) and said & set(_NO):
        raise DataError(
            f"{called} has both 0 and -1, of which one may stand for what is not known: give 1 for what is there and 0 "
            f"for what is not, without the rows that are not known"
        )
    pairs = ((row[0], [n for n, cell in zip(names, row[1:], strict=True) if cell.lower() in _YES]) for row in body)
    return LabelFile(_rows(pairs, called), tuple(names), ordered=True)


def _split(cells: list[str], *, is_one: bool, known: Sequence[str]) -> list[list[str]]:
    """Each cell's labels: itself in a column that is called label or where it is a known name; else what stands between
    the separators of the whole column, ``;`` ``|`` ``,`` or spaces."""
    whole = matched_names(sorted(set(cells)), known) if known else {}
    rest = [cell for cell in cells if cell not in whole]
    separator = None if is_one else next((s for s in ";|," if any(s in cell for cell in rest)), " ")
    return [
        [cell] * bool(cell)
        if separator is None or cell in whole
        else [part.strip() for part in cell.split(separator) if part.strip()]
        for cell in cells
    ]


def _document(content: Any, called: str) -> LabelFile:
    if isinstance(content, dict):
        return _by_name(_rows(((image, _listed(labels, image, called)) for image, labels in content.items()), called))
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
    return _by_name(_rows(pairs, called))


def _listed(labels: Any, image: str, called: str) -> list[str]:
    """``[names]``, one name, or ``{name: whether}``."""
    if isinstance(labels, str):
        return [labels]
    if type(labels) is int:
        return [str(labels)]
    if isinstance(labels, dict) and all(value in (0, 1) for value in labels.values()):
        return [name for name, there in labels.items() if there]
    if isinstance(labels, list) and all(isinstance(name, str) or type(name) is int for name in labels):
        return list(map(str, labels))
    raise DataError(f"{called}: the labels of {image} are {str(labels)[:60]}, expected a list of names: mend it")


def _coco(content: _Coco, called: str) -> LabelFile:
    """An image has the categories that an annotation of it is of; their order is that of their ids."""
    names = {c.id: c.name for c in sorted(content.categories, key=lambda c: (isinstance(c.id, str), c.id))}
    found: dict[int | str, set[str]] = {image.id: set() for image in content.images}
    if len(names) < len(content.categories) or len(found) < len(content.images):
        raise DataError(f"{called} has two categories or two images of one id: mend it")
    for a in content.annotations:
        if a.image_id not in found or a.category_id not in names:
            raise DataError(
                f"{called} has an annotation of image {a.image_id} and category {a.category_id}, of which one is not "
                f"there: mend it"
            )
        found[a.image_id].add(names[a.category_id])
    _check_names(list(names.values()), called)
    pairs = ((image.file_name, found[image.id]) for image in content.images)
    return LabelFile(_rows(pairs, called), tuple(names.values()), ordered=True)


def _by_name(rows: dict[str, frozenset[str]]) -> LabelFile:
    names = frozenset[str]().union(*rows.values())
    numbers = all(map(_NUMBER.fullmatch, names))
    return LabelFile(rows, tuple(sorted(names, key=int) if numbers else sorted(names)), ordered=False, numbers=numbers)


def _rows(pairs: _Pairs, called: str) -> dict[str, frozenset[str]]:
    rows: dict[str, frozenset[str]] = {}
    for image, labels in _checked(pairs, called):
        there = frozenset(labels)
        if rows.setdefault(image, there) != there:
            raise DataError(f"{called} has {image} twice, with different labels: keep the right ones, in one row")
    return rows


def _checked(pairs: _Pairs, called: str) -> Iterable[tuple[str, Iterable[str]]]:
    for image, labels in pairs:
        if not isinstance(image, str) or not image:
            raise DataError(f"{called} has a row without an image: {_EXPECTED}")
        yield image.replace("\\", "/").removeprefix("./"), labels


def _check_names(names: list[str], called: str) -> None:
    if not all(names) or len(set(names)) < len(names):
        raise DataError(f"{called} has labels without a name, or two of one name: mend its first row or its categories")
