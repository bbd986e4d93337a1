"""A device that nobody reaches from outside looks for its next bundle itself, and deploys it to itself.

In: the address of a TUF repository, the root file that it trusts, a target. Out: a ``Pulled``.

The Update Framework's own client checks every file before anything else reads it; then it is the same deploy, by the
same agent, as from a host: checked, timed, and active only where it is better than nothing.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_van.bundle.bundle import open_bundle
from edge_van.bundle.layout import GOLDEN, RELEASE_NAME, SIGNATURE_NAME
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.deployment.connection import open_device
from edge_van.deployment.look import looked_at
from edge_van.deployment.releases import DeviceOptions, prune
from edge_van.deployment.repository import METADATA, STABLE, TARGETS, require_channel
from edge_van.deployment.rollout import Deployed, DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import LOCAL, transport_to
from edge_van.errors import DeviceError, MissingRuntimeError, UsageError, VerificationError
from edge_van.progress import UNWATCHED, Work
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import clear_errors
from edge_van.text import single_line

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater

TRUSTED = "trusted.root.json"
DONE, BUNDLES = "deployed", "bundles"
"""What was deployed last, and how: a device that was rolled back by hand stays so until there is another."""
_OTHERS = {"openvino": ("onnx/", "tensorrt/"), "tensorrt": ("openvino", "tensorrt/"), "tensorrt_rtx": ("openvino",)}
"""Folders of a bundle that a runtime does not need, by how they begin."""


@dataclass(frozen=True)
class PullOptions:
    """``root`` is the repository's first ``root.json``, needed once: from then on it is kept, and followed."""

    channel: str = STABLE
    root: Path | None = None
    deploy: DeployOptions = field(default_factory=DeployOptions)


@dataclass(frozen=True)
class Pulled:
    """``deployed`` is None where there was nothing new."""

    repository: str
    channel: str
    downloaded_bytes: int
    deployed: Deployed | None


def pull(
    repository: str, target: Target | str | Path, *, options: PullOptions | None = None, work: Work = UNWATCHED
) -> Pulled:
    """Deploy what the repository has for this device, where that is not what it deployed last.

    Whatever goes wrong, what was active stays. Files that have arrived whole are not downloaded again. Raises
    ``VerificationError`` for metadata or files that are expired, older than known ones, forged or altered,
    ``MissingRuntimeError`` where the server cannot be reached or breaks off, and as ``deploy``.
    """
    options = options or PullOptions()
    require_channel(options.channel)
    _require_address(repository)
    kind = target if isinstance(target, Target) else load_target(target)
    root = str(Path(options.deploy.root or kind.root).expanduser())
    home = Path(root) / "pull"
    first = _first_root(home, options.root)
    with clear_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    with clear_errors(home), locked(home) as alone:
        with work.reporter.stage("Looking for a new bundle"), _clear(repository):
            updater = _updated(repository, home, first, alone=alone)
            manifest = _known(updater, options.channel, MANIFEST_NAME)
            signed = _known(updater, options.channel, RELEASE_NAME)
        if manifest is None:
            raise DeviceError(f"{repository} has no bundle in its channel {options.channel}: add one, or name another")
        digest = manifest.hashes["sha256"]
        # other settings, or a signature by another key, are another deploy of the same bundle
        asked = (digest, None if signed is None else signed.hashes["sha256"], kind, options.deploy)
        wanted = f"{hashlib.sha256(repr(asked).encode()).hexdigest()} {digest[:16]}"
        done = _done(home)
        if done == wanted:
            return Pulled(repository, options.channel, 0, None)
        with open_device(transport_to(LOCAL), kind, root) as device:  # before anything is downloaded for another
            looked_at(device, kind, work)
        folder = home / BUNDLES / digest[:16]
        _keep_only(home, (folder.name, done.split()[-1] if done else ""))  # what changed little is not fetched again
        with _clear(repository):
            downloaded = _download(updater, options.channel, folder, kind, work)
        deployed = deploy(open_bundle(folder), LOCAL, kind, options=replace(options.deploy, root=root), work=work)
        replace_files(home, {DONE: f"{wanted}\n".encode()}, alone=alone)
        _keep_only(home, (folder.name,))
        prune(LOCAL, options=DeviceOptions(target=kind, root=root))
        return Pulled(repository, options.channel, downloaded, deployed)


def _require_address(repository: str) -> None:
    try:
        parts = urlsplit(repository)
        fits = parts.scheme in ("http", "https") and bool(parts.netloc)
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(f"{repository!r} is no address of a repository: give one that begins with https://")


def _done(home: Path) -> str:
    """What was deployed last; "" for nothing."""
    try:
        return (home / DONE).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _keep_only(home: Path, names: tuple[str, ...]) -> None:
    """Of the bundles that were pulled."""
    if (home / BUNDLES).is_dir():
        for folder in (home / BUNDLES).iterdir():
            if folder.name not in names:
                shutil.rmtree(folder)


def _first_root(home: Path, given: Path | None) -> bytes:
    """The root file that this device was given first, now or before."""
    from_before = home / TRUSTED
    if given is None:
        try:
            return from_before.read_bytes()
        except OSError:
            raise UsageError(
                "this device knows no root file yet: give the repository's first one with --root-file, once"
            ) from None
    try:
        content = given.read_bytes()
    except OSError as error:
        raise UsageError(f"--root-file {given} cannot be read: {error.strerror}") from None
    if from_before.exists() and from_before.read_bytes() != content:
        raise UsageError(
            f"this device follows another root file already, {from_before}: remove {home} to begin with {given}"
        )
    return content


