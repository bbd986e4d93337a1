"""Everything that one device is asked for: its candidates, the request that the agent keeps, and a name for both.

In: a ``Bundle``, a ``Target``, what the device said of itself. Out: a ``Plan``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_van.assets import DEPLOY_AGENT, asset
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.deployment.built_here import EnginesHere
from edge_van.deployment.candidates import Candidate, Maker, OpenVINOMaker, RTXMaker, TrtexecMaker
from edge_van.deployment.targets import CANDIDATES, Target
from edge_van.errors import UsageError
from edge_van.storage.files import sha256_of

MAKERS: dict[str, type[Maker]] = {"openvino": OpenVINOMaker, "tensorrt": TrtexecMaker}
"""By the target's runtime, where the device itself builds what there is to build."""
_ENVIRONMENT = ("architecture", "module", "cpu", "gpu", "l4t", "tensorrt", "tensorrt_rtx", "openvino")


@dataclass(frozen=True)
class Plan:
    """Everything that a device is asked for. ``left_out`` says why a candidate of the target is none here."""

    identity: str
    candidates: dict[str, Candidate]
    request: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)

    def blobs(self) -> dict[str, bytes | Path]:
        """Every content by its sha256."""
        return {c.digests[path]: content for c in self.candidates.values() for path, content in c.contents.items()}


def candidate_names(target: Target, names: tuple[str, ...]) -> tuple[str, ...]:
    """``names``, or where there are none the target's; ``UsageError`` for one that the target does not know."""
    known = CANDIDATES[target.runtime]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"{target.title} has no candidate {', '.join(unknown)}; it has {', '.join(known)}")
    return names or target.candidates


def make_plan(
    bundle: Bundle,
    target: Target,
    probe: dict[str, Any],
    names: tuple[str, ...] = (),
    *,
    engines: EnginesHere | None = None,
) -> Plan:
    """What to try on the device that ``probe`` is about; ``names`` instead of the target's candidates, ``engines`` for
    a target whose engines are built here.

    Raises ``BundleError`` for a bundle without golden images or with a damaged file, ``UsageError`` where it has none
    of the candidates.
    """
    golden = read_golden(bundle)
    made, left_out = {}, {}
    maker: Maker
    if target.runtime == "tensorrt_rtx":
        maker = RTXMaker(bundle, golden, probe, engines)
    else:
        maker = MAKERS[target.runtime](bundle, golden, probe)
    for name in candidate_names(target, names):
        found = maker.candidate(name)
        if isinstance(found, Candidate):
            made[name] = found
        else:
            left_out[name] = found
    if not made:
        raise UsageError(
            f"{bundle.path} has nothing for {target.title}: {'; '.join(f'{n}: {why}' for n, why in left_out.items())}"
        )
    request: dict[str, Any] = {
        "candidates": {name: {**c.request, "files": c.digests} for name, c in made.items()},
        "logits": {c.golden: golden.logits[c.golden].astype(float).tolist() for c in made.values()},
        # whatever else than these has changed, what was built, checked and timed still holds
        "environment": {key: probe[key] for key in _ENVIRONMENT} | {"agent": sha256_of(asset(DEPLOY_AGENT))},
    }
    identity = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]
    return Plan(identity, made, request, left_out)
