"""Files of labels: every way they are written gives one truth, and what is none is one clear line."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_van.errors import DataError, EdgeVanError, UsageError
from edge_van.head import Head
from edge_van.images.label_files import SUFFIXES, parse_labels
from edge_van.images.labelled import Wanted, open_labelled

TRUTH = {"a.png": {"cat"}, "b.png": {"dog", "cat"}, "c.png": set(), "d.png": {"bird"}}
NAMES = ("bird", "cat", "dog")
SIGMOID = Head("sigmoid")


def columns(truth: dict[str, set[str]], yes: str = "1", no: str = "0") -> str:
    rows = [["image", *NAMES]] + [
        [image, *(yes if n in there else no for n in NAMES)] for image, there in truth.items()
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def joined(truth: dict[str, set[str]], between: str = " ", header: str = "labels") -> str:
    text = io.StringIO()
    rows = [["file_name", header], *([image, between.join(sorted(there))] for image, there in truth.items())]
    csv.writer(text).writerows(rows)
    return text.getvalue()


def coco(truth: dict[str, set[str]]) -> str:
    return json.dumps(
        {
            "images": [{"id": i, "file_name": image, "width": 8} for i, image in enumerate(truth)],
            "categories": [{"id": 10 + i, "name": name} for i, name in reversed(list(enumerate(NAMES)))],
            "annotations": [
                {"id": 1, "image_id": i, "category_id": 10 + NAMES.index(name), "bbox": [0, 0, 1, 1]}
                for i, there in enumerate(truth.values())
                for name in [*there, *there]  # two of a kind in one image
            ],
        }
    )


WRITTEN: dict[str, tuple[str, Callable[[dict[str, set[str]]], str]]] = {
    "a column a label": ("labels.csv", columns),
    "true and false": ("labels.csv", lambda truth: columns(truth, "True", "FALSE")),
    "1 and -1": ("labels.csv", lambda truth: columns(truth, "1", "-1")),
    "with spaces": ("metadata.csv", joined),
    "with semicolons": ("labels.csv", lambda truth: joined(truth, "; ")),
    "with bars": ("labels.csv", lambda truth: joined(truth, "|", "tags")),
    "with commas": ("labels.csv", lambda truth: joined(truth, ",")),
    "tabs": ("labels.tsv", lambda truth: columns(truth).replace(",", "\t")),
    "a byte order mark": ("labels.csv", lambda truth: "\ufeff" + columns(truth)),
    "names": ("labels.json", lambda truth: json.dumps({image: sorted(there) for image, there in truth.items()})),
    "entries": (
        "annotations.json",
        lambda truth: json.dumps([{"image": image, "labels": sorted(there)} for image, there in truth.items()]),
    ),
    "lines": (
        "metadata.jsonl",
        lambda truth: "\n".join(json.dumps({"file_name": i, "labels": sorted(t)}) for i, t in truth.items()),
    ),
    "whether": (
        "labels.json",
        lambda truth: json.dumps({image: {n: int(n in there) for n in NAMES} for image, there in truth.items()}),
    ),
    "COCO": ("_annotations.json", coco),
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for image in TRUTH:
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / image)
    return tmp_path / "val"


def read(path: Path, wanted: Wanted) -> tuple[dict[str, set[str]], tuple[str, ...]]:
    """({image: its labels}, warnings)."""
    with open_labelled(path, wanted) as images:
        assert images.targets is not None
        assert images.classes is not None
        names = np.array(images.classes)
        found = {item.name: set(names[row]) for item, row in zip(images.items, images.targets, strict=True)}
        assert all(images.read(i) for i in range(len(images)))
        return found, images.warnings


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("known", [True, False])
def test_every_way_gives_one_truth(pictures: Path, way: str, known: bool) -> None:
    name, write = WRITTEN[way]
    file = pictures.parent / name
    file.write_text(write(TRUTH), encoding="utf-8")
    found, warnings = read(pictures, Wanted(SIGMOID, 3, ("dog", "bird", "cat") if known else None, file))
    assert found == TRUTH
    assert warnings == ()


@pytest.mark.parametrize("place", ["folder", "archive", "archive with a folder", "beside the archive"])
def test_it_is_found_with_the_images(pictures: Path, place: str) -> None:
    if place == "beside the archive":
        shutil.make_archive(str(pictures), "zip", pictures)
        pictures.with_suffix(".csv").write_text(columns(TRUTH))
    else:
        (pictures / "labels.csv").write_text(columns(TRUTH))
        if place == "archive":
            shutil.make_archive(str(pictures), "zip", pictures)
        elif place == "archive with a folder":
            shutil.make_archive(str(pictures), "zip", pictures.parent, "val")
    path = pictures if place == "folder" else pictures.with_suffix(".zip")
    found, _ = read(path, Wanted(SIGMOID, 3))
    assert {Path(image).name: labels for image, labels in found.items()} == TRUTH


@pytest.mark.parametrize("prefix", ["", "val/", "./", "val\\"])
@pytest.mark.parametrize("suffix", [".png", "", ".JPG"])
def test_names_may_be_without_their_folder_or_suffix(pictures: Path, prefix: str, suffix: str) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text(columns({prefix + image.removesuffix(".png") + suffix: there for image, there in TRUTH.items()}))
    assert read(pictures, Wanted(SIGMOID, 3, None, file))[0] == TRUTH
    path = shutil.move(pictures, pictures.parent / "deep" / "er" / "val")
    found = read(pictures.parent / "deep", Wanted(SIGMOID, 3, None, file))[0]
    assert found == {f"er/val/{image}": there for image, there in TRUTH.items()}, path


def test_rows_of_another_folder_are_other_images(pictures: Path) -> None:
    """train/a.png is not val's a.png, and case.left no suffix of case.png."""
    file = pictures.parent / "labels.csv"
    file.write_text(columns({f"train/{image}": there for image, there in TRUTH.items()}))
    with pytest.raises(DataError, match="names none of the 4 images"):
        open_labelled(pictures, Wanted(SIGMOID, 3, None, file))
    file.write_text(columns({image.replace(".png", ".left"): there for image, there in TRUTH.items()}))
    with pytest.raises(DataError, match="names none of the 4 images"):
        open_labelled(pictures, Wanted(SIGMOID, 3, None, file))


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / "val" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / folder / "0.png")
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"x/0.png": ["cat"], "y/0.png": ["dog"]}))
    assert read(tmp_path / "val", Wanted(SIGMOID, 2, None, file))[0] == {"x/0.png": {"cat"}, "y/0.png": {"dog"}}
    file.write_text(json.dumps({"0.png": ["cat"], "1.png": ["dog"]}))
    with pytest.raises(DataError, match="names none of the 2 images"):
        open_labelled(tmp_path / "val", Wanted(SIGMOID, 2, None, file))


