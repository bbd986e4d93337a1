"""The artifact folder on a real disk: whole or not at all, and every file of it accounted for."""

import errno
import fcntl
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import ACCURACY, MANIFEST, UNSAFE, make, names, one_line
from hypothesis import given
from hypothesis import strategies as st

import edge_van.bundle.bundle
from edge_van.bundle.bundle import open_bundle, update_manifest, verify
from edge_van.bundle.manifest import check_relative
from edge_van.bundle.writer import BundleWriter
from edge_van.errors import BundleError, UsageError


def test_a_finished_bundle_reads_back_and_verifies(tmp_path: Path) -> None:
    bundle = make(tmp_path / "deep" / "er" / "van_b0")
    assert names(tmp_path / "deep" / "er") == ["van_b0"]
    assert [e.path for e in bundle.manifest.files] == ["model.xml", "openvino/model.bin"]
    assert open_bundle(bundle.path) == bundle
    assert verify(bundle) == []
    assert bundle.file("openvino/model.bin").read_bytes() == b"weights"
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert bundle.path.stat().st_mode == fresh.stat().st_mode  # as readable as any other folder


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, SystemExit, UsageError])
def test_whatever_is_raised_inside_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    old = make(tmp_path / "van_b0", b"old")
    with pytest.raises(stop), BundleWriter(old.path, force=True) as writer:  # noqa: PT012
        writer.path("a/b").write_bytes(b"half")
        raise stop
    assert names(tmp_path) == ["van_b0"]
    assert verify(open_bundle(old.path)) == []
    with pytest.raises(stop), BundleWriter(tmp_path / "new" / "folder" / "van_b0"):
        raise stop
    assert names(tmp_path) == ["van_b0"]


def test_leaving_without_finish_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        writer.path("a").write_bytes(b"x")
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError, match="with block"):
        writer.path("b")


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    make(tmp_path / "out", b"old")
    with pytest.raises(UsageError) as caught:
        BundleWriter(tmp_path / "out")
    one_line(caught, str(tmp_path / "out"), "--force", "--output")
    bundle = make(tmp_path / "out", b"new", force=True)
    assert bundle.file("openvino/model.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


def test_force_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="--force"):
        BundleWriter(tmp_path / "out")
    make(tmp_path / "out", force=True)


@pytest.mark.parametrize("manifest", [None, '{"name": "a web application"}', "[1]", "broken {", "[" * 100_000])
def test_force_never_replaces_a_foreign_folder(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"x")
    if manifest is not None:
        (tmp_path / "photos" / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError) as caught:
        BundleWriter(tmp_path / "photos", force=True)
    one_line(caught, "photos", "even with --force")


@pytest.mark.parametrize("stranger", ["notes.txt", "new/deep/notes.txt", ".hidden", ".notes.txt.partial-0123456789ab"])
def test_force_replaces_no_bundle_with_other_files_in_it(tmp_path: Path, stranger: str) -> None:
    bundle = make(tmp_path / "out", b"old")
    file = bundle.path / stranger
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("an afternoon's work")
    with pytest.raises(UsageError) as caught:
        BundleWriter(tmp_path / "out", force=True)
    one_line(caught, str(tmp_path / "out"), f"({stranger})", "even with --force", "move them away")
    assert file.read_text() == "an afternoon's work"
    file.unlink()
    assert make(tmp_path / "out", b"new", force=True).file("openvino/model.bin").read_bytes() == b"new"


