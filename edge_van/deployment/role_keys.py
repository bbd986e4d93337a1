"""The private keys of a repository's roles: one file each, for its owner alone.

In: a path. Out: a signer as ``tuf`` takes it, and the identity of its public key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge_van.storage.folders import sync


def new_key(path: Path) -> Any:
    """A signer by a key that is on the disk, for its owner alone, before anything is signed by it."""
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)
    return signer


def signer_of(path: Path) -> Any:
    """None for a file that is no private key."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
    except (ValueError, TypeError):
        return None


def keyid_of(path: Path) -> str | None:
    signer = signer_of(path)
    return None if signer is None else str(signer.public_key.keyid)
