"""Which release a bundle is, signed by an SSH key: what a device that trusts that key, and no other, asks for.

In: a ``Bundle``, a private key of OpenSSH. Out: ``release.json`` and its signature beside the manifest.

OpenSSH makes and checks the signatures (``ssh-keygen -Y``, from 8.2 on): whatever one deploys to has it already, and
keys in an agent or on a security token sign as those in a file do.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.bundle.bundle import Bundle, as_bundle, update_manifest
from edge_van.bundle.layout import RELEASE_NAME, SIGNATURE_NAME
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.bundle.models import tensorrt_schemes
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.storage.files import locked, replace_files
from edge_van.storage.folders import clear_errors
from edge_van.storage.json_format import JSONFormat, encode
from edge_van.text import single_line

NAMESPACE, LIST_NAMESPACE = "edge-van", "edge-van-keys"
"""Of the signatures of bundles and of lists of keys: one that was made for something else does not count."""
PRINCIPAL = "edge-van"
RELEASE_SCHEMA_VERSION = 1
TENSORRT_8 = ("8.5", "8.6")
"""Versions that read graphs of their own, which are made of the bundle's when it is deployed."""
_PUBLIC_KEY = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}(?: .*)?")


@dataclass(frozen=True)
class Release:
    """``release.json``: what is signed. A device takes no release under the one that is active there."""

    schema_version: int
    release: int
    manifest_sha256: str  # the manifest has the files'
    derived_sha256: tuple[str, ...] = ()  # of what is made of the files for a device: graphs for TensorRT 8

    def __post_init__(self) -> None:
        if self.release < 0:
            raise UsageError(f"a release is a number from 0 on; got {self.release}")


_FORMAT = JSONFormat(
    Release,
    kind="",
    version=RELEASE_SCHEMA_VERSION,
    oldest_version=1,
    max_bytes=2**20,
    called="record of a release",
    again="sign the bundle again",
    error=BundleError,
)


def sign(bundle: Bundle | str | Path, key: str | Path, release: int | None = None) -> Release:
    """Write ``release.json`` and its signature into the bundle's folder, in place of earlier ones.

    ``key`` is a private key, or the public one of a key that the SSH agent holds. ``release`` is a number that grows
    from one release to the next, by default the time in seconds. Every file is hashed first: what is signed is whole.
    Raises ``BundleError`` for a damaged bundle, ``UsageError`` for what is no key, ``MissingRuntimeError`` without
    ``ssh-keygen``.
    """
    bundle = as_bundle(bundle)
    bundle.check(*(entry.path for entry in bundle.manifest.files))
    if (bundle.path / MANIFEST_NAME).read_bytes() != encoded(bundle.manifest):
        bundle = update_manifest(bundle)  # of an earlier format: a device is given the present one
    content = (bundle.path / MANIFEST_NAME).read_bytes()
    record = Release(
        schema_version=RELEASE_SCHEMA_VERSION,
        release=int(time.time()) if release is None else release,
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        derived_sha256=_derived(bundle),
    )
    text = encode(record)
    files = {SIGNATURE_NAME: signature_of(text, key), RELEASE_NAME: text}
    with clear_errors(bundle.path), locked(bundle.path) as alone:
        if (bundle.path / MANIFEST_NAME).read_bytes() != content:
            raise BundleError(f"{bundle.path} was changed meanwhile: sign it again")
        replace_files(bundle.path, files, alone=alone)
    return record


def signature_of(text: bytes, key: str | Path, namespace: str = NAMESPACE) -> bytes:
    """OpenSSH's signature of ``text``. It asks for a passphrase on the terminal, and for a touch of a token."""
    with tempfile.TemporaryDirectory(prefix="edge-van-sign-") as name:
        file = Path(name) / "text"
        file.write_bytes(text)
        try:
            done = subprocess.run(
                ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(Path(key).expanduser()), str(file)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
        except OSError as error:
            raise MissingRuntimeError(
                f"bundles are signed by ssh-keygen, which does not run here ({error.strerror}): install openssh-client"
            ) from None
        if done.returncode != 0:
            lines = [line.strip(" @") for line in done.stderr.decode("utf-8", "replace").splitlines()]
            said = single_line("; ".join(line for line in lines if line) or "it said nothing", 300)
            raise UsageError(f"{key} does not sign ({said}): give a private key, as ssh-keygen -t ed25519 makes")
        return file.with_name("text.sig").read_bytes()


def signed_parts(bundle: Bundle) -> dict[str, str] | None:
    """What a device checks: the texts of the release, its signature and the manifest; None of a bundle that nobody
    signed. ``BundleError`` for one that was changed after that."""
    release, signature = bundle.path / RELEASE_NAME, bundle.path / SIGNATURE_NAME
    if not release.is_file() and not signature.is_file():
        return None
    record = _FORMAT.read(release)
    manifest = (bundle.path / MANIFEST_NAME).read_bytes()
    if hashlib.sha256(manifest).hexdigest() != record.manifest_sha256:
        raise BundleError(f"{bundle.path} was changed after it was signed, by edge-van build say: sign it again")
    try:
        texts = {"release": release.read_bytes(), "signature": signature.read_bytes(), "manifest": manifest}
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be read ({error.strerror}): sign the bundle again") from None
    return {name: text.decode("utf-8", "replace") for name, text in texts.items()}


def allowed_signers(keys: Sequence[str | Path]) -> str:
    """The public keys as ``ssh-keygen -Y verify`` takes them, for this package's signatures alone. The list's number is
    the time: a device takes no older list for a newer one."""
    lines = []
    for path in keys:
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"the key {path} cannot be read: {error.strerror}") from None
        found = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        for line in found:
            if not _PUBLIC_KEY.fullmatch(line):
                raise UsageError(f"{path} holds no public key of OpenSSH: give the file whose name ends in .pub")
            lines.append(f'{PRINCIPAL} namespaces="{NAMESPACE},{LIST_NAMESPACE}" {" ".join(line.split()[:2])}')
        if not found:
            raise UsageError(f"{path} is empty: give the file whose name ends in .pub")
    if not lines:
        raise UsageError("no key was given: give the public keys to trust")
    return "".join(f"{line}\n" for line in (f"# list {time.time_ns() // 1000}", *dict.fromkeys(lines)))


def _derived(bundle: Bundle) -> tuple[str, ...]:
    """Of the graphs that TensorRT 8 is given."""
    schemes = tensorrt_schemes(bundle.manifest)
    if not schemes:
        return ()
    import onnx

    from edge_van.engines.tensorrt_8 import for_tensorrt_8

    digests = set()
    for scheme in schemes:
        graph = onnx.load(bundle.file(scheme.file))
        for version in TENSORRT_8:
            converted: Any = for_tensorrt_8(graph, f"{version}.0").SerializeToString(deterministic=True)
            digests.add(hashlib.sha256(converted).hexdigest())
    return tuple(sorted(digests))