def _updated(repository: str, home: Path, first: bytes, *, alone: bool) -> Updater:
    """TUF's client with the newest metadata. Only then is the first root file kept: a wrong one is forgotten."""
    try:
        from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
        from tuf.api.metadata import Metadata, Root
        from tuf.ngclient import Updater
    except ModuleNotFoundError:
        raise MissingRuntimeError("bundles are pulled by tuf: pip install 'edge-van[pull]'") from None

    is_new = not (home / TRUSTED).exists()
    if is_new:
        try:
            Metadata[Root].from_bytes(first).verify_delegate(Root.type, Metadata[Root].from_bytes(first))
        except (RepositoryError, ValueError):
            raise UsageError("--root-file is no root file of TUF: give the repository's metadata/1.root.json") from None
    address = repository.rstrip("/")
    try:
        updater = Updater(
            metadata_dir=str(home / METADATA),
            metadata_base_url=f"{address}/{METADATA}/",
            target_base_url=f"{address}/{TARGETS}/",
            bootstrap=first,
        )
        updater.refresh()
    except BaseException as error:
        if is_new:
            shutil.rmtree(home / METADATA, ignore_errors=True)
            if isinstance(error, UnsignedMetadataError):
                raise VerificationError(
                    f"{repository} is not signed as it should be ({single_line(error)}): is --root-file this "
                    f"repository's first?"
                ) from error
        raise
    if is_new:
        with clear_errors(home):
            replace_files(home, {TRUSTED: first}, alone=alone)
    return updater


def _known(updater: Updater, channel: str, name: str) -> TargetFile | None:
    return updater.get_targetinfo(f"{channel}/{name}")


def _download(updater: Updater, channel: str, folder: Path, target: Target, work: Work) -> int:
    """The bundle's files that this target may need; how many bytes of them were not there yet."""
    [manifest] = _fetched(updater, channel, folder, (MANIFEST_NAME,))
    sent = manifest
    listed = [entry.path for entry in open_bundle(folder).manifest.files]
    others = _OTHERS[target.runtime]
    names = [name for name in listed if not name.startswith(others) or name == GOLDEN]
    with work.reporter.stage("Downloading", len(names)) as advance:
        for size in _fetched(updater, channel, folder, names):
            sent += size
            advance(1)
    signed = [name for name in (RELEASE_NAME, SIGNATURE_NAME) if _known(updater, channel, name) is not None]
    return sent + sum(_fetched(updater, channel, folder, signed))


def _fetched(updater: Updater, channel: str, folder: Path, names: tuple[str, ...] | list[str]) -> Iterator[int]:
    """Bytes that each of the files took; 0 for one that was there."""
    from tuf.api.exceptions import DownloadLengthMismatchError, LengthOrHashMismatchError

    for name in names:
        info = _known(updater, channel, name)
        if info is None:
            raise VerificationError(f"the repository lists no {channel}/{name}, which its manifest does: add it again")
        place = folder / name
        if updater.find_cached_target(info, str(place)) is not None:
            yield 0
            continue
        with clear_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            there = next((p for p in _elsewhere(folder, name) if updater.find_cached_target(info, str(p))), None)
            if there is not None:
                shutil.copyfile(there, place)
                yield 0
                continue
            try:
                updater.download_target(info, str(place))
            except (LengthOrHashMismatchError, DownloadLengthMismatchError) as error:
                raise LengthOrHashMismatchError(f"{channel}/{name}: {error}") from error
        yield info.length


def _elsewhere(folder: Path, name: str) -> Iterator[Path]:
    """Where the bundles that were pulled before have a file of that name: often it is the same."""
    return (other / name for other in folder.parent.iterdir() if other != folder)


@contextmanager
def _clear(repository: str) -> Iterator[None]:
    """The client's errors as ours, in one line."""
    try:
        from tuf.api.exceptions import (
            BadVersionNumberError,
            DownloadError,
            DownloadLengthMismatchError,
            ExpiredMetadataError,
            LengthOrHashMismatchError,
            RepositoryError,
            UnsignedMetadataError,
        )
        from urllib3.exceptions import HTTPError
    except ModuleNotFoundError:
        yield
        return
    stays = "what is active stays"
    try:
        yield
    except ExpiredMetadataError as error:
        text = f"expired ({single_line(error)}): have it refreshed, or set this device's clock; {stays}"
        raise VerificationError(f"{repository} is {text}") from error
    except BadVersionNumberError as error:
        raise VerificationError(
            f"{repository} shows older files than before ({single_line(error)}); {stays}"
        ) from error
    except UnsignedMetadataError as error:
        raise VerificationError(
            f"{repository} is not signed as it should be ({single_line(error)}); {stays}"
        ) from error
    except (LengthOrHashMismatchError, DownloadLengthMismatchError) as error:
        raise VerificationError(f"a file of {repository} was altered ({single_line(error)}); {stays}") from error
    except RepositoryError as error:
        raise VerificationError(f"{repository} cannot be trusted ({single_line(error)}); {stays}") from error
    except (DownloadError, HTTPError) as error:
        raise MissingRuntimeError(
            f"{repository} cannot be read ({_reason(error)}): the next pull goes on; {stays}"
        ) from error


def _reason(error: BaseException) -> str:
    """The client wraps errors in ones that say nothing."""
    while not str(error) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return single_line(error, 200) or type(error).__name__