@pytest.mark.parametrize(
    "text",
    [
        ",file_name,labels\n0,b.png,dog cat\n1,a.png,cat\n2,d.png,bird\n3,c.png,\n",  # pandas' own numbers
        "id,file_name,labels\na.png,b.png,dog cat\nb.png,a.png,cat\nc.png,d.png,bird\nd.png,c.png,\n",
        "split,labels,image\nval,dog cat,b.png\nval,cat,a.png\nval,bird,d.png\nval,,c.png\n",
        "image;labels\nb.png;dog cat\na.png;cat\nd.png;bird\nc.png;\n",  # a spreadsheet's in much of Europe
        "image,label\r\nb.png,dog\r\nb.png,cat\r\na.png,cat\r\nd.png,bird\r\nc.png,\r\n",  # a row a label
    ],
)
def test_the_image_is_where_its_name_says(pictures: Path, text: str) -> None:
    file = pictures.parent / "labels.csv"
    file.write_bytes(text.encode())
    assert read(pictures, Wanted(SIGMOID, 3, None, file))[0] == TRUTH


def test_a_name_that_holds_separators_is_one(pictures: Path) -> None:
    known = ("tench, Tinca tinca", "traffic light", "car")
    file = pictures.parent / "labels.csv"
    file.write_text('image,label\na,"tench, Tinca tinca"\nb,traffic light\nc,car\nd,car\n')
    with open_labelled(pictures, Wanted(Head(), 3, known, file)) as images:
        assert [item.label for item in images.items] == [0, 1, 2, 2]
    file.write_text('image,labels\na,"tench, Tinca tinca"\nb,traffic light;car\nc,traffic light\nd,\n')
    found, _ = read(pictures, Wanted(SIGMOID, 3, known, file))
    assert found == {"a.png": {known[0]}, "b.png": {known[1], "car"}, "c.png": {known[1]}, "d.png": set()}


