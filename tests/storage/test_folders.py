"""Full disks, missing permissions, signals and killed runs, each a real one where the machine allows it."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import MANIFEST, make, names, one_line

from edge_van.bundle.bundle import open_bundle, update_manifest, verify
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import BundleError, UsageError
from edge_van.storage.folders import clean_up_after_killed_runs, free_space_check


def test_a_full_disk_is_one_clear_line(small_disk: Path) -> None:
    old = make(small_disk / "out", b"old")
    with pytest.raises(BundleError) as caught:
        make(small_disk / "out", bytes(2**20), force=True)
    one_line(caught, str(small_disk / "out"), "disk is full")
    assert names(small_disk) == ["out"]
    assert verify(open_bundle(old.path)) == []


def test_a_disk_that_fills_up_under_the_manifest(small_disk: Path) -> None:
    make(small_disk / "out", b"old")
    big = replace(MANIFEST, versions={f"package{i}": "1.0" * 20 for i in range(4000)})
    with pytest.raises(BundleError, match="disk is full"), BundleWriter(small_disk / "out", force=True) as writer:
        writer.finish(big)
    with pytest.raises(BundleError, match="disk is full"):
        update_manifest(open_bundle(small_disk / "out"), versions=big.versions)
    assert verify(open_bundle(small_disk / "out")) == []


def test_a_file_size_limit_is_one_clear_line(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(BundleError, match="larger than"):
            make(tmp_path / "out", bytes(2**17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_free_space_is_checked_with_numbers(tmp_path: Path) -> None:
    free_space_check(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(BundleError) as caught:
        free_space_check(tmp_path / "out", 2**60)
    one_line(caught, "needs 1,099,511,627,776.0 MiB", "are free")


def test_outputs_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as usage:
        BundleWriter(tmp_path / "file" / "out")
    one_line(usage, "is a file", "--output")
    with pytest.raises(BundleError) as caught, BundleWriter(Path("/proc/out")):
        pass
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="too long"):
        BundleWriter(tmp_path / ("x" * 300))
    with pytest.raises(BundleError, match="too long"), BundleWriter(tmp_path / "new" / ("x" * 250)):
        pass
    assert names(tmp_path) == ["file"]


@pytest.mark.usefixtures("ordinary_user")
def test_no_permission_is_one_clear_line(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    for path in (tmp_path, bundle.path):
        path.chmod(0o555)
    with pytest.raises(BundleError) as caught:
        BundleWriter(tmp_path / "new" / "er")
    one_line(caught, str(tmp_path / "new" / "er"), "permission denied", "you may write to")
    with pytest.raises(BundleError, match="permission denied"):
        update_manifest(bundle, warnings=("x",))
    tmp_path.chmod(0o755)
    assert verify(open_bundle(bundle.path)) == []
    bundle.file("model.xml").chmod(0)
    assert [(p.path, p.kind) for p in verify(bundle)] == [("model.xml", "unreadable")]
    (bundle.path / "openvino").chmod(0)
    with pytest.raises(BundleError, match="check its permissions"):
        verify(bundle)
    bundle.path.chmod(0)
    with pytest.raises(BundleError, match="check its permissions"):
        open_bundle(bundle.path)
    for path in (bundle.path, bundle.path / "openvino"):
        path.chmod(0o755)


def test_only_errors_about_the_output_are_translated(tmp_path: Path) -> None:
    def run(error: OSError) -> None:
        with BundleWriter(tmp_path / "out"):
            raise error

    with pytest.raises(PermissionError):
        run(PermissionError(errno.EACCES, "no", str(tmp_path / "data" / "one.jpg")))
    with pytest.raises(FileNotFoundError):
        run(FileNotFoundError(errno.ENOENT, "no", "x"))
    with pytest.raises(BundleError, match="permission denied"):
        run(PermissionError(errno.EACCES, "no", str(tmp_path / "out" / "a")))
    with pytest.raises(BundleError, match=r"/elsewhere/cache.*disk is full"):
        run(OSError(errno.ENOSPC, "full", "/elsewhere/cache"))


CHILD = """
import signal, sys, time
from pathlib import Path
from edge_van.bundle.writer import BundleWriter
signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup and a shell's & leave these ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with BundleWriter(Path(sys.argv[1])) as writer:
    writer.path("a/b").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing ``tmp_path / "out"``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing(tmp_path: Path, child: subprocess.Popen[str], number: int) -> None:
    child.send_signal(number)
    assert child.wait(20) != 0
    assert names(tmp_path) == []


def test_a_killed_run_is_cleaned_up_by_the_next_a_living_one_is_not(
    tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    (partial,) = tmp_path.iterdir()
    foreign = [tmp_path / ".out2.partial-0123456789ab", tmp_path / ".out.partial-of-mine"]
    for folder in foreign:
        folder.mkdir()
    with pytest.raises(UsageError, match="another command is writing"):
        BundleWriter(tmp_path / "out")
    clean_up_after_killed_runs(tmp_path / "out")
    assert (partial / "a" / "b").exists()
    child.kill()
    child.wait(20)
    assert partial.exists()
    with BundleWriter(tmp_path / "out"):
        assert not partial.exists()
    assert sorted(tmp_path.iterdir()) == sorted(foreign)


def test_without_file_locks_only_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    young, old = tmp_path / ".out.partial-000000000000", tmp_path / ".out.partial-111111111111"
    young.mkdir()
    old.mkdir()
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    with BundleWriter(tmp_path / "out"):
        assert young.exists()
        assert not old.exists()


@pytest.mark.parametrize("partial", [True, False])
def test_a_bundle_caught_between_two_renames_comes_back(tmp_path: Path, partial: bool) -> None:
    make(tmp_path / "out", b"old").path.rename(tmp_path / ".out.replaced-0123456789ab")
    if partial:
        (tmp_path / ".out.partial-0123456789ab").mkdir()
    with pytest.raises(UsageError, match="exists"), BundleWriter(tmp_path / "out"):
        pass
    assert verify(open_bundle(tmp_path / "out")) == []
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [True, False])
def test_a_second_run_between_the_two_renames_of_a_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    old, rename = make(tmp_path / "out", b"old"), Path.rename
    entered = []

    def second_run_before_the_last(self: Path, target: Path) -> Path:
        if target == old.path and not entered:
            entered.append(names(tmp_path))
            with pytest.raises(UsageError, match="another command is writing"):
                BundleWriter(old.path, force=force)
            clean_up_after_killed_runs(old.path)  # one that looked a moment earlier
            assert not old.path.exists()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_run_before_the_last)
    new = make(tmp_path / "out", b"new", force=True)
    ((partial, aside),) = entered
    assert (partial[:13], aside[:14]) == (".out.partial-", ".out.replaced-")
    assert names(tmp_path) == ["out"]
    assert verify(new) == []
    assert new.file("openvino/model.bin").read_bytes() == b"new"


def test_a_bundle_that_takes_its_place_meanwhile_is_not_renamed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", b"old").path.rename(tmp_path / ".out.replaced-0123456789ab")
    new, exists = make(tmp_path / "new", b"new").path, Path.exists

    def appears_after_the_look(self: Path) -> bool:
        found = exists(self)
        if self == tmp_path / "out" and not found and new.is_dir():
            new.rename(self)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", appears_after_the_look)
        clean_up_after_killed_runs(tmp_path / "out")
    assert open_bundle(tmp_path / "out").file("openvino/model.bin").read_bytes() == b"new"
    clean_up_after_killed_runs(tmp_path / "out")
    assert names(tmp_path) == ["out"]
