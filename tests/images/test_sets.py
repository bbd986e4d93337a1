"""``edge_van.images.sets``: layouts, classes and their mistakes, archives that are damaged or hostile, and the draw."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import threading
import unicodedata
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_van.errors import DataError, UsageError
from edge_van.images import sets as data_module
from edge_van.images.decode import BrokenImageError
from edge_van.images.draw import Draw, draw_balanced, hashes
from edge_van.images.labels import folder_labels
from edge_van.images.sets import ImageItem, ImageSet, open_images, splits
from edge_van.images.stream import stream
from edge_van.input_spec import InputSpec


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tree(root: Path, names: dict[str, bytes] | list[str]) -> Path:
    """Files below ``root``; the content of those only named is a picture of their own."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(names[name] if isinstance(names, dict) else picture(i))
    return root


def zipped(path: Path, names: list[str], content: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, picture(i) if content is None else content)
    return path


PETS = ["cat/1.png", "cat/2.PNG", "cat/10.png", "dog/1.png", "dog/2.JPEG"]


def names(images: ImageSet) -> list[str]:
    return [item.name for item in images.items]


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrapping", ["", "pets/", "data/pets/"])
def test_folder_and_zip_are_the_same_set(tmp_path: Path, wrapping: str) -> None:
    clutter = ["readme.md", "cat/.hidden.png", "cat/notes.txt", "__MACOSX/cat/._1.png", ".git/1.png"]
    files = [wrapping + name for name in PETS + clutter]
    folder = tree(tmp_path / "folder", files)
    archive = zipped(tmp_path / "pets.zip", files)
    for path in (folder, archive):
        with open_images(path) as images:
            assert images.source == path
            assert images.classes == ("cat", "dog")
            assert names(images) == [wrapping + n for n in ("cat/1.png", "cat/10.png", "cat/2.PNG", *PETS[3:])]
            assert [item.label for item in images.items] == [0, 0, 0, 1, 1]
            assert images.ignored == 3
            assert len(images) == 5
    one, two = open_images(folder), open_images(archive)
    assert one.items == two.items
    assert [one.read(i) for i in range(5)] == [two.read(i) for i in range(5)]
    assert hashes(one) == hashes(two) == {two.content_hash(i) for i in range(5)}
    assert draw_balanced(one, 3, seed=1) == draw_balanced(two, 3, seed=1)
    spec = InputSpec(size=(4, 4))
    for a, b in zip(stream(one, spec, batch_size=2), stream(two, spec, batch_size=2), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
    two.close()
    with pytest.raises(UsageError, match="closed"):
        two.read(0)


def test_classes_are_matched_by_name_not_by_order(tmp_path: Path) -> None:
    images = open_images(tree(tmp_path, PETS), classes=["dog", "cat"])
    assert images.classes == ("dog", "cat")
    assert {item.name.split("/")[0]: item.label for item in images.items} == {"cat": 1, "dog": 0}


def test_the_order_is_that_of_the_folders(tmp_path: Path) -> None:
    """'-' sorts before '/', so plain strings would put a-b before a."""
    images = open_images(tree(tmp_path, ["a/1.png", "a-b/1.png"]))
    assert names(images) == ["a/1.png", "a-b/1.png"]
    assert images.classes == ("a", "a-b")


def test_entry_names_as_other_tools_write_them(tmp_path: Path) -> None:
    images = open_images(zipped(tmp_path / "x.zip", ["./cat/1.png", "dog\\1.png", "dog//2.png"]))
    assert names(images) == ["cat/1.png", "dog/1.png", "dog/2.png"]
    assert [images.read(i) for i in range(3)] == [picture(i) for i in range(3)]


def test_unlabelled_takes_every_layout(tmp_path: Path) -> None:
    flat = open_images(tree(tmp_path / "flat", ["b.png", "a.png"]), labelled=False)
    assert flat.items == (ImageItem("a.png", None), ImageItem("b.png", None))
    assert flat.classes is None
    wrapped = open_images(tree(tmp_path / "wrapped", ["photos/1.png"]), labelled=False)
    mixed = open_images(tree(tmp_path / "mixed", ["1.png", "cat/2.png", "x/y/z/3.png"]), labelled=False)
    for images in (wrapped, mixed):
        assert {item.label for item in images.items} == {None}
    pets = tree(tmp_path / "pets", PETS)
    assert open_images(pets, labelled=False).classes == ("cat", "dog")
    share = open_images(pets, classes=("ant", "cat", "dog"), labelled=False)
    assert [item.label for item in share.items] == [1, 1, 1, 2, 2]
    for known in ({"classes": ("ant", "cat")}, {"num_classes": 3}):
        strange = open_images(pets, labelled=False, **known)
        assert strange.classes is None
        assert {item.label for item in strange.items} == {None}


def test_links(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", PETS)
    outside = tree(tmp_path / "elsewhere", ["fox/1.png"])
    (root / "fox").symlink_to(outside / "fox")
    (root / "cat" / "again").symlink_to(root)  # a loop, and one to itself
    (root / "cat" / "cat").symlink_to(root / "cat")
    (root / "dog" / "linked.png").symlink_to(outside / "fox" / "1.png")
    (root / "dog" / "dangling.png").symlink_to(tmp_path / "nowhere")
    (root / "dog" / "self.png").symlink_to(root / "dog" / "self.png")
    os.mkfifo(root / "dog" / "pipe.png")
    images = open_images(root)
    assert images.classes == ("cat", "dog", "fox")
    assert names(images)[3:] == [*PETS[3:], "dog/dangling.png", "dog/linked.png", "dog/self.png", "fox/1.png"]
    assert images.ignored == 1
    assert images.read(len(images) - 3) == images.read(len(images) - 1) == picture(0)
    for name in ("dog/dangling.png", "dog/self.png"):
        with pytest.raises(BrokenImageError, match="cannot be read"):
            images.read(names(images).index(name))


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sources_that_cannot_be_used(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole.zip", PETS).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set.tar").write_bytes(b"x" * 2000)
    (tmp_path / "empty").mkdir()
    tree(tmp_path / "texts", ["a/readme.txt", "a/labels.csv"])
    for name, message in {
        "missing": "missing does not exist",
        "whole.zip/inside": "inside does not exist",
        "cut.zip": "no whole zip archive",
        "set.tar": "neither a folder nor a .zip",
        "empty": r"holds no image \(0 other files\)",
        "texts": r"holds no image \(2 other files\)",
    }.items():
        kind = UsageError if "does not exist" in message else DataError
        with pytest.raises(kind, match=message) as raised:
            open_images(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_a_url_is_no_folder() -> None:
    with pytest.raises(UsageError, match=r"is a URL, and folders and \.zip archives are read: download it first"):
        open_images(Path("https://a.b/images.zip"))


def test_a_zip_by_another_name(tmp_path: Path) -> None:
    assert len(open_images(zipped(tmp_path / "pets.cbz", PETS))) == 5


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        (PETS, {"classes": ["cat", "fox"]}, r"none of the model's 2 classes: dog; the classes are cat, fox"),
        ([f"{c}/1.png" for c in "abcdefg"], {"classes": ["x"]}, r"classes: a, b, c, d, e and 2 more; "),
        (PETS, {"num_classes": 3}, r"has 2 class folders with images \(cat, dog\), the model has 3 classes"),
        (PETS, {"num_classes": 1}, r"has 2 class folders .* the model has 1 classes"),
        (["1.png", "2.png"], {}, r"without class folders \(1.png\).*expected <class>/<image>"),
        (["1.png", "2.png"], {"classes": ["cat"]}, r"without class folders"),
        ([*PETS, "stray.png"], {}, r"different depths \(cat/1.png, stray.png\)"),
        (["a.png", *PETS], {}, r"different depths \(a.png, cat/1.png\)"),
        (["train/cat/1.png", "val/cat/1.png"], {}, r"\(train/cat/1.png, val/cat/1.png\).*give the folder that holds"),
        (["cat/1.png", "cat/more/2.png"], {}, r"different depths"),
    ],
)
def test_layouts_that_do_not_fit(tmp_path: Path, files: list[str], arguments: dict[str, object], message: str) -> None:
    for path in (tree(tmp_path / "folder", files), zipped(tmp_path / "archive.zip", files)):
        with pytest.raises(DataError, match=message) as raised:
            open_images(path, **arguments)  # type: ignore[arg-type]
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (
            ["cat", "dog", "fox"],
            r"no image of 1 of the model's 3 classes \(fox\): what is measured .* nothing of these",
        ),
        (["cat", "dog", *"abcdefg"], r"classes \(a, b, c, d, e and 2 more\): "),
    ],
)
def test_a_class_without_a_folder_is_said(tmp_path: Path, classes: list[str], said: str) -> None:
    for path in (tree(tmp_path / "folder", PETS), zipped(tmp_path / "archive.zip", PETS)):
        images = open_images(path, classes)
        assert [item.label for item in images.items] == [0, 0, 0, 1, 1]
        assert images.classes == tuple(classes)
        [warning] = images.warnings
        assert re.search(said, warning)
        assert open_images(path, classes, labelled=False).warnings == ()  # ranges need no class