@pytest.mark.parametrize("way", ["macOS", "Windows", "both"])
def test_archives_of_other_systems(pictures: Path, way: str) -> None:
    path = pictures.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        between = "/" if way == "macOS" else "\\"
        for image in TRUTH:
            archive.write(pictures / image, f"set{between}{image}")
        archive.writestr(f"set{between}labels.csv", columns(TRUTH))
        if way != "Windows":
            archive.writestr("__MACOSX/set/._labels.csv", b"x")
    found, _ = read(path, Wanted(SIGMOID, 3))
    assert {Path(image).name: labels for image, labels in found.items()} == TRUTH


@pytest.mark.parametrize("method", ["bzip2", "damaged"])
def test_a_file_of_labels_in_an_archive_that_cannot_be_trusted(pictures: Path, method: str) -> None:
    path = pictures.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for image in TRUTH:
            archive.write(pictures / image, image)
        kind = zipfile.ZIP_BZIP2 if method == "bzip2" else zipfile.ZIP_DEFLATED
        archive.writestr("labels.csv", columns(TRUTH) * 50, kind)
        offset = archive.getinfo("labels.csv").header_offset
    if method == "damaged":
        content = bytearray(path.read_bytes())
        content[offset + 45] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"pack it again"):
        open_labelled(path, Wanted(SIGMOID, 3))


def test_a_file_with_the_images_does_for_one_class_and_for_two(pictures: Path) -> None:
    (pictures / "labels.csv").write_text("image,label\na,cat\nb,dog\nc,dog\nd,cat\n")
    with open_labelled(pictures, Wanted(Head(), 2, ("dog", "cat"))) as images:
        assert [item.label for item in images.items] == [1, 0, 0, 1]
    with open_labelled(pictures, Wanted(SIGMOID, 1, ("dog", "cat"))) as images:
        assert [item.label for item in images.items] == [1, 0, 0, 1]
    (pictures / "labels.csv").unlink()
    with pytest.raises(DataError, match="--labels"):
        open_labelled(pictures, Wanted(Head(), 2, ("dog", "cat")))


def test_a_path_that_is_not_there_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_labelled(tmp_path / "nope", Wanted(SIGMOID, 3))


