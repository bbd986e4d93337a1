"""A TUF repository of bundles on any static file server: what devices that nobody reaches from outside pull from.

In: a folder, keys, a ``Bundle``. Out: ``metadata/`` and ``targets/`` in that folder, to be served as they are.

The Update Framework's four roles have a key each: whoever has the server alone can neither alter a bundle nor hand out
an old one, nor hide for longer than the timestamp's life that there is a new one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.layout import RELEASE_NAME, SIGNATURE_NAME
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.deployment.role_keys import keyid_of, new_key, signer_of
from edge_van.deployment.signing import signed_parts
from edge_van.errors import BundleError, UsageError
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import clear_errors, sync
from edge_van.text import first_names

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

METADATA, TARGETS = "metadata", "targets"
ROOT, TARGETS_ROLE, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
ROLES = (ROOT, TARGETS_ROLE, SNAPSHOT, TIMESTAMP)
LIFE = {
    ROOT: timedelta(days=730),
    TARGETS_ROLE: timedelta(days=365),
    SNAPSHOT: timedelta(days=30),
    TIMESTAMP: timedelta(days=7),
}
"""How long what a role signs is taken; ``refresh`` renews the last two, which a job may do every day."""
RENEWED_BEFORE = timedelta(days=90)
"""So long before targets and root expire ``refresh`` renews them, where their keys are at hand."""
STABLE = "stable"


@dataclass
class Repository:
    """A repository's folder, and the keys that are at hand: ``keys`` has ROLE.pem for each role whose turn it is."""

    folder: Path
    keys: Path
    _has_lock: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.keys.resolve().is_relative_to(self.folder.resolve()):
            raise UsageError(f"{self.keys} lies in the repository, which is served to anybody: keep the keys elsewhere")

    @property
    def metadata(self) -> Path:
        return self.folder / METADATA

    def create(self) -> Path:
        """The first metadata and a new key for each role; the root file that every device is given."""
        from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

        if (self.metadata / f"{TIMESTAMP}.json").exists():
            raise UsageError(f"{self.folder} is a repository already: add a bundle to it")
        if self.metadata.exists():
            raise UsageError(f"{self.metadata} is there without {TIMESTAMP}.json, of an init that was cut: remove it")
        if taken := [role for role in ROLES if self._key(role).exists()]:
            raise UsageError(
                f"{self.keys} has a key for {', '.join(taken)} already, of another repository or an init that was cut: "
                f"give an empty folder for the keys"
            )
        for what, path in (("the repository", self.folder), ("the keys", self.keys)):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file: give a folder for {what}")
        if self.folder.is_dir() and (others := sorted(path.name for path in self.folder.iterdir())):
            raise UsageError(
                f"{self.folder} holds {first_names(others, 3)} already, which would be served to anybody: give an "
                f"empty folder"
            )
        root = Root(consistent_snapshot=True)
        signers = {}
        with clear_errors(self.folder):
            (self.folder / TARGETS).mkdir(parents=True)
        with clear_errors(self.keys):
            self.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            for role in ROLES:
                signers[role] = new_key(self._key(role))
                root.add_key(signers[role].public_key, role)
        first: dict[str, Any] = {ROOT: root, TARGETS_ROLE: Targets(), SNAPSHOT: Snapshot(), TIMESTAMP: Timestamp()}
        files = []
        for role, content in first.items():
            content.version = 0
            files.append(_next(role, Metadata(content), [signers[role]]))
        with clear_errors(self.folder):
            self.metadata.mkdir()
            replace_files(self.metadata, dict(files), alone=True)
        return self._file(ROOT)

    def add(self, bundle: Bundle | str | Path, channel: str = STABLE) -> int:
        """Make ``bundle`` what devices of that channel pull next; how many bytes are new.

        It takes the keys of targets, snapshot and timestamp. Every file is hashed first. What another channel has
        stays; the bundle that this one had is listed no more.
        """
        from tuf.api.metadata import TargetFile

        require_channel(channel)
        bundle = as_bundle(bundle)
        names = [entry.path for entry in bundle.manifest.files]
        bundle.check(*names)
        names += [MANIFEST_NAME] + ([] if signed_parts(bundle) is None else [RELEASE_NAME, SIGNATURE_NAME])
        written = 0
        with self._alone():
            content, root = self._open(TARGETS_ROLE), self._open(ROOT).signed
            signers = {role: self._signer(role, root) for role in (TARGETS_ROLE, SNAPSHOT, TIMESTAMP)}
            listed = content.signed.targets
            for path in [path for path in listed if path.startswith(f"{channel}/")]:
                del listed[path]
            for name in names:
                target = TargetFile.from_file(f"{channel}/{name}", str(bundle.path / name), ["sha256"])
                listed[target.path] = target
                written += self._put(bundle.path / name, target)
            self._publish([*signers], {TARGETS_ROLE: content}, signers)
        return written

    def refresh(self) -> dict[str, datetime]:
        """Sign snapshot and timestamp anew, and targets and root where they expire soon and their keys are at hand.

        Until when each role's file is taken.
        """
        with self._alone():
            root = self._open(ROOT).signed
            soon = datetime.now(timezone.utc) + RENEWED_BEFORE
            old = [role for role in (ROOT, TARGETS_ROLE) if self._open(role).signed.expires < soon]
            roles = [role for role in old if self._key(role).exists()]
            if TARGETS_ROLE not in roles and not self._is_signed(TARGETS_ROLE, root):  # a rotation that was cut
                roles.append(TARGETS_ROLE)
            roles += [SNAPSHOT, TIMESTAMP]
            self._publish(roles, {}, {role: self._signer(role, root) for role in roles})
            return {role: self._open(role).signed.expires for role in ROLES}

    def rotate(self, role: str) -> None:
        """A new key for a role. It takes the root's key, and those of the role and all that are signed after it; the
        root itself is signed by its old and its new one."""
        if role not in ROLES:
            raise UsageError(f"{role!r} is no role; there are {', '.join(ROLES)}")
        with self._alone():
            content = self._open(ROOT)
            root = content.signed
            again = list(ROLES[ROLES.index(role) :]) if role != ROOT else []
            signers = {name: self._signer(name, root) for name in (ROOT, *again)}
            fresh = self._fresh(role)
            new = new_key(fresh)
            root.revoke_key(root.roles[role].keyids[0], role)
            root.add_key(new.public_key, role)
            first = _next(ROOT, content, [signers[ROOT], new] if role == ROOT else [signers[ROOT]])
            self._publish(again, {ROOT: content}, {**signers, role: new}, first=first)
            fresh.replace(self._key(role))

    # --- one role's file

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.metadata.is_dir():
            raise UsageError(f"{self.folder} is no repository: make one with edge-van repository init")
        with clear_errors(self.folder), locked(self.metadata) as self._has_lock:
            self._settle_keys()
            yield

    def _settle_keys(self) -> None:
        """A rotation that was cut: its key is the role's if the root says so, and nobody's if not."""
        for role in ROLES:
            if (fresh := self._fresh(role)).exists():
                root = self._open(ROOT).signed
                if keyid_of(fresh) is not None and keyid_of(fresh) in root.roles[role].keyids:
                    fresh.replace(self._key(role))
                elif self._key(role).exists() and keyid_of(self._key(role)) in root.roles[role].keyids:
                    if keyid_of(fresh) is None:
                        fresh.unlink()
                    else:  # maybe of another repository: a key is never thrown away
                        fresh.replace(self.keys / f"{role}.{str(keyid_of(fresh))[:16]}.unused.pem")

    def _put(self, source: Path, target: Any) -> int:
        """The file where the server has it, whole and on the disk; how many bytes that took."""
        from tuf.api.exceptions import LengthOrHashMismatchError

        place = self.folder / TARGETS / target.path
        place = place.with_name(f"{target.hashes['sha256']}.{place.name}")
        with suppress(FileNotFoundError, LengthOrHashMismatchError), place.open("rb") as file:
            target.verify_length_and_hashes(file)
            return 0
        part = place.with_name(f".{place.name}.part")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            try:
                target.verify_length_and_hashes(file)
            except LengthOrHashMismatchError:
                raise BundleError(f"{source} was changed meanwhile: add the bundle again") from None
            os.fsync(file.fileno())
        part.replace(place)
        sync(place.parent)
        return int(target.length)

    def _publish(
        self,
        roles: list[str],
        opened: dict[str, Metadata[Any]],
        signers: dict[str, Any],
        *,
        first: tuple[str, bytes] | None = None,
    ) -> None:
        """The next versions of those ``roles``, in their order, all in one step: written beside, then renamed.

        What is ``opened`` is written as it is there; ``first`` is a root that is signed already."""
        from tuf.api.metadata import MetaFile

        files = [] if first is None else [first]
        contents = {role: opened.get(role) or self._open(role) for role in ROLES}
        versions = {role: contents[role].signed.version + (role in roles) for role in ROLES}
        contents[SNAPSHOT].signed.meta = {f"{TARGETS_ROLE}.json": MetaFile(versions[TARGETS_ROLE])}
        contents[TIMESTAMP].signed.snapshot_meta = MetaFile(versions[SNAPSHOT])
        files += [_next(role, contents[role], [signers[role]]) for role in roles]
        replace_files(self.metadata, dict(files), alone=self._has_lock)

    def _is_signed(self, role: str, root: Any) -> bool:
        """Whether the role's file is signed by the key that the newest root names."""
        content = self._open(role)
        return bool(root.get_verification_result(role, content.signed_bytes, content.signatures))

    def _key(self, role: str) -> Path:
        return self.keys / f"{role}.pem"

    def _fresh(self, role: str) -> Path:
        return self.keys / f"{role}.new.pem"

    def _file(self, role: str) -> Path:
        """The newest of a role."""
        if role == TIMESTAMP:
            return self.metadata / f"{role}.json"
        found = self.metadata.glob(f"[0-9]*.{role}.json")
        return max(found, key=lambda path: int(path.name.split(".")[0]))

    def _open(self, role: str) -> Metadata[Any]:
        try:
            return opened(self._file(role))
        except ValueError:  # of max
            raise BundleError(f"{self.metadata} has no {role}.json: bring it back") from None

    def _signer(self, role: str, root: Any) -> Any:
        [keyid] = root.roles[role].keyids
        path = self._key(role)
        if not path.exists():
            raise UsageError(f"this takes the {role} role's key, and {path} is not there: give --keys")
        signer = signer_of(path)
        if signer is None or signer.public_key.keyid != keyid:
            raise UsageError(f"{path} is not the {role} role's key of this repository")
        return signer


def opened(path: Path) -> Metadata[Any]:
    """``BundleError`` for a file that is no metadata."""
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    try:
        return Metadata.from_file(str(path))
    except (DeserializationError, ValueError, OSError) as error:
        raise BundleError(f"{path} cannot be read as TUF's metadata: bring it back ({error})") from None


def _next(role: str, content: Metadata[Any], signers: list[Any]) -> tuple[str, bytes]:
    """(name, bytes) of the next version of a role, signed."""
    content.signed.version += 1
    content.signed.expires = datetime.now(timezone.utc).replace(microsecond=0) + LIFE[role]
    content.signatures.clear()
    for signer in signers:
        content.sign(signer, append=True)
    name = f"{role}.json" if role == TIMESTAMP else f"{content.signed.version}.{role}.json"
    return name, content.to_bytes()


def require_channel(name: str) -> None:
    """``UsageError`` for what is no folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UsageError(f"{name!r} is no channel: letters, digits, - and _ are")