def test_names_in_another_unicode_form_are_the_same(tmp_path: Path) -> None:
    classes = [unicodedata.normalize("NFC", name) for name in ("café", "über", "각")]
    files = [f"{unicodedata.normalize('NFD', name)}/1.png" for name in classes]
    images = open_images(zipped(tmp_path / "x.zip", files), classes)
    assert {item.name.split("/")[0]: item.label for item in images.items} == {
        unicodedata.normalize("NFD", name): i for i, name in enumerate(classes)
    }
    assert images.warnings == ()


@pytest.mark.parametrize("labelled", [True, False])
def test_names_in_other_capitals_are_matched_and_said(tmp_path: Path, labelled: bool) -> None:
    images = open_images(tree(tmp_path / "x", ["CAT/1.png", "dog/1.png"]), ["dog", "Cat"], labelled=labelled)
    assert [item.label for item in images.items] == [1, 0]
    assert images.warnings == ("x: folders were matched to classes with other capitals: CAT for Cat",)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["Cat", "cat", "dog"], ["cat", "dog"]),  # the other would be nobody's
        (["CAT", "Cat", "dog"], ["cat", "dog"]),
        (["CAT", "dog"], ["cat", "Cat", "dog"]),
        (["Ｃａｔ", "dog"], ["cat", "dog"]),  # a look-alike is another name
    ],
)
def test_a_match_that_could_be_another_is_none(tmp_path: Path, folders: list[str], classes: list[str]) -> None:
    with pytest.raises(DataError, match="none of the model's"):
        open_images(zipped(tmp_path / "x.zip", [f"{folder}/1.png" for folder in folders]), classes)


