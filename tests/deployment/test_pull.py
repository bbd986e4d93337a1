"""Devices that pull from a static file server: what each of them refuses by name, and what a lost server costs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from deployment.file_server import FileServer, file_server

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.layout import INT8_IR, with_weights
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.deployment.pull import TRUSTED, Pulled, PullOptions, pull
from edge_van.deployment.releases import DeviceOptions, list_releases, rollback, trust
from edge_van.deployment.repository import LIFE, ROLES, ROOT, SNAPSHOT, TARGETS_ROLE, TIMESTAMP, Repository, _next
from edge_van.deployment.rollout import DeployOptions
from edge_van.deployment.signing import sign
from edge_van.deployment.targets import load_target
from edge_van.errors import DeviceError, MissingRuntimeError, UsageError, VerificationError

WEIGHTS = with_weights(INT8_IR)[1]
TARGET = replace(load_target("cpu-x86"), python=(sys.executable,), seconds=0.1, warm_up_s=0.0, rounds=1)


@dataclass
class Fleet:
    """A repository, its server and its devices' homes."""

    repository: Repository
    server: FileServer
    first_root: Path
    homes: Path

    def pull(self, name: str = "device", **options: Any) -> Pulled:
        deploy = DeployOptions(candidates=("openvino",), root=str(self.homes / name))
        known = (self.homes / name / "pull" / TRUSTED).exists()
        root = None if known else self.first_root
        return pull(self.server.address, TARGET, options=PullOptions(root=root, deploy=deploy, **options))

    def active(self, name: str = "device") -> str | None:
        found = list_releases("local", DeviceOptions(root=str(self.homes / name))).active
        return None if found is None else found.identity


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    repository = Repository(tmp_path / "repository", tmp_path / "keys")
    first = repository.create()
    shutil.copyfile(first, tmp_path / "root.json")
    with file_server(repository.folder) as server:
        yield Fleet(repository, server, tmp_path / "root.json", tmp_path / "homes")


@pytest.fixture
def bundles(device_bundle: Bundle, tmp_path: Path) -> Callable[[str], Bundle]:
    """The bundle as it was made at other times."""

    def make(created: str) -> Bundle:
        folder = tmp_path / f"made {created}"
        shutil.copytree(device_bundle.path, folder)
        (folder / MANIFEST_NAME).write_bytes(encoded(replace(device_bundle.manifest, created=created)))
        return open_bundle(folder)

    return make


def test_a_device_follows_its_repository(fleet: Fleet, bundles: Callable[[str], Bundle]) -> None:
    with pytest.raises(DeviceError, match="has no bundle in its channel stable"):
        fleet.pull()
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    first = fleet.pull()
    assert first.deployed is not None
    assert first.downloaded_bytes > 100_000
    assert not [path for path in fleet.server.asked if "/onnx/" in path]  # of what it cannot run nothing is downloaded
    again = fleet.pull()
    assert (again.deployed, again.downloaded_bytes) == (None, 0)

    fleet.repository.add(bundles("2026-02-01T00:00:00+00:00"))
    second = fleet.pull()
    assert second.deployed is not None
    assert second.deployed.before == first.deployed.release
    assert 0 < second.downloaded_bytes < first.downloaded_bytes / 4, "what did not change is not downloaded again"
    rollback("local", DeviceOptions(root=str(fleet.homes / "device")))
    assert fleet.pull().deployed is None  # whoever went back by hand stays there until there is another
    assert fleet.active() == first.deployed.identity
    assert len(list((fleet.homes / "device" / "pull" / "bundles").iterdir())) == 1

    with pytest.raises(DeviceError, match="no bundle in its channel beta"):
        fleet.pull("other", channel="beta")
    fleet.repository.add(bundles("2026-03-01T00:00:00+00:00"), "beta")
    assert fleet.pull("other", channel="beta").deployed is not None
    assert fleet.pull().deployed is None