def test_what_is_missing_on_one_side_is_said(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    rows = {k: v for k, v in TRUTH.items() if k != "b.png"} | {"z.png": {"cat"}}
    file.write_text(columns(rows))
    found, warnings = read(pictures, Wanted(SIGMOID, 3, None, file))
    assert found == {k: v for k, v in TRUTH.items() if k != "b.png"}
    assert [w for w in warnings if "no row for 1 of 4 images (b.png)" in w]
    assert [w for w in warnings if "1 rows for which there is no image" in w]
    assert [w for w in warnings if "no image has 1 of the 3 labels (dog)" in w]


def test_labels_are_matched_in_other_capitals(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text(columns(TRUTH))
    found, _ = read(pictures, Wanted(SIGMOID, 3, ("Dog", "BIRD", "cat"), file))
    assert found["b.png"] == {"Dog", "cat"}


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("labels.csv", "", "no row of an image"),
        ("labels.csv", "image,cat\n", "no row of an image"),
        ("labels.csv", "image,cat,dog,bird\na.png,1\n", "row 2: 2 cells under 4 columns"),
        ("labels.csv", "image,cat,dog,bird\na.png,1,0,2\n", "'2' where 0 or 1"),
        ("labels.csv", "image,cat,cat,bird\na.png,1,0,1\n", "two of one name"),
        ("labels.csv", "image,cat,,bird\na.png,1,0,1\n", "without a name"),
        ("labels.csv", columns(TRUTH) + "a.png,0,0,1\n", "has a.png twice"),
        ("labels.csv", columns({"x.png": {"cat"}}), "names none of the 4 images"),
        ("labels.csv", "image,cat,dog\na.png,1,0\n", "has 2 labels (cat, dog), the head 3 outputs"),
        ("labels.csv", 'image,cat\n"a.png,1\n', "cannot be read"),
        ("labels.csv", b"image,cat\n\xff\xfe,1\n", "no UTF-8 text"),
        ("labels.csv", "image,cat,dog,bird\n,1,0,1\n", "without an image"),
        ("labels.csv", "image,cat,dog,bird\na.png,1,0,\n", "'' where 0 or 1"),
        ("labels.csv", "image,cat,dog,bird\na.png,1,0,-1\n", "both 0 and -1"),
        ("labels.csv", "a.png,1,0,1\nb.png,1,0,1\n", "begins with an image"),
        ("labels.csv", ",cat,dog,bird\na.png,1,0,1\n", "its first column has no name"),
        ("labels.csv", columns({image: set() for image in TRUTH}), "none of the 4 images a label"),
        ("labels.json", '{"a.png": ["cat"], "a.png": ["dog"]}', "'a.png' is there twice"),
        ("labels.json", coco(TRUTH).replace('"id": 3', '"id": 2'), "two images of one id"),
        ("labels.json", coco(TRUTH).replace('"image_id": 1', '"image_id": 9'), "of which one is not there"),
        ("labels.json", "{", "cannot be read"),
        ("labels.json", "[]", "no entries"),
        ("labels.json", "3", "no entries"),
        ("labels.json", '{"a.png": 3.5}', "the labels of a.png are 3.5"),
        ("labels.json", '{"a.png": ["cat", null]}', "expected a list of names"),
        ("labels.json", '[{"image": "a.png"}]', "entry 1 has no image or no labels"),
        ("labels.json", '[{"labels": ["cat"]}]', "entry 1 has no image or no labels"),
        ("labels.json", '{"images": [{"id": 1}], "annotations": [], "categories": []}', "looks like COCO"),
        ("labels.json", "[" * 100_000, "cannot be read"),
        ("labels.jsonl", '{"image": "a.png", "labels": ["cat"]}\nno', "cannot be read"),
    ],
)
def test_what_is_no_file_of_labels_is_one_line(pictures: Path, name: str, content: str | bytes, word: str) -> None:
    file = pictures.parent / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        open_labelled(pictures, Wanted(SIGMOID, 3, None, file))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_labels_that_are_none_of_the_networks_are_said(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text(columns(TRUTH))
    with pytest.raises(DataError, match="none of the network's: bird; its own are cat, dog, fish"):
        open_labelled(pictures, Wanted(SIGMOID, 3, ("cat", "dog", "fish"), file))


def test_without_labels_it_says_what_to_give(pictures: Path) -> None:
    with pytest.raises(DataError, match="give --labels FILE"):
        open_labelled(pictures, Wanted(SIGMOID, 3))
    with pytest.raises(UsageError, match="none of the suffixes"):
        open_labelled(pictures, Wanted(SIGMOID, 3, None, Path("labels.txt")))
    with pytest.raises(UsageError, match="is not there"):
        open_labelled(pictures, Wanted(SIGMOID, 3, None, Path("labels.csv")))
    for name in ("labels.csv", "labels.json"):
        (pictures / name).write_text(columns(TRUTH))
    with pytest.raises(DataError, match="several files of labels"):
        open_labelled(pictures, Wanted(SIGMOID, 3))


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(SUFFIXES))
def test_any_bytes_are_labels_or_one_line(content: bytes, suffix: str) -> None:
    said = ""
    try:
        table = parse_labels(content, f"labels{suffix}")
    except EdgeVanError as error:
        said = str(error)
    else:
        assert frozenset().union(*table.rows.values()) <= set(table.names)
    assert "\n" not in said


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "x.png")
    return root


