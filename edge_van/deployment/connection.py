"""A device opened by its target, and a release made active there, also where the connection is lost meanwhile.

In: a ``Transport``, a ``Target``. Out: a ``Device``, the name of a release.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from edge_van.deployment.built_here import RUNTIME as RTX
from edge_van.deployment.device import Device, RefusedError
from edge_van.deployment.targets import Target
from edge_van.deployment.transport import Local, Transport
from edge_van.errors import DeviceError, MissingRuntimeError

IN_DOUBT = "whether the new release is active there is not known"
_RELEASE = re.compile(r"\d{1,9}-[A-Za-z0-9_.-]{1,200}")


def open_device(transport: Transport, target: Target, root: str | None = None) -> Device:
    """The device of that target, this caller's alone; raises as ``Device``. On this machine the usual Python is the
    one that runs edge-van."""
    python = target.python
    if isinstance(transport, Local) and python == Target.python:
        python = (sys.executable,)
    paths: dict[str, Any] = dict(target.paths)
    if (key := {"openvino": "python", RTX: "edge_van"}.get(target.runtime)) is not None:
        paths[key] = list(target.runtime_python or python)
    return Device(transport, root=root or target.root, python=python, paths=paths)


def checked_release(name: Any) -> str:
    """A device's word for a release goes into records and commands: ``DeviceError`` for what is none."""
    if not isinstance(name, str) or not _RELEASE.fullmatch(name):
        raise DeviceError(f"the device names a release {name!r}, which is none: what it runs is not edge-van's agent")
    return name


def activated(device: Device, identity: str, candidate: str, kind: Target, root: str | None) -> str:
    """The release's name. A device that is lost meanwhile may have one active or the other: it is asked again."""
    try:
        return checked_release(device.ask("activate", id=identity, candidate=candidate))
    except RefusedError:
        raise
    except (DeviceError, MissingRuntimeError) as lost:
        try:
            with open_device(device.transport, kind, root) as again:
                active = again.ask("list")["active"]
        except (DeviceError, MissingRuntimeError):
            raise DeviceError(f"{lost}; {IN_DOUBT}: edge-van device list says it") from lost
        if active is None or list(active[1:]) != [identity, candidate]:
            raise
        return checked_release(active[0])