def test_a_bundles_own_files_do_not_stop_force(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out", b"old")
    bundle.file("model.xml").unlink()
    bundle.file("openvino/model.bin").write_bytes(b"changed")
    (bundle.path / "empty").mkdir()
    (bundle.path / "report.html").write_text("<html/>")
    (bundle.path / ".manifest.json.partial-0123456789ab").write_text("{")  # of an update that was killed
    make(tmp_path / "out", b"new", force=True)
    assert names(tmp_path / "out") == ["manifest.json", "model.xml", "openvino"]


def test_a_manifest_that_lists_no_files_protects_them_all(tmp_path: Path) -> None:
    for content in ('{"edge_van_version": "9", "models": {}}', '{"edge_van_version": "9", "files": [1, {"path": 2}]}'):
        folder = make(tmp_path / "out").path
        (folder / "manifest.json").write_text(content)
        (folder / os.fsdecode(b"\xff")).write_text("x")
        (folder / "a\nb").write_text("x")
        with pytest.raises(UsageError) as caught:
            BundleWriter(folder, force=True)
        one_line(caught, "a\\nb, model.xml, openvino/model.bin and 1 more")
        shutil.rmtree(folder)


def test_a_file_put_there_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, rename = make(tmp_path / "out", b"old"), Path.rename

    def meanwhile(self: Path, target: Path) -> Path:
        if self == old.path:
            (old.path / "notes.txt").write_text("an afternoon's work")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", meanwhile)
    with pytest.raises(UsageError, match=r"out holds files .*notes\.txt"):
        make(tmp_path / "out", b"new", force=True)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "an afternoon's work"
    assert old.file("openvino/model.bin").read_bytes() == b"old"


def test_without_force_a_bundle_put_there_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, put = make(tmp_path / "other", b"of another run"), edge_van.storage.new_folder.put_in_place

    def meanwhile(*arguments: Any) -> None:
        shutil.copytree(other.path, tmp_path / "out")
        put(*arguments)

    monkeypatch.setattr(edge_van.storage.new_folder, "put_in_place", meanwhile)
    with pytest.raises(UsageError, match="exists"):
        make(tmp_path / "out", b"new")
    assert open_bundle(tmp_path / "out").file("openvino/model.bin").read_bytes() == b"of another run"
    assert names(tmp_path) == ["other", "out"]


def test_force_replaces_neither_files_nor_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(make(tmp_path / "out").path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(UsageError, match="file or a link"):
            BundleWriter(tmp_path / name, force=True)
    with pytest.raises(UsageError):
        BundleWriter(Path("/"), force=True)


@pytest.mark.parametrize("force", [False, True])
def test_another_run_at_work_is_said_at_once(tmp_path: Path, force: bool) -> None:
    if force:
        make(tmp_path / "out", b"old")
    with BundleWriter(tmp_path / "out", force=force):
        with pytest.raises(UsageError, match=r"another command is writing \S+ at this moment: wait for it, or choose"):
            BundleWriter(tmp_path / "out", force=force)
        with BundleWriter(tmp_path / "beside"):
            pass
    BundleWriter(tmp_path / "out", force=force)


def test_what_appears_during_the_run_is_not_replaced(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        make(tmp_path / "other", b"of another run").path.rename(tmp_path / "out")
        with pytest.raises(UsageError, match="exists"):
            writer.finish(MANIFEST)
    assert open_bundle(tmp_path / "out").file("openvino/model.bin").read_bytes() == b"of another run"
    with BundleWriter(tmp_path / "out", force=True) as writer:
        (tmp_path / "out" / "manifest.json").unlink()
        with pytest.raises(UsageError, match="even with"):
            writer.finish(MANIFEST)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), KeyboardInterrupt()])