@pytest.mark.parametrize(
    ("there", "classes", "expected", "names"),
    [
        (("defect", "ok"), None, {"defect": 0, "ok": 1}, ("defect", "ok")),  # as torchvision's ImageFolder has it
        (("defect", "ok"), ("ok", "defect"), {"ok": 0, "defect": 1}, ("ok", "defect")),
        (("defect", "ok"), ("defect",), {"ok": 0, "defect": 1}, ("ok", "defect")),
        (("defect", "ok"), ("OK",), {"defect": 0, "ok": 1}, ("defect", "ok")),
    ],
)
def test_two_folders_of_one_output(
    tmp_path: Path,
    there: tuple[str, ...],
    classes: tuple[str, ...] | None,
    expected: dict[str, int],
    names: tuple[str, ...],
) -> None:
    with open_labelled(folders(tmp_path / "val", *there), Wanted(SIGMOID, 1, classes)) as images:
        assert {item.name.split("/")[0]: item.label for item in images.items} == expected
        assert images.classes == names
        assert images.targets is None


def test_folders_that_are_not_the_outputs_are_said(tmp_path: Path) -> None:
    path = folders(tmp_path / "val", "a", "b")
    with pytest.raises(DataError, match="the network's output is 'defect'"):
        open_labelled(path, Wanted(SIGMOID, 1, ("defect",)))
    with pytest.raises(DataError, match="3 class folders"):
        open_labelled(folders(tmp_path / "more", "a", "b", "c"), Wanted(SIGMOID, 1))


@pytest.mark.parametrize(
    ("text", "classes", "expected", "names"),
    [
        ("image,defect\na,1\nb,0\nc,0\nd,1\n", None, [1, 0, 0, 1], ("not defect", "defect")),
        ("image,label\na,1\nb,0\nc,0\nd,1\n", None, [1, 0, 0, 1], ("0", "1")),
        ("image,label\na,good one\nb,bad\nc,bad\nd,good one\n", None, [1, 0, 0, 1], ("bad", "good one")),
        ("image,label\na,good\nb,bad\nc,bad\nd,good\n", ("good", "bad"), [0, 1, 1, 0], ("good", "bad")),
        ("image,labels\na,defect\nb,\nc,\nd,defect\n", None, [1, 0, 0, 1], ("not defect", "defect")),
        ("image,ok\na,0\nb,1\nc,1\nd,0\n", ("ok", "defect"), [1, 0, 0, 1], ("ok", "defect")),
        ("image,ok\na,0\nb,0\nc,0\nd,0\n", ("ok", "defect"), [1, 1, 1, 1], ("ok", "defect")),
        ("image,ok,defect\na,0,1\nb,1,0\nc,1,0\nd,0,1\n", ("ok", "defect"), [1, 0, 0, 1], ("ok", "defect")),
    ],
)
def test_two_classes_from_a_file(
    pictures: Path, text: str, classes: tuple[str, ...] | None, expected: list[int], names: tuple[str, ...]
) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text(text)
    with open_labelled(pictures, Wanted(SIGMOID, 1, classes, file)) as images:
        assert [item.label for item in images.items] == expected
        assert images.classes == names


