"""Engines that are built here for a device: TensorRT for RTX builds ahead of time, without the device's card.

In: a ``Bundle``, what the device said of itself. Out: the bundle with an engine of each graph for that card.
"""

from __future__ import annotations

from typing import Any

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.models import tensorrt_schemes
from edge_van.engines.build import build
from edge_van.engines.target import EnginesOptions, Target, find_target
from edge_van.engines.tensorrt import BuildOptions
from edge_van.errors import UsageError, VerificationError
from edge_van.progress import Work

RUNTIME = "tensorrt_rtx"


def engines_of(probe: dict[str, Any]) -> str:
    """The name of a bundle's engines for the card and the version of the device that ``probe`` is about.
    ``UsageError`` for a card that none are built for."""
    about = probe[RUNTIME]
    [card] = BuildOptions(RUNTIME, (about["compute_capability"],)).compute_capabilities
    return Target(RUNTIME, about["version"], None).folder((card,))


def with_engines(
    bundle: Bundle, probe: dict[str, Any], names: tuple[str, ...], work: Work
) -> tuple[Bundle, dict[str, str]]:
    """The bundle with engines of those of its graphs that ``names`` has, built where they are not there; why others
    have none. They are kept in the bundle, as ``edge-van build`` keeps them.

    Raises ``UsageError`` where the device has another version than this machine, which could not run them,
    ``MissingRuntimeError`` where nothing here builds, ``VerificationError`` where none can be built.
    """
    tag, graphs = engines_of(probe), [scheme.name for scheme in tensorrt_schemes(bundle.manifest)]
    there = bundle.manifest.engines.get(tag)
    built = set() if there is None else {engine.scheme for engine in there.engines}
    missing = tuple(name for name in names if name in graphs and name not in built)
    if not missing:
        return bundle, {}
    options = EnginesOptions(RUNTIME, (probe[RUNTIME]["compute_capability"],), missing)
    here, device = find_target(options).version, probe[RUNTIME]["version"]
    if here != device:
        raise UsageError(
            f"the device has TensorRT for RTX {device}, this machine {here}: an engine runs on the version that built "
            f"it; install the same on both"
        )
    try:
        done = build(bundle, options=options, work=work)
    except VerificationError as error:
        if not built:
            raise
        return bundle, dict.fromkeys(missing, str(error))
    return done.bundle, done.failed
