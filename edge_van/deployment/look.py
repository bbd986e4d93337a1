"""What a device says of itself before anything is sent there, and what is to be said of that.

In: a ``Device``, a ``Target``. Out: the answer to ``probe``, warnings; ``UsageError`` where it is not of the target.
"""

from __future__ import annotations

import time
from typing import Any

from edge_van.deployment.device import Device
from edge_van.deployment.targets import Target
from edge_van.engines.trtexec import is_before_8_6
from edge_van.errors import UsageError
from edge_van.progress import Work
from edge_van.text import one_line
from edge_van.version import __version__

CLOCK_SKEW_S = 300.0


def looked_at(device: Device, target: Target, work: Work) -> dict[str, Any]:
    """What the device says of itself; ``UsageError`` where it is not of the target."""
    with work.reporter.stage(f"Looking at {device.transport.where}"):
        probe: dict[str, Any] = device.ask("probe")
    if why := target.refusal(probe):
        raise UsageError(f"{device.transport.where} does not fit the target {target.title}: {why}")
    return probe


def doubts_of(probe: dict[str, Any], target: Target) -> tuple[str, ...]:
    """What to tell a user of a device that is of the target all the same."""
    doubts = []
    if probe["module"] is not None and target.module.lower() not in probe["module"].lower():
        doubts.append(f"the device calls itself {one_line(probe['module'])}, the target is {target.title}")
    skew = probe["time_s"] - time.time()
    if abs(skew) >= CLOCK_SKEW_S:
        word = "ahead" if skew > 0 else "behind"
        doubts.append(f"the device's clock is {abs(skew):.0f} s {word}: its logs have other times")
    theirs = (probe["tensorrt_rtx"] or {}).get("edge_van", __version__)
    if theirs != __version__:
        doubts.append(f"the device has edge-van {theirs}, this machine {__version__}: install the same on both")
    if probe["tensorrt"] is not None and is_before_8_6(probe["tensorrt"]):
        doubts.append(f"in which datatype each layer runs is not proved: TensorRT {probe['tensorrt']} does not say it")
    return tuple(doubts)
