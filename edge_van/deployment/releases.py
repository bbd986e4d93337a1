"""What a device has: itself, its releases; and back to an earlier one.

In: a host. Out: ``Releases``, what the device says of itself, or a ``DeviceError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.deployment.connection import open_device
from edge_van.deployment.signing import LIST_NAMESPACE, allowed_signers, signature_of
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import transport_to
from edge_van.engines.trtexec import JETPACK_TRTEXEC
from edge_van.errors import UsageError

ANY = Target(
    title="any device",
    runtime="openvino",
    architecture="any",
    candidates=("fp32",),
    paths={
        "trtexec": str(JETPACK_TRTEXEC),
        "tegrastats": "tegrastats",
        "nvpmodel": "nvpmodel",
        "jetson_clocks": "jetson_clocks",
    },
)
"""Where no target is given: the usual root and Python, and programs where JetPack has them."""


@dataclass(frozen=True)
class Release:
    """A candidate of a deployment that was made active, by the name of its link on the device."""

    name: str
    identity: str
    candidate: str


@dataclass(frozen=True)
class Releases:
    """Every release that is whole on a device, the latest last, and which is active."""

    host: str
    active: Release | None
    releases: tuple[Release, ...]


@dataclass(frozen=True)
class DeviceOptions:
    """How a device is reached: as ``DeployOptions``."""

    target: Target | str | Path | None = None
    ssh_config: Path | None = None
    root: str | None = None


def probe_device(host: str, options: DeviceOptions | None = None) -> dict[str, Any]:
    """Module, versions, memory, disk, power mode, temperatures; None for what the device does not have."""
    found: dict[str, Any] = _ask(host, options, "probe")
    return found


def list_releases(host: str, options: DeviceOptions | None = None) -> Releases:
    """What is active, what was, and what can be gone back to. Raises as ``deploy``."""
    found = _ask(host, options, "list")
    active = None if found["active"] is None else Release(*found["active"])
    return Releases(host, active, tuple(Release(*release) for release in found["releases"]))


def rollback(host: str, options: DeviceOptions | None = None, only_from: str | None = None) -> Release:
    """Make the release before the active one active. ``DeviceError`` where there is none, or where another release than
    ``only_from`` is active."""
    return Release(*_ask(host, options, "rollback", **{"from": only_from}))


def trust(
    host: str, keys: Sequence[str | Path], by: str | Path | None = None, options: DeviceOptions | None = None
) -> str:
    """Have the device take, from now on, only bundles that one of these public ``keys`` signed; where it keeps them.

    A device that trusts keys already takes others from ``by``, the private key of one of those: so keys are rotated.
    """
    signers = allowed_signers(keys)
    signature = None if by is None else signature_of(signers.encode(), by, LIST_NAMESPACE).decode()
    return str(_ask(host, options, "trust", signers=signers, signature=signature))


def prune(host: str, keep: int = 1, options: DeviceOptions | None = None) -> tuple[str, ...]:
    """Remove everything but the active release and the ``keep`` before it; what was removed."""
    if keep < 0:
        raise UsageError(f"keep is a number of releases, 0 or more; got {keep}")
    return tuple(_ask(host, options, "prune", keep=keep))


def _ask(host: str, options: DeviceOptions | None, verb: str, **values: Any) -> Any:
    options = options or DeviceOptions()
    target = ANY if options.target is None else options.target
    kind = target if isinstance(target, Target) else load_target(target)
    with open_device(transport_to(host, options.ssh_config), kind, options.root) as device:
        return device.ask(verb, **values)