def test_of_two_flags_one_must_be_there(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text("image,ok,defect\na,0,0\nb,0,1\nc,0,1\nd,1,0\n")
    with pytest.raises(DataError, match=r"gives a.png 0 labels, and the network chooses one class: mend it"):
        open_labelled(pictures, Wanted(SIGMOID, 1, ("ok", "defect"), file))


def test_one_class_an_image_from_a_file(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text("image,label\na,cat\nb,dog\nc,bird\nd,cat\n")
    with open_labelled(pictures, Wanted(Head(), 3, ("dog", "cat", "bird"), file)) as images:
        assert [item.label for item in images.items] == [1, 0, 2, 1]
    file.write_text(columns(TRUTH))
    with pytest.raises(DataError, match=r"gives b.png 2 labels.*--head sigmoid"):
        open_labelled(pictures, Wanted(Head(), 3, None, file))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_numbers_are_those_of_the_classes(tmp_path: Path, known: bool, form: str) -> None:
    """10 comes after 9, and a class that no image has keeps its number."""
    numbers = [0, 10, 2, 9, 11]
    for i in range(len(numbers)):
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / f"{i}.png")
    file = tmp_path / f"labels.{form}"
    if form == "csv":
        file.write_text("image,label\n" + "".join(f"{i}.png,{n}\n" for i, n in enumerate(numbers)))
    else:
        file.write_text(json.dumps({f"{i}.png": n for i, n in enumerate(numbers)}))
    names = tuple(f"class{c}" for c in "abcdefghijkl") if known else None
    with open_labelled(tmp_path / "val", Wanted(Head(), 12, names, file)) as images:
        assert [item.label for item in images.items] == numbers
        assert images.classes == (names or tuple(map(str, range(12))))
    with pytest.raises(DataError, match="class number 11, the network classes 0 to 10"):
        open_labelled(tmp_path / "val", Wanted(Head(), 11, None, file))


def test_numbers_of_two_classes(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text("image,label\na,0\nb,0\nc,0\nd,0\n")
    for classes in (None, ("ok", "defect")):
        with open_labelled(pictures, Wanted(SIGMOID, 1, classes, file)) as images:
            assert [item.label for item in images.items] == [0, 0, 0, 0]
    file.write_text("image,label\na,ok\nb,ok\nc,ok\nd,ok\n")
    with pytest.raises(DataError, match="calls every image 'ok', which does not say"):
        open_labelled(pictures, Wanted(SIGMOID, 1, None, file))


def test_a_column_called_label_is_it_beside_others_of_0_and_1(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text("image,label,fold\na,0,1\nb,1,0\nc,1,0\nd,0,0\n")
    with open_labelled(pictures, Wanted(Head(), 2, None, file)) as images:
        assert [item.label for item in images.items] == [0, 1, 1, 0]


def test_names_in_another_unicode_form_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / unicodedata.normalize("NFD", "café.png"))
    (tmp_path / "labels.json").write_text(json.dumps({unicodedata.normalize("NFC", "café.png"): ["cat"]}))
    found, warnings = read(tmp_path / "val", Wanted(SIGMOID, 1 + 1, ("cat", "dog"), tmp_path / "labels.json"))
    assert list(found.values()) == [{"cat"}]
    assert not [w for w in warnings if "no row" in w]


def test_names_with_dots_are_whole(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in ("1.2.840.1.png", "1.2.840.2.png", "1.2.840.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / name)
    rows = {"1.2.840.1": ["cat"], "1.2.840.2": ["dog"], "1.2.840": []}
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    found, _ = read(tmp_path / "val", Wanted(SIGMOID, 2, None, tmp_path / "labels.json"))
    assert found == {f"{name}.png": set(there) for name, there in rows.items()}


def test_a_group_that_no_annotation_is_of_is_no_label(pictures: Path) -> None:
    """Roboflow's export has the project's name as category 0."""
    content = json.loads(coco(TRUTH))
    content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
    file = pictures.parent / "labels.json"
    file.write_text(json.dumps(content))
    for classes in (None, NAMES):
        assert read(pictures, Wanted(SIGMOID, 3, classes, file))[0] == TRUTH


def test_lines_may_hold_what_python_calls_a_line_break(pictures: Path) -> None:
    file = pictures.parent / "labels.jsonl"
    lines = [
        json.dumps({"image": i, "labels": sorted(t), "text": "a\u2028b"}, ensure_ascii=False) for i, t in TRUTH.items()
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert read(pictures, Wanted(SIGMOID, 3, None, file))[0] == TRUTH


def test_spreadsheets_first_line(pictures: Path) -> None:
    file = pictures.parent / "labels.csv"
    file.write_text("sep=,\n" + columns(TRUTH))
    assert read(pictures, Wanted(SIGMOID, 3, None, file))[0] == TRUTH


def test_a_pipe_is_no_file_of_labels(pictures: Path) -> None:
    os.mkfifo(pictures.parent / "labels.csv")
    with pytest.raises(DataError, match="no regular file"):
        open_labelled(pictures, Wanted(SIGMOID, 3, None, pictures.parent / "labels.csv"))
