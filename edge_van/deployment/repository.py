"""A TUF repository of bundles on any static file server: what devices that nobody reaches from outside pull from.

In: a folder, keys, a ``Bundle``. Out: ``metadata/`` and ``targets/`` in that folder, to be served as they are.

The Update Framework's four roles have a key each: whoever has the server alone can neither alter a bundle nor hand out
an old one, nor hide for longer than the timestamp's life that there is a new one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.layout import RELEASE_NAME, SIGNATURE_NAME
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.deployment.signing import signed_parts
from edge_van.errors import BundleError, UsageError
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import clear_errors

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, MetaFile

METADATA, TARGETS = "metadata", "targets"
ROOT, TARGETS_ROLE, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
ROLES = (ROOT, TARGETS_ROLE, SNAPSHOT, TIMESTAMP)
LIFE = {
    ROOT: timedelta(days=730),
    TARGETS_ROLE: timedelta(days=365),
    SNAPSHOT: timedelta(days=30),
    TIMESTAMP: timedelta(days=7),
}
"""How long what a role signs is taken; ``refresh`` renews the last two, which a server may do every day."""
STABLE = "stable"


@dataclass
class Repository:
    """A repository's folder, and the keys that are at hand: ``keys`` has ROLE.pem for each role whose turn it is."""

    folder: Path
    keys: Path
    _has_lock: bool = field(default=False, init=False)

    @property
    def metadata(self) -> Path:
        return self.folder / METADATA

    def create(self) -> Path:
        """The first metadata and a new key for each role; the root file that every device is given."""
        from securesystemslib.signer import CryptoSigner
        from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

        if self.metadata.exists():
            raise UsageError(f"{self.folder} is a repository already: add a bundle to it")
        if taken := [role for role in ROLES if self._key(role).exists()]:
            raise UsageError(f"{self.keys} has a key for {', '.join(taken)} already: give an empty folder for the keys")
        root = Root(consistent_snapshot=True)
        with clear_errors(self.keys):
            self.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            for role in ROLES:
                signer = CryptoSigner.generate_ed25519()
                _write_private(self._key(role), signer.private_bytes)
                root.add_key(signer.public_key, role)
        with clear_errors(self.folder):
            self.metadata.mkdir(parents=True)
            (self.folder / TARGETS).mkdir(exist_ok=True)
        first: dict[str, Any] = {ROOT: root, TARGETS_ROLE: Targets(), SNAPSHOT: Snapshot(), TIMESTAMP: Timestamp()}
        for role, content in first.items():
            content.version = 0
            self._write(role, Metadata(content), root)
        return self._file(ROOT)

    def add(self, bundle: Bundle | str | Path, channel: str = STABLE) -> int:
        """Make ``bundle`` what devices of that channel pull next; how many bytes are new.

        Every file is hashed first. What another channel has stays; the bundle that this one had is listed no more.
        """
        from tuf.api.metadata import TargetFile

        require_channel(channel)
        bundle = as_bundle(bundle)
        names = [entry.path for entry in bundle.manifest.files]
        bundle.check(*names)
        names += [MANIFEST_NAME] + ([] if signed_parts(bundle) is None else [RELEASE_NAME, SIGNATURE_NAME])
        sent = 0
        with self._alone():
            content = self._open(TARGETS_ROLE)
            listed = content.signed.targets
            for path in [path for path in listed if path.startswith(f"{channel}/")]:
                del listed[path]
            for name in names:
                target = TargetFile.from_file(f"{channel}/{name}", str(bundle.path / name), ["sha256"])
                listed[target.path] = target
                place = self.folder / TARGETS / channel / name
                place = place.with_name(f"{target.hashes['sha256']}.{place.name}")
                if not place.exists():
                    with clear_errors(place):
                        place.parent.mkdir(parents=True, exist_ok=True)
                        part = place.with_name(f".{place.name}.part")
                        shutil.copyfile(bundle.path / name, part)
                        part.replace(place)
                    sent += target.length
            self._write(TARGETS_ROLE, content)
            self._publish()
        return sent

    def refresh(self) -> datetime:
        """Sign snapshot and timestamp anew; until when they are taken."""
        with self._alone():
            return self._publish()

    def rotate(self, role: str) -> None:
        """A new key for a role. It takes the root's key; the root itself is signed by its old and its new one."""
        from securesystemslib.signer import CryptoSigner

        if role not in ROLES:
            raise UsageError(f"{role!r} is no role; there are {', '.join(ROLES)}")
        with self._alone():
            content = self._open(ROOT)
            root = content.signed
            old_signers = [self._signer(ROOT, root)]
            [old] = root.roles[role].keyids
            root.revoke_key(old, role)
            signer = CryptoSigner.generate_ed25519()
            root.add_key(signer.public_key, role)
            fresh = self._key(role).with_suffix(".new.pem")
            _write_private(fresh, signer.private_bytes)
            signers = [*old_signers, signer] if role == ROOT else old_signers
            self._write(ROOT, content, signers=signers)
            fresh.replace(self._key(role))
            if role != ROOT:
                if role == TARGETS_ROLE:
                    self._write(TARGETS_ROLE, self._open(TARGETS_ROLE))
                self._publish()

    # --- one role's file

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.metadata.is_dir():
            raise UsageError(f"{self.folder} is no repository: make one with edge-van repository init")
        with clear_errors(self.folder), locked(self.metadata) as self._has_lock:
            yield

    def _publish(self) -> datetime:
        """Snapshot and timestamp of the targets as they are."""
        from tuf.api.metadata import MetaFile

        def version(role: str) -> MetaFile:
            return MetaFile(self._open(role).signed.version)

        snapshot = self._open(SNAPSHOT)
        snapshot.signed.meta = {f"{TARGETS_ROLE}.json": version(TARGETS_ROLE)}
        self._write(SNAPSHOT, snapshot)
        timestamp = self._open(TIMESTAMP)
        timestamp.signed.snapshot_meta = version(SNAPSHOT)
        self._write(TIMESTAMP, timestamp)
        expires: datetime = timestamp.signed.expires
        return expires

    def _key(self, role: str) -> Path:
        return self.keys / f"{role}.pem"

    def _file(self, role: str) -> Path:
        """The newest of a role."""
        if role == TIMESTAMP:
            return self.metadata / f"{role}.json"
        found = self.metadata.glob(f"*.{role}.json")
        return max(found, key=lambda path: int(path.name.split(".")[0]))

    def _open(self, role: str) -> Metadata[Any]:
        from tuf.api.metadata import Metadata
        from tuf.api.serialization import DeserializationError

        try:
            return Metadata.from_file(str(self._file(role)))
        except (DeserializationError, ValueError, OSError) as error:
            raise BundleError(f"{self.metadata} has no {role}.json that can be read: bring it back ({error})") from None

    def _signer(self, role: str, root: Any) -> Any:
        from securesystemslib.exceptions import KeyMismatchError
        from securesystemslib.signer import CryptoSigner

        [keyid] = root.roles[role].keyids
        path = self._key(role)
        try:
            return CryptoSigner.from_priv_key_uri(f"file2:{path.absolute()}", root.keys[keyid])
        except OSError:
            raise UsageError(f"this takes the {role} role's key, and {path} is not there: give --keys") from None
        except (KeyMismatchError, ValueError) as error:
            raise UsageError(f"{path} is not the {role} role's key of this repository ({error})") from None

    def _write(self, role: str, content: Metadata[Any], root: Any = None, signers: list[Any] | None = None) -> None:
        """The next version of a role, signed."""
        root = root or self._open(ROOT).signed
        content.signed.version += 1
        content.signed.expires = datetime.now(timezone.utc).replace(microsecond=0) + LIFE[role]
        content.signatures.clear()
        for signer in signers or [self._signer(role, root)]:
            content.sign(signer, append=True)
        name = f"{role}.json" if role == TIMESTAMP else f"{content.signed.version}.{role}.json"
        replace_files(self.metadata, {name: content.to_bytes()}, alone=self._has_lock)


def require_channel(name: str) -> None:
    """``UsageError`` for what is no folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UsageError(f"{name!r} is no channel: letters, digits, - and _ are")


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