@given(st.lists(st.text(st.characters(exclude_characters="/\\", categories=["L", "N", "M"]), min_size=1), unique=True))
def test_every_folder_of_its_own_name_is_its_class(names: list[str]) -> None:
    """Whatever else matches: what is spelt as a class is that class."""
    files = [f"{name}/1.png" for name in names]
    found = folder_labels(Path("x"), files, names[::-1], None, True) if names else None
    assert found is None or found.labels == tuple(range(len(names)))[::-1]
    assert found is None or found.warnings == ()


def test_imagenets_folders_are_in_its_order_whatever_the_model_calls_its_classes(tmp_path: Path) -> None:
    files = [f"n{10_000_000 + 7 * i}/1.JPEG" for i in range(1000)]
    found = folder_labels(tmp_path, files, [f"thing {i}" for i in range(1000)], 1000, True)
    assert found.labels == tuple(range(1000))
    assert "matched by ImageNet's order" in found.warnings[0]
    with pytest.raises(DataError, match="none of the model's"):
        folder_labels(tmp_path, files[:-1], [f"thing {i}" for i in range(999)], 999, True)


@pytest.mark.parametrize("twin", ["cat/1.png", "./cat/1.png", "cat//1.png", "cat\\1.png"])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, twin: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of it as well
        path = zipped(tmp_path / "x.zip", [*PETS, twin])
    with pytest.raises(DataError, match=r"two entries 'cat/1\.png', of which others unpack the last"):
        open_images(path)


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".mpo", ".avif", ".heic", ".HEIF"])
def test_suffixes_that_cameras_and_browsers_write(tmp_path: Path, suffix: str) -> None:
    assert len(open_images(tree(tmp_path / "x", [f"a/1{suffix}"]))) == 1