@pytest.mark.parametrize(
    "what", ["expired", "replayed", "rolled back", "forged", "forged file", "longer file", "endless", "forged root"]
)
def test_what_is_refused_by_name(
    fleet: Fleet, bundles: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    repository = fleet.repository
    repository.add(bundles("2026-01-01T00:00:00+00:00"))
    before = repository.folder.with_name("before")
    shutil.copytree(repository.folder, before)
    repository.refresh()
    first = fleet.pull()
    assert first.deployed is not None
    new = bundles("2026-02-01T00:00:00+00:00")
    if what == "expired":
        monkeypatch.setitem(LIFE, TIMESTAMP, timedelta(seconds=-1))
        repository.add(new)
        words = "is expired .*timestamp.json.*refreshed"
    elif what == "replayed":  # the server of last week, as it was
        shutil.rmtree(repository.folder)
        shutil.copytree(before, repository.folder)
        words = "shows older files than before .*timestamp"
    elif what == "rolled back":  # whoever has the timestamp's key alone
        repository.add(new)
        timestamp = repository._open(TIMESTAMP)
        timestamp.signed.snapshot_meta.version = 1
        name, content = _next(TIMESTAMP, timestamp, [repository._signer(TIMESTAMP, repository._open(ROOT).signed)])
        (repository.metadata / name).write_bytes(content)
        words = "shows older files than before .*snapshot"
    elif what == "forged":
        repository.add(new)
        path = repository.metadata / "timestamp.json"
        content = json.loads(path.read_text())
        content["signed"]["expires"] = (datetime.now(timezone.utc) + timedelta(days=99)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path.write_text(json.dumps(content))
        words = "not signed as it should be .*timestamp"
    elif what == "forged file":
        repository.add(new)
        manifests = (repository.folder / "targets" / "stable").glob("*.manifest.json")
        altered = max(manifests, key=lambda path: path.stat().st_mtime_ns)
        content = altered.read_bytes()
        altered.write_bytes(content.replace(b"2026-02-01", b"2026-02-02"))
        words = "was altered .*manifest.json"
    elif what == "longer file":
        repository.add(new)
        manifests = (repository.folder / "targets" / "stable").glob("*.manifest.json")
        altered = max(manifests, key=lambda path: path.stat().st_mtime_ns)
        altered.write_bytes(altered.read_bytes() + b"x")
        words = "was altered .*stable/manifest.json"
    elif what == "endless":
        (repository.metadata / "timestamp.json").write_bytes(b" " * 10_000_000)
        words = "was altered .*exceeding"
    else:
        other = Repository(repository.folder.with_name("other"), repository.keys.with_name("other keys"))
        other.create()
        other.rotate(ROOT)
        shutil.copyfile(other.metadata / "2.root.json", repository.metadata / "2.root.json")
        words = "not signed as it should be .*root"
    with pytest.raises(VerificationError, match=words) as refused:
        fleet.pull()
    assert "what is active stays" in str(refused.value)
    assert fleet.active() == first.deployed.identity


def test_a_server_that_goes_away_costs_nothing(fleet: Fleet, bundles: Callable[[str], Bundle]) -> None:
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    first = fleet.pull()
    fleet.repository.add(bundles("2026-02-01T00:00:00+00:00"))
    assert first.deployed is not None
    shutil.rmtree(fleet.homes / "device" / "pull" / "bundles")
    for name in ("manifest.json", "model.bin"):
        fleet.server.breaks_off = name
        with pytest.raises((MissingRuntimeError, VerificationError), match="what is active stays"):
            fleet.pull()
        assert fleet.active() == first.deployed.identity
    fleet.server.breaks_off = None
    fleet.server.asked.clear()
    second = fleet.pull()
    assert second.deployed is not None
    fetched = [path for path in fleet.server.asked if path.startswith("/targets/")]
    assert fetched
    assert not [path for path in fetched if path.endswith(("manifest.json", "/model.xml"))], "they were there"
    address, fleet.server.address = fleet.server.address, "http://127.0.0.1:9"
    with pytest.raises(MissingRuntimeError, match="cannot be read"):
        fleet.pull()
    fleet.server.address = address


@pytest.mark.parametrize("role", ROLES)
def test_a_key_is_rotated(fleet: Fleet, bundles: Callable[[str], Bundle], role: str) -> None:
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    assert fleet.pull().deployed is not None
    old = fleet.repository._key(role).read_bytes()
    fleet.repository.rotate(role)
    assert fleet.repository._key(role).read_bytes() != old
    fleet.repository.add(bundles("2026-02-01T00:00:00+00:00"))
    assert fleet.pull().deployed is not None
    assert fleet.pull("a new device").deployed is not None  # from the first root file
    fleet.repository._key(role).write_bytes(old)
    with pytest.raises(UsageError, match=f"is not the {role} role's key"):
        fleet.repository.rotate(role) if role == ROOT else fleet.repository.add(bundles("2026-03-01T00:00:00+00:00"))


def test_a_device_that_trusts_a_key(fleet: Fleet, bundles: Callable[[str], Bundle], tmp_path: Path) -> None:
    """Both count: the repository's keys and the bundle's."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    trust("local", [tmp_path / "key.pub"], options=DeviceOptions(root=str(fleet.homes / "device")))
    bundle = bundles("2026-01-01T00:00:00+00:00")
    fleet.repository.add(bundle)
    with pytest.raises(DeviceError, match="the bundle is not signed"):
        fleet.pull()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    sign(bundle, tmp_path / "stranger", 3)
    fleet.repository.add(bundle)
    with pytest.raises(DeviceError, match=r"is signed by the key SHA256:.*none that this device trusts"):
        fleet.pull()
    sign(bundle, tmp_path / "key", 2)
    fleet.repository.add(bundle)
    first = fleet.pull()
    assert first.deployed is not None
    old = bundles("2025-01-01T00:00:00+00:00")
    sign(old, tmp_path / "key", 1)
    fleet.repository.add(old)
    with pytest.raises(DeviceError, match="release 1, and 2 was active"):
        fleet.pull()
    assert fleet.active() == first.deployed.identity


def files_of(repository: Repository) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in repository.metadata.iterdir()}


@pytest.mark.parametrize("role", [TARGETS_ROLE, SNAPSHOT])
def test_a_key_that_is_missing_leaves_all_as_it_was(fleet: Fleet, bundles: Callable[[str], Bundle], role: str) -> None:
    """Whatever is to be signed after it: nothing is half published."""
    repository = fleet.repository
    bundle = bundles("2026-01-01T00:00:00+00:00")
    repository.add(bundle)
    before = files_of(repository)
    (repository.keys / "timestamp.pem").rename(repository.keys / "elsewhere.pem")
    for attempt in (lambda: repository.rotate(role), lambda: repository.add(bundle), repository.refresh):
        with pytest.raises(UsageError, match="this takes the timestamp role's key"):
            attempt()
    assert files_of(repository) == before
    assert not list(repository.keys.glob("*.new.pem"))
    assert fleet.pull().deployed is not None


@pytest.mark.parametrize("when", ["before the metadata", "after the metadata"])
def test_a_rotation_that_was_cut(
    fleet: Fleet, bundles: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    repository = fleet.repository
    repository.add(bundles("2026-01-01T00:00:00+00:00"))
    with monkeypatch.context() as patch:
        if when == "before the metadata":
            patch.setattr("edge_van.deployment.repository.replace_files", cut)
        else:
            patch.setattr(Path, "replace", cut)
            patch.setattr("edge_van.storage.files._put", put)
        with pytest.raises(KeyboardInterrupt):
            repository.rotate(SNAPSHOT)
    assert list(repository.keys.glob("*.new.pem"))
    repository.refresh()
    assert not list(repository.keys.glob("*.new.pem"))
    assert fleet.pull().deployed is not None
    repository.rotate(SNAPSHOT)
    repository.add(bundles("2026-02-01T00:00:00+00:00"))
    assert fleet.pull().deployed is not None


def cut(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def put(folder: Path, files: dict[str, bytes], durable: bool) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_what_expires_is_renewed_by_who_has_its_key(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = fleet.repository
    first = repository.refresh()
    assert repository.refresh()[TARGETS_ROLE] == first[TARGETS_ROLE]
    monkeypatch.setattr("edge_van.deployment.repository.RENEWED_BEFORE", timedelta(days=366))
    assert repository.refresh()[TARGETS_ROLE] >= first[TARGETS_ROLE]
    assert len(list(repository.metadata.glob("*.targets.json"))) == 2
    (repository.keys / "targets.pem").unlink()
    repository.refresh()
    assert len(list(repository.metadata.glob("*.targets.json"))) == 2


def test_a_file_that_the_server_has_in_part(fleet: Fleet, bundles: Callable[[str], Bundle]) -> None:
    """By a power cut, say: adding the bundle again mends it."""
    bundle = bundles("2026-01-01T00:00:00+00:00")
    fleet.repository.add(bundle)
    [weights] = (fleet.repository.folder / "targets" / "stable" / "openvino").glob("*.model.bin")
    weights.write_bytes(weights.read_bytes()[:100])
    assert fleet.repository.add(bundle) == Path(bundle.file(WEIGHTS)).stat().st_size
    assert fleet.pull().deployed is not None


def test_what_is_no_repository(tmp_path: Path, fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="keep the keys elsewhere"):
        Repository(tmp_path / "served", tmp_path / "served" / "keys")
    with pytest.raises(UsageError, match="is a repository already"):
        fleet.repository.create()
    cut_init = Repository(tmp_path / "other", fleet.repository.keys)
    with pytest.raises(UsageError, match=r"has a key for root.* an init that was cut: give an empty folder"):
        cut_init.create()
    cut_init.metadata.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"without timestamp\.json, of an init that was cut: remove it"):
        cut_init.create()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    with pytest.raises(UsageError, match=r"holds photo\.jpg already, which would be served"):
        Repository(tmp_path / "full", tmp_path / "fresh").create()
    with pytest.raises(UsageError, match="is a file: give a folder for the keys"):
        Repository(tmp_path / "new", tmp_path / "full" / "photo.jpg").create()
    with pytest.raises(UsageError, match="is a file: give a folder for the repository"):
        Repository(tmp_path / "full" / "photo.jpg", tmp_path / "fresh").create()
    assert not (tmp_path / "fresh").exists(), "no key of a repository that there is not"
    with pytest.raises(UsageError, match="is no repository"):
        Repository(tmp_path / "none", tmp_path / "keys").refresh()
    with pytest.raises(UsageError, match="is no channel"):
        fleet.pull(channel="../x")
    for address in ("http://[x", "file:///etc", "models.example.com"):
        with pytest.raises(UsageError, match="is no address"):
            pull(address, TARGET)
    deploy = DeployOptions(root=str(tmp_path / "new"))
    with pytest.raises(UsageError, match="knows no root file yet"):
        pull(fleet.server.address, TARGET, options=PullOptions(deploy=deploy))
    (tmp_path / "wrong.json").write_text("{}")
    with pytest.raises(UsageError, match="is no root file of TUF"):
        pull(fleet.server.address, TARGET, options=PullOptions(root=tmp_path / "wrong.json", deploy=deploy))
    assert not (tmp_path / "new" / "pull" / TRUSTED).exists()
    with pytest.raises(MissingRuntimeError, match=r"cannot be read \(.+\)"):
        pull("http://127.0.0.1:9", TARGET, options=PullOptions(root=fleet.first_root, deploy=deploy))


def test_a_wrong_root_file_is_forgotten(fleet: Fleet, bundles: Callable[[str], Bundle], tmp_path: Path) -> None:
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    other = Repository(tmp_path / "other", tmp_path / "other keys")
    right, fleet.first_root = fleet.first_root, other.create()
    with pytest.raises(VerificationError, match="is --root-file this repository's first"):
        fleet.pull()
    fleet.first_root = right
    assert fleet.pull().deployed is not None


def test_nothing_is_downloaded_for_another_device(fleet: Fleet, bundles: Callable[[str], Bundle]) -> None:
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    options = PullOptions(root=fleet.first_root, deploy=DeployOptions(root=str(fleet.homes / "device")))
    with pytest.raises(UsageError, match=r"does not fit the target .*: it is x86_64"):
        pull(fleet.server.address, replace(TARGET, architecture="aarch64"), options=options)
    assert not [path for path in fleet.server.asked if path.startswith("/targets/")]


def test_another_way_to_deploy_the_same(fleet: Fleet, bundles: Callable[[str], Bundle]) -> None:
    """Other settings are not "nothing new"."""
    fleet.repository.add(bundles("2026-01-01T00:00:00+00:00"))
    first = fleet.pull()
    deploy = DeployOptions(candidates=("fp32",), root=str(fleet.homes / "device"))
    second = pull(fleet.server.address, TARGET, options=PullOptions(deploy=deploy))
    assert first.deployed is not None
    assert second.deployed is not None
    assert second.deployed.choice.active == "fp32"


def test_a_rotation_that_was_cut_between_two_files(
    fleet: Fleet, bundles: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root names a key that has signed nothing yet: whoever refreshes settles it."""
    repository = fleet.repository
    repository.add(bundles("2026-01-01T00:00:00+00:00"))

    def only_the_root(folder: Path, files: dict[str, bytes], *, alone: bool) -> None:
        [name] = [name for name in files if name.endswith(".root.json")]
        (folder / name).write_bytes(files[name])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge_van.deployment.repository.replace_files", only_the_root)
        with pytest.raises(KeyboardInterrupt):
            repository.rotate(TARGETS_ROLE)
    with pytest.raises(VerificationError, match="not signed as it should be"):
        fleet.pull()
    repository.refresh()
    assert fleet.pull().deployed is not None


def test_the_key_of_another_repository_is_kept(fleet: Fleet) -> None:
    fresh = fleet.repository.keys / "root.new.pem"
    fresh.write_bytes((fleet.repository.keys / "targets.pem").read_bytes())
    kept = fresh.read_bytes()
    fleet.repository.refresh()
    [unused] = fleet.repository.keys.glob("root.*.unused.pem")
    assert unused.read_bytes() == kept
