"""``edge_van.prediction.sources``: what can be an image, and names of heat maps that every file system takes."""

from __future__ import annotations

import os
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from bundle_samples import one_line
from hypothesis import given
from hypothesis import strategies as st

from edge_van.errors import BundleError, DataError, UsageError
from edge_van.images.decode import BrokenImageError
from edge_van.images.sets import SUFFIXES
from edge_van.prediction.sources import Source, _names, open_sources, with_targets


def source(file: str | Path) -> Source:
    return Source(str(file), lambda: b"", Path(file))


def test_files_folders_and_archives_are_read_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("b.png", "a.png", "notes.txt"):
        (tmp_path / "folder" / name).write_bytes(name.encode())
    with zipfile.ZipFile(tmp_path / "all.ZIP", "w") as archive:
        archive.writestr("x/c.png", b"c.png")
    with ExitStack() as stack:
        paths = [tmp_path / "all.ZIP", tmp_path / "folder", tmp_path / "folder" / "notes.txt"]
        notes: list[str] = []
        found = open_sources(stack, paths, notes.append)
        suffixes = ", ".join(SUFFIXES)
        left_out = f"1 file was left out of {tmp_path / 'folder'}: hidden, or without an image's suffix ({suffixes})"
        assert notes == [left_out]
        assert [s.read() for s in found] == [b"c.png", b"a.png", b"b.png", b"notes.txt"]
    assert [s.name for s in found] == [str(tmp_path / n) for n in ("all.ZIP/x/c.png", *_in("folder"))]
    assert [s.file for s in found] == [None, *(tmp_path / n for n in _in("folder"))]


def _in(folder: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in ("a.png", "b.png", "notes.txt"))


def test_what_cannot_be_read_is_known_when_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**28 + 1)
    expected = {
        tmp_path / "pipe.zip": "no regular file",
        tmp_path / "ring": "Too many levels of symbolic links",
        tmp_path / "dangling.png": "No such file",
        tmp_path / "huge.png": "over the limit of",
        tmp_path / f"{'x' * 300}.png": "File name too long",
        Path("/dev/zero"): "no regular file",
    }
    with ExitStack() as stack:
        found = open_sources(stack, list(expected))
    for item, reason in zip(found, expected.values(), strict=True):
        with pytest.raises(BrokenImageError, match=reason):
            item.read()


def test_a_folder_without_permission_is_known_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)  # root may look everywhere
    with ExitStack() as stack:
        [found] = open_sources(stack, [tmp_path / "a.png"])
        with pytest.raises(BrokenImageError, match="Permission denied"):
            found.read()


def test_nothing_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with ExitStack() as stack:
        for paths, said in (([tmp_path / "a.png"], "is not there"), ([], "no image was given")):
            with pytest.raises(UsageError) as caught:
                open_sources(stack, paths)
            one_line(caught, said, "give image files, folders or .zip archives of images")
        with pytest.raises(DataError, match="no whole zip archive"):
            open_sources(stack, [tmp_path / "bad.zip"])
        with pytest.raises(DataError, match=r"holds no image .*; expected images with one of the suffixes"):
            open_sources(stack, [tmp_path])


def test_a_name_that_is_no_utf8_is_shown_by_its_bytes(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    path.write_bytes(b"x")
    with ExitStack() as stack:
        [found] = open_sources(stack, [path])
    assert found.name == f"{tmp_path}/\\xff.png"
    assert found.read() == b"x"
    assert with_targets([found], tmp_path, force=False)[0].grad_cam == tmp_path / "_xff_grad_cam.png"


def test_a_heat_maps_name_holds_no_terminal_code(tmp_path: Path) -> None:
    [found] = with_targets([source(tmp_path / "a\x1b[31m\nb.png")], tmp_path, force=False)
    assert found.grad_cam == tmp_path / "a_x1b[31m_nb_grad_cam.png"


def test_a_heat_maps_name_is_one_that_the_locale_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "iso8859-1")
    [found] = with_targets([source("z.zip/é日.png")], tmp_path, force=False)
    assert found.grad_cam == tmp_path / "é_u65e5_grad_cam.png"


@given(st.lists(st.sampled_from(("a", "A", "a_2", "a_2_2", "é" * 140, "é" * 141, "x" * 250, "X" * 250, "ß", "ss"))))
def test_every_heat_map_has_a_name_of_its_own(stems: list[str]) -> None:
    names = _names(stems)
    assert len({name.casefold() for name in names}) == len(stems)
    for stem, name in zip(stems, names, strict=True):
        assert len(name.encode()) <= 233
        assert name.endswith("_grad_cam.png")
        assert name.startswith(stem[:100])


def test_equal_stems_are_no_search_each() -> None:
    started = time.process_time()
    names = _names(["img"] * 5_000)
    assert time.process_time() - started < 2.0  # several times as long, where each name is looked for from 1
    assert names[0] == "img_grad_cam.png"
    assert names[-1] == "img_5000_grad_cam.png"


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    images = [source(tmp_path / f"{'x' * 251}.png"), source(tmp_path / f"{'é' * 125}.png"), source(tmp_path / "a.png")]
    for found in with_targets(images, tmp_path, force=False):
        assert found.grad_cam is not None
        found.grad_cam.write_bytes(b"")


def test_heat_maps_replace_no_image_and_nothing_unasked(tmp_path: Path) -> None:
    image, other = tmp_path / "a.png", tmp_path / "a_grad_cam.png"
    other.write_bytes(b"photograph")
    with pytest.raises(UsageError, match=r"a_grad_cam\.png exists: give --force"):
        with_targets([source(image)], tmp_path, force=False)
    assert with_targets([source(image)], tmp_path, force=True)[0].grad_cam == other
    (tmp_path / "same").symlink_to(tmp_path)
    link = tmp_path / "link.png"
    link.symlink_to(other)
    for also in (other, tmp_path / "same" / other.name, link):
        with pytest.raises(UsageError) as caught:
            with_targets([source(image), source(also)], tmp_path, force=True)
        one_line(caught, f"{other} would replace an image", "choose another folder")


def test_a_folder_for_heat_maps_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="takes a folder"):
        with_targets([source("a.png")], tmp_path / "file", force=True)
    with pytest.raises(BundleError, match="name is too long"):
        with_targets([source("a.png")], tmp_path / ("x" * 300), force=True)


def test_a_url_is_called_one() -> None:
    with pytest.raises(UsageError, match="is a URL: download it first"), ExitStack() as stack:
        open_sources(stack, [Path("http://example.org/a.png")])