@pytest.mark.parametrize("name", ["../1.png", "cat/../../1.png", "/etc/1.png", "C:/1.png", "..\\1.png", "cat/../x.txt"])
def test_entries_that_point_out_of_the_archive(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="points out of the archive"):
        open_images(zipped(tmp_path / "x.zip", [*PETS, name]))


def patched(path: Path, offset_local: int, offset_central: int, value: bytes) -> Path:
    """``value`` in every header of the archive, at the offset it has in local and in central ones."""
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", offset_local), (b"PK\1\2", offset_central)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset : at + offset + len(value)] = value
            at = data.find(magic, at + 4)
    path.write_bytes(data)
    return path


def test_encrypted_and_oddly_packed_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is encrypted"):
        open_images(patched(zipped(tmp_path / "a.zip", PETS), 6, 8, b"\1\0"))
    with pytest.raises(DataError, match="zip method 12; expected stored or deflate"):
        open_images(patched(zipped(tmp_path / "b.zip", PETS), 8, 10, b"\x0c\0"))


def test_an_entry_that_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = patched(zipped(tmp_path / "a.zip", ["cat/1.png"]), 22, 24, struct.pack("<I", 256 * 2**20 + 1))
    with pytest.raises(BrokenImageError, match="268435457 bytes unpacked, over the limit"):
        open_images(huge).read(0)
    # one that hides its size is cut off there, and its checksum then does not fit
    liar = patched(zipped(tmp_path / "b.zip", ["cat/1.png"], bytes(2**20)), 22, 24, struct.pack("<I", 100))
    with pytest.raises(BrokenImageError, match="damaged in the archive"):
        open_images(liar).read(0)
    monkeypatch.setattr(data_module, "MAX_BYTES", 10)
    with pytest.raises(BrokenImageError, match="over the limit of 10"):
        open_images(tree(tmp_path / "folder", PETS)).read(0)


