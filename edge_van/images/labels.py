"""Labels from the folders that images lie in, matched to the names of a model's classes.

In: the images' paths inside their source. Out: class names, a label an image, and what a user should know of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_van.errors import DataError

_WORDNET = re.compile(r"n\d{8}")
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Labels:
    """``labels`` are positions in ``classes``; both None, an entry an image, where the images are unlabelled.

    warnings  what was matched that is not the same, and classes without an image, a line each
    """

    classes: tuple[str, ...] | None
    labels: tuple[int | None, ...]
    warnings: tuple[str, ...] = ()


def folder_labels(
    path: Path, names: list[str], classes: Sequence[str] | None, num_classes: int | None, labelled: bool
) -> Labels:
    """The labels of the images ``names`` of ``path``, as ``images.sets.open_images`` promises them.

    A ``DataError``: with ``labelled``, a layout without class folders, folders that are no classes, or too few or many.
    """
    unlabelled = Labels(None, (None,) * len(names))
    folders = _class_folders(path, names, labelled)
    if folders is None:
        return unlabelled
    folder_names = sorted(set(folders))
    if classes is None:
        if not labelled and (num_classes not in (None, len(folder_names)) or len(folder_names) < 2):
            return unlabelled
        if labelled and num_classes not in (None, len(folder_names)):
            raise DataError(
                f"{path} has {len(folder_names)} class folders with images ({listed(folder_names)}), the model has "
                f"{num_classes} classes: give a folder per class, or the class names of the model"
            )
        index = {name: i for i, name in enumerate(folder_names)}
        return Labels(tuple(folder_names), tuple(index[folder] for folder in folders))
    known = tuple(classes)
    matched, warnings = _matched(path, folder_names, known)
    if strange := [name for name in folder_names if name not in matched]:
        if not labelled:
            return unlabelled
        raise DataError(
            f"{path} has folders that are none of the model's {len(known)} classes: {listed(strange)}; the classes "
            f"are {listed(known)}: rename the folders, or give the class names they carry"
        )
    there = set(matched.values())
    if labelled and (missing := [name for i, name in enumerate(known) if i not in there]):
        warnings.append(
            f"{path.name} has no image of {len(missing)} of the model's {len(known)} classes ({listed(missing)}): "
            f"what is measured on it says nothing of these"
        )
    return Labels(known, tuple(matched[folder] for folder in folders), tuple(warnings))


def matched_names(names: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """{name: number of its class}, of those that are one in any Unicode form or in other capitals."""
    return _by_spelling(names, classes)[0]


def _matched(path: Path, folders: Sequence[str], classes: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """({folder: number of its class}, warnings).

    By name; else by the name in another Unicode form, as the file systems and archives of other systems have it; else
    in other capitals; and ImageNet's folders by their order.
    """
    found, recased = _by_spelling(folders, classes)
    warnings: list[str] = []
    if recased:
        pairs = listed([f"{name} for {classes[found[name]]}" for name in recased])
        warnings.append(f"{path.name}: folders were matched to classes with other capitals: {pairs}")
    if not found and len(folders) == len(classes) == IMAGENET_CLASSES and all(map(_WORDNET.fullmatch, folders)):
        warnings.append(
            f"{path.name} has ImageNet's 1000 folders ({listed(folders[:2])}), the model other names for its classes "
            f"({listed(classes[:2])}): matched by ImageNet's order"
        )
        found = {name: i for i, name in enumerate(folders)}
    return found, warnings


def _by_spelling(names: Sequence[str], classes: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """({name: number of its class}, those that were found in other capitals)."""
    found: dict[str, int] = {}
    new: dict[str, int] = {}
    for spelt in (_as_it_is, _composed, _caseless):
        index = _unambiguous(classes, spelt)
        taken = set(found.values())
        wanted = {name: index.get(spelt(name)) for name in names if name not in found}
        # two folders of one class, Cat and cat, stay strange: which of them is meant is not ours to say
        often = Counter(wanted.values())
        new = {name: i for name, i in wanted.items() if i is not None and i not in taken and often[i] == 1}
        found |= new
    return found, list(new)


def _as_it_is(name: str) -> str:
    return name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(_composed(name).casefold())


def _unambiguous(names: Sequence[str], spelt: Callable[[str], str]) -> dict[str, int]:
    """{name as ``spelt``: its position}, without those that several are spelt as."""
    often = Counter(map(spelt, names))
    return {spelt(name): i for i, name in enumerate(names) if often[spelt(name)] == 1}


def _class_folders(path: Path, names: list[str], labelled: bool) -> list[str] | None:
    """The class folder each image lies in; None, or a DataError when labels are needed, for any other layout."""
    parents = [name.rpartition("/")[0] for name in names]
    above = [parent.rpartition("/")[0] if parent else None for parent in parents]
    other = next((name for name, folder in zip(names, above, strict=True) if folder != above[0]), None)
    if other is None and above[0] is not None:
        return [parent.rpartition("/")[2] for parent in parents]
    if not labelled:
        return None
    if other is None:
        raise DataError(
            f"{path} holds its images without class folders ({names[0]}); labels come from the folders, expected "
            "<class>/<image>: sort the images into a folder per class, or give a file of labels with --labels"
        )
    raise DataError(
        f"{path} has images at different depths ({names[0]}, {other}); expected <class>/<image>: move the strays "
        "away, or give the folder that holds the class folders"
    )


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