def test_force_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    old, rename, calls = make(tmp_path / "out", b"old"), Path.rename, 0

    def fails_once(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises((BundleError, KeyboardInterrupt)):
        make(tmp_path / "out", b"new", force=True)
    assert names(tmp_path) == ["out"]
    assert verify(open_bundle(old.path)) == []
    assert old.file("openvino/model.bin").read_bytes() == b"old"


@pytest.mark.parametrize("path", [*UNSAFE, "manifest.json"])
def test_the_writer_refuses_paths_out_of_the_bundle(tmp_path: Path, path: str) -> None:
    with BundleWriter(tmp_path / "out") as writer, pytest.raises(BundleError):
        writer.path(path)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.bin", "C:", "\\", "~", "\x00", "é"]), max_size=6).map("/".join))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    try:
        check_relative(path)
    except BundleError:
        return
    root = "/bundle"
    joined = os.path.normpath(os.path.join(root, path))  # noqa: PTH118  the lexical meaning is what is tested
    assert joined == f"{root}/{path}"


def test_links_and_infinite_numbers_are_not_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        writer.path("a").symlink_to("/etc/hostname")
        with pytest.raises(BundleError, match="regular file"):
            writer.finish(MANIFEST)
    with pytest.raises(BundleError) as caught, BundleWriter(tmp_path / "out") as writer:
        writer.finish(replace(MANIFEST, accuracy=replace(ACCURACY, logit_sqnr_db=float("inf"))))
    one_line(caught, "$.accuracy.logit_sqnr_db")
    assert names(tmp_path) == []


def test_only_listed_files_inside_the_bundle_are_handed_out(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    for path in ("../secret", "/etc/hostname", "manifest.json", "nothing"):
        with pytest.raises(BundleError, match="lists no file"):
            bundle.file(path)
    (tmp_path / "secret").write_text("x")
    model = bundle.path / "model.xml"
    for target, word in ((tmp_path / "secret", "links out"), (model, "is missing"), (tmp_path / "none", "is missing")):
        model.unlink()
        model.symlink_to(target)
        with pytest.raises(BundleError, match=word):
            bundle.file("model.xml")
    (tmp_path / "current").symlink_to(bundle.path)  # a link to the whole bundle is fine
    assert open_bundle(tmp_path / "current").file("openvino/model.bin").read_bytes() == b"weights"


def test_verify_names_every_difference(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        for name in ("changed", "gone", "linked", "longer", "piped", "sound"):
            writer.path(f"d/{name}").write_bytes(b"12345")
        bundle = writer.finish(MANIFEST)
    folder = bundle.path / "d"
    (folder / "changed").write_bytes(b"1234x")
    (folder / "longer").write_bytes(b"123456")
    for name in ("gone", "linked", "piped"):
        (folder / name).unlink()
    (folder / "linked").symlink_to(folder / "sound")
    os.mkfifo(folder / "piped")
    (bundle.path / "new").mkdir()
    (bundle.path / "new" / "file").write_text("x")
    (bundle.path / "elsewhere").symlink_to("/etc")
    (bundle.path / os.fsdecode(b"\xff")).write_text("x")
    seen: list[tuple[str, int]] = []
    problems = verify(bundle, lambda path, size: seen.append((path, size)))
    assert [(p.path, p.kind) for p in problems] == [
        ("d/changed", "sha256"),
        ("d/gone", "missing"),
        ("d/linked", "symlink"),
        ("d/longer", "size"),
        ("d/piped", "special"),
        ("elsewhere", "symlink"),
        ("new/file", "extra"),
        ("?", "extra"),
    ]
    assert all(p.path in p.detail and "\n" not in p.detail for p in problems)
    assert seen == [(entry.path, 5) for entry in bundle.manifest.files]


def test_a_report_belongs_to_a_bundle_unlisted(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    (bundle.path / "report.html").write_text("<html/>")
    (bundle.path / "openvino" / "report.html").write_text("<html/>")
    assert [(p.path, p.kind) for p in verify(bundle)] == [("openvino/report.html", "extra")]


def test_some_files_alone_are_checked(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    bundle.check("model.xml", "openvino/model.bin")
    bundle.file("openvino/model.bin").write_bytes(b"WEIGHTS")
    bundle.check("model.xml")
    with pytest.raises(BundleError) as caught:
        bundle.check("model.xml", "openvino/model.bin")
    one_line(caught, str(bundle.path), "damaged", "openvino/model.bin", "sha256 differs", "copy the bundle again")
    bundle.file("openvino/model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="has 0 bytes, the manifest says 7"):
        bundle.check("openvino/model.bin")
    bundle.file("openvino/model.bin").unlink()
    with pytest.raises(BundleError, match="is missing"):
        bundle.check("openvino/model.bin")
    with pytest.raises(BundleError, match="lists no file 'model'"):
        bundle.check("model")


def test_a_finished_bundle_is_updated_inside_the_with_block(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        bundle = writer.finish(MANIFEST)
        descriptor = os.open(bundle.path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where update_manifest would wait for ever
        os.close(descriptor)
        assert update_manifest(bundle, warnings=("a",)).manifest.warnings == ("a",)


def test_results_of_two_commands_both_stay(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    update_manifest(bundle, accuracy=ACCURACY)
    both = update_manifest(bundle, warnings=("noisy machine",))
    assert (both.manifest.accuracy, both.manifest.warnings) == (ACCURACY, ("noisy machine",))
    assert open_bundle(bundle.path) == both
    assert verify(both) == []


def test_a_failed_update_keeps_the_manifest(tmp_path: Path) -> None:
    bundle = make(tmp_path / "out")
    before = (bundle.path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="accuracy"):
        update_manifest(bundle, accuracy=replace(ACCURACY, images_per_s=float("nan")))
    assert (bundle.path / "manifest.json").read_bytes() == before
    assert verify(bundle) == []


def test_results_do_not_land_in_another_bundle(tmp_path: Path) -> None:
    old = make(tmp_path / "out")
    with BundleWriter(old.path, force=True) as writer:
        writer.finish(replace(MANIFEST, created="2027-01-01T00:00:00Z"))
    with pytest.raises(BundleError, match="replaced by another"):
        update_manifest(old, accuracy=ACCURACY)