def test_links_in_archives_are_left_aside(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", PETS)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    images = open_images(path)
    assert "cat/link.png" not in names(images)
    assert images.ignored == 1


def test_a_damaged_entry_is_a_broken_image(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", PETS)
    data = bytearray(path.read_bytes())
    data[80] ^= 0xFF
    path.write_bytes(data)
    images = open_images(path)
    with pytest.raises(BrokenImageError, match="damaged in the archive"):
        images.read(0)
    assert images.read(3) == picture(3)


@settings(max_examples=80)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_archive_gives_data_errors_alone(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    data = bytearray(zipped(folder / "a.zip", PETS).read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    (folder / "a.zip").write_bytes(data)
    try:
        with open_images(folder / "a.zip", labelled=False) as images:
            for i in range(len(images)):
                images.read(i)
    except DataError:
        pass
    shutil.rmtree(folder)


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    files = [f"{label}/{i}.png" for label in "ab" for i in range(30)]
    content = dict(zip(files, map(picture, range(60)), strict=True))
    images = open_images(zipped(tmp_path / "a.zip", files))
    barrier = threading.Barrier(8)

    def read_all(_: int) -> bool:
        barrier.wait()
        return all(images.read(i) == content[item.name] for i, item in enumerate(images.items))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_all, range(8)))


# ── the draw ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def classes_of(root: Path, sizes: dict[str, int]) -> ImageSet:
    files = {f"{label}/{i}.png": f"{label}{i}".encode() for label, size in sizes.items() for i in range(size)}
    return open_images(tree(root, files))


def per_class(images: ImageSet, draw: Draw) -> Counter[str]:
    return Counter(images.items[i].name.split("/")[0] for i in draw.indices)


def test_the_draw_is_balanced_seeded_and_grows(tmp_path: Path) -> None:
    images = classes_of(tmp_path, {"a": 50, "b": 50, "c": 50})
    draw = draw_balanced(images, 31, seed=0)
    assert sorted(per_class(images, draw).values()) == [10, 10, 11]
    assert len(set(draw.indices)) == 31
    assert draw.left_out == 0
    assert draw == draw_balanced(images, 31, seed=0)
    assert draw.indices[:10] == draw_balanced(images, 10, seed=0).indices
    assert set(draw.indices) != set(draw_balanced(images, 31, seed=1).indices)


def test_the_draw_is_the_same_everywhere(tmp_path: Path) -> None:
    """Fixed here: a change would make bundles irreproducible. Wrapping folders and archives do not matter."""
    sizes = {"cat": 9, "dog": 9}
    folder = classes_of(tmp_path / "x" / "y", sizes)
    wrapped = open_images(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for i in reversed(range(len(folder))):
            archive.writestr(folder.items[i].name, folder.read(i))
    for images in (folder, wrapped, open_images(tmp_path / "z.zip")):
        drawn = draw_balanced(images, 5, seed=7).indices
        assert ["/".join(images.items[i].name.split("/")[-2:]) for i in drawn] == FIXED


FIXED = ["dog/2.png", "cat/7.png", "dog/5.png", "cat/2.png", "dog/8.png"]


def test_small_classes_give_their_share_to_others(tmp_path: Path) -> None:
    images = classes_of(tmp_path, {"a": 2, "b": 40, "c": 7})
    assert per_class(images, draw_balanced(images, 30, seed=3)) == {"a": 2, "b": 21, "c": 7}
    everything = draw_balanced(images, 1000, seed=3)
    assert sorted(everything.indices) == list(range(49))


def test_known_and_repeated_contents_are_left_out(tmp_path: Path) -> None:
    files = {f"a/{i}.png": b"same" if i < 6 else b"a%d" % i for i in range(10)}
    files |= {f"b/{i}.png": b"b%d" % i for i in range(10)}
    images = open_images(tree(tmp_path, files))
    everything = draw_balanced(images, 100, seed=0)
    assert per_class(images, everything) == {"a": 5, "b": 10}
    assert (everything.excluded, everything.repeated, everything.left_out) == (0, 5, 5)
    known = frozenset(images.content_hash(i) for i in range(10, 18))
    draw = draw_balanced(images, 100, seed=0, exclude_hashes=known)
    assert per_class(images, draw) == {"a": 5, "b": 2}
    assert (draw.excluded, draw.repeated, draw.left_out) == (8, 5, 13)
    assert draw_balanced(images, 9, seed=0, exclude_hashes=hashes(images)) == Draw((), 20, 0, (), ())


def test_only_what_comes_up_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = classes_of(tmp_path, {"a": 60, "b": 60})
    reads: list[int] = []
    monkeypatch.setattr(ImageSet, "content_hash", lambda self, index: reads.append(index) or str(index))
    assert draw_balanced(images, 20, seed=0).indices == tuple(reads)


def test_unreadable_files_and_unlabelled_sets(tmp_path: Path) -> None:
    tree(tmp_path, [f"{i}.png" for i in range(12)])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    images = open_images(tmp_path, labelled=False)
    draw = draw_balanced(images, 100, seed=0)
    assert len(draw.indices) == 12
    assert draw.left_out == 1
    assert [b.name for b in draw.unreadable] == ["gone.png"]
    assert len(hashes(images, workers=2)) == 12
    with pytest.raises(UsageError, match="count"):
        draw_balanced(images, 0, seed=0)


@settings(max_examples=40)
@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**64),
)
def test_a_draw_is_as_even_as_it_can_be(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[str, int], count: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("draw")
    images = classes_of(folder, sizes)
    draw = draw_balanced(images, count, seed=seed)
    drawn = per_class(images, draw)
    assert len(set(draw.indices)) == len(draw.indices) == min(count, sum(sizes.values()))
    most = max(drawn.values())
    assert all(drawn[label] in (size, most, most - 1) for label, size in sizes.items())
    assert all(drawn[label] >= min(size, most - 1) for label, size in sizes.items())
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_every_usual_name_of_held_out_images_is_known(tmp_path: Path, name: str) -> None:
    for folder in (name, "train"):
        (tmp_path / folder).mkdir()
    assert splits(tmp_path) == (tmp_path / name, tmp_path / "train")
