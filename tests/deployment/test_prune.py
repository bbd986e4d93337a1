"""Files that a repository's devices ask for no more, and those that they may still ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.deployment.prune import prune
from edge_van.deployment.repository import SNAPSHOT, TARGETS, TARGETS_ROLE, Repository
from edge_van.errors import BundleError, UsageError

WEEK = timedelta(days=7)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository", tmp_path / "keys")
    made.create()
    return made


@pytest.fixture
def bundles(device_bundle: Bundle, tmp_path: Path) -> Callable[[str], Bundle]:
    """The bundle as it was made at other times: their manifests differ."""

    def make(created: str) -> Bundle:
        folder = tmp_path / created
        shutil.copytree(device_bundle.path, folder)
        (folder / MANIFEST_NAME).write_bytes(encoded(replace(device_bundle.manifest, created=created)))
        return open_bundle(folder)

    return make


def manifests(repository: Repository) -> int:
    return len(list((repository.folder / TARGETS / "stable").glob("*.manifest.json")))


def age(repository: Repository, days: float) -> None:
    for path in repository.metadata.iterdir():
        then = path.stat().st_mtime - days * 86400
        os.utime(path, (then, then))


def test_what_was_replaced_long_ago_goes(repository: Repository, bundles: Callable[[str], Bundle]) -> None:
    repository.add(bundles("2026-01-01"))
    repository.add(bundles("2026-02-01"))
    repository.refresh()
    assert prune(repository.folder, WEEK) == (0, 0), "somebody may be downloading"
    age(repository, 8)
    repository.add(bundles("2026-03-01"))
    foreign = [repository.folder / TARGETS / "stable" / "notes.txt", repository.metadata / "README"]
    for path in foreign:
        path.write_text("nobody's")
    roots = len(list(repository.metadata.glob("*.root.json")))
    files, size = prune(repository.folder, WEEK)
    assert manifests(repository) == 2, "February's was replaced a moment ago"
    assert [path.name for path in sorted(repository.metadata.glob("*.targets.json"))] == [
        "3.targets.json",
        "4.targets.json",
    ]
    assert files > 3
    assert size > 0
    assert all(path.exists() for path in foreign)
    cut = repository.folder / TARGETS / "stable" / f".{'0' * 64}.model.bin.part"
    cut.write_bytes(b"what a killed command had of it")
    assert len(list(repository.metadata.glob("*.root.json"))) == roots
    assert prune(repository.folder, timedelta(0))[0] > 0
    assert not cut.exists()
    assert manifests(repository) == 1
    assert prune(repository.folder, timedelta(0)) == (0, 0)
    listed = repository._open(TARGETS_ROLE).signed.targets
    for name, target in listed.items():
        folder, _, file = name.rpartition("/")
        assert (repository.folder / TARGETS / folder / f"{target.hashes['sha256']}.{file}").is_file()
    repository.refresh()
    assert repository._open(SNAPSHOT).signed.meta["targets.json"].version == 4


def test_what_another_channel_lists_stays(repository: Repository, bundles: Callable[[str], Bundle]) -> None:
    repository.add(bundles("2026-01-01"), "beta")
    repository.add(bundles("2026-02-01"))
    prune(repository.folder, timedelta(0))
    assert manifests(repository) == 1
    assert len(list((repository.folder / TARGETS / "beta").glob("*.manifest.json"))) == 1


def test_nothing_is_removed_by_metadata_that_cannot_be_read(
    repository: Repository, bundles: Callable[[str], Bundle]
) -> None:
    repository.add(bundles("2026-01-01"))
    repository.add(bundles("2026-02-01"))
    (repository.metadata / "3.targets.json").write_text("{")
    with pytest.raises(BundleError, match=r"3\.targets\.json cannot be read"):
        prune(repository.folder, timedelta(0))
    assert manifests(repository) == 2


def test_what_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no repository"):
        prune(tmp_path, WEEK)
