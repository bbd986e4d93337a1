"""``edge_van.storage.files``: whole files or none, two commands at once, what killed ones left."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest
from bundle_samples import one_line

from edge_van.errors import BundleError
from edge_van.storage.files import LONGEST_NAME_BYTES, locked, partial_of, remove_leftovers, replace_file, replace_files

TOKEN = "0123456789ab"


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)


def test_a_file_is_replaced_whole_and_a_link_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"somebody's")
    link.symlink_to(target)
    replace_file(link, b"new")
    assert (link.is_symlink(), link.read_bytes(), target.read_bytes()) == (False, b"new", b"somebody's")
    replace_file(link, b"newer")
    assert link.read_bytes() == b"newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


def test_a_full_disk_leaves_the_file_that_was_there(small_disk: Path) -> None:
    path = small_disk / "r.json"
    replace_file(path, b"first")
    with pytest.raises(BundleError) as caught:
        replace_file(path, bytes(2**20))
    one_line(caught, "disk is full")
    assert {p.name: p.read_bytes() for p in small_disk.iterdir()} == {"r.json": b"first"}


@pytest.mark.usefixtures("no_locks")
def test_two_commands_without_locks_never_rename_each_others_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "r.json", Path.replace
    between: list[bytes] = []

    def another_command_before_the_first_rename(self: Path, target: Path) -> Path:
        if not between:
            between.append(self.read_bytes())
            replace_file(path, b"second")
            between.append(path.read_bytes())
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", another_command_before_the_first_rename)
    replace_file(path, b"first")
    assert between == [b"first", b"second"]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"r.json": b"first"}


def leftovers(folder: Path) -> tuple[list[Path], list[Path]]:
    """(partial files of r.json: a young and an old one, what only looks like one)."""
    dead = [folder / f".r.json.partial-{token}" for token in (TOKEN, TOKEN[::-1])]
    others = [folder / name for name in (f".s.json.partial-{TOKEN}", ".r.json.partial-of-mine", "r.json.partial")]
    for path in (*dead, *others):
        path.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(dead[1], (two_days_ago, two_days_ago))
    link, subfolder = folder / f".r.json.partial-{'0' * 12}", folder / f".r.json.partial-{'1' * 12}"
    link.symlink_to(others[0])
    subfolder.mkdir()
    return dead, [*others, link, subfolder]


def test_what_a_killed_command_left_goes_with_the_next(tmp_path: Path) -> None:
    _, others = leftovers(tmp_path)
    replace_file(tmp_path / "r.json", b"whole", durable=False)
    assert len(list(tmp_path.iterdir())) == 8  # nothing was looked for
    replace_file(tmp_path / "r.json", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "r.json", *others])


@pytest.mark.usefixtures("no_locks")
def test_without_locks_only_an_old_one_goes(tmp_path: Path) -> None:
    (young, _), others = leftovers(tmp_path)
    replace_file(tmp_path / "r.json", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "r.json", young, *others])


def test_a_living_command_is_waited_for_and_keeps_its_file(tmp_path: Path) -> None:
    partial, held = tmp_path / f".r.json.partial-{TOKEN}", threading.Event()

    def other_command() -> None:
        with locked(tmp_path) as alone:
            assert alone
            partial.write_bytes(b"other")
            held.set()
            time.sleep(0.2)
            partial.rename(tmp_path / "other")

    thread = threading.Thread(target=other_command)
    thread.start()
    assert held.wait(10)
    replace_file(tmp_path / "r.json", b"mine")
    thread.join(10)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"r.json": b"mine", "other": b"other"}


def test_only_what_must_last_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr("os.fsync", waited.append)
    replace_file(tmp_path / "a.png", b"a", durable=False)
    assert waited == []
    replace_file(tmp_path / "a.png", b"b")
    assert len(waited) == 2  # the file and its folder
    assert (tmp_path / "a.png").read_bytes() == b"b"


def test_several_files_are_put_in_place_after_all_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="too long"), locked(tmp_path) as alone:
        replace_files(tmp_path, {"a": b"new", "x" * (LONGEST_NAME_BYTES + 1): b""}, alone=alone)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}
    names = ("a", "x" * LONGEST_NAME_BYTES)
    replaced: list[str] = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (replaced.append(to.name), rename(self, to)))
    with locked(tmp_path) as alone:
        replace_files(tmp_path, dict.fromkeys(names, b"new"), alone=alone)
    assert replaced == list(names)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys(names, b"new")


def test_no_device_or_pipe_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BundleError) as caught:
        replace_file(pipe, b"x")
    one_line(caught, f"{pipe} is a device, pipe or socket", "give the path of a file")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match="folder cannot be written"):
        replace_file(tmp_path / "folder", b"x")
    with pytest.raises(BundleError, match="nowhere/a cannot be written"):
        replace_file(tmp_path / "nowhere" / "a", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_partial_files_name_tells_whose_it_is() -> None:
    assert partial_of(f".a b\n.json.partial-{TOKEN}") == "a b\n.json"
    others = (".a.partial", f"a.partial-{TOKEN}", f".a.partial-{TOKEN}x", f".a.partial-{TOKEN}\n", f"..partial-{TOKEN}")
    assert [partial_of(name) for name in others] == [None] * 5


def test_leftovers_of_many_files_go_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f".{name}.partial-{TOKEN}").write_bytes(b"half")
    with locked(tmp_path) as alone:
        remove_leftovers(tmp_path, {"a", "b"}, alone=alone)
    assert [p.name for p in tmp_path.iterdir()] == [f".c.partial-{TOKEN}"]
