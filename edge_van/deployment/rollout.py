"""One device: probe, upload, build, check, time, choose, activate; and back again.

In: a bundle, a host, a target. Out: a ``Deployed``. What is on the device and whole is not sent or built again.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.engine_record import EngineChoice, SchemeTiming
from edge_van.bundle.golden import read_golden
from edge_van.deployment.built_here import RUNTIME as RTX
from edge_van.deployment.built_here import engines_here
from edge_van.deployment.candidates import Candidate
from edge_van.deployment.connection import activated, checked_release, open_device
from edge_van.deployment.device import Device
from edge_van.deployment.look import doubts_of, looked_at
from edge_van.deployment.plan import Plan, candidate_names, make_plan
from edge_van.deployment.proof import precision_problem
from edge_van.deployment.signing import signed_parts
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import transport_to
from edge_van.engines.choice import choose_engine, over_the_limit
from edge_van.engines.trtexec import LAYERS_NAME, is_before_8_6
from edge_van.errors import AccuracyGateError, DeviceError, VerificationError
from edge_van.progress import UNWATCHED, Work

MEMORY_BYTES = {"openvino": 200 * 2**20, "tensorrt": 2**30, "tensorrt_rtx": 2**30}
"""What a runtime takes beside the model; TensorRT while it builds."""
TIMED_BY = {
    "openvino": "OpenVINO, wall time of an inference",
    "tensorrt": "trtexec, GPU compute time",
    "tensorrt_rtx": "edge-van, wall time of an inference with its copies",
}
MODEL_COPIES = 4
"""How often a model's bytes are in memory while it is loaded or built, at most."""


@dataclass(frozen=True)
class DeployOptions:
    """What of a deploy is seldom asked for."""

    candidates: tuple[str, ...] = ()  # instead of the target's
    max_drop_points: float | None = None  # None: the limit of the bundle's recipe
    ssh_config: Path | None = None  # instead of ~/.ssh/config
    root: str | None = None  # instead of the target's
    retime: bool = False  # though the device was timed before
    runtime_python: str | None = None  # the Python there that has the runtime, instead of the target's


@dataclass(frozen=True)
class CandidateRow:
    """How one candidate fared. ``error`` is the first thing that went wrong, "" where nothing did."""

    name: str
    drop_points: float | None
    passed_check: bool
    sqnr_db: float | None  # of the golden logits; None: equal, or not computed
    median_ms: float | None
    p99_ms: float | None
    error: str = ""


@dataclass(frozen=True)
class Deployed:
    """What is active now, the table behind it, and what the device said of itself."""

    host: str
    target: str
    identity: str
    release: str
    before: str | None  # the release that was active, where that is another
    choice: EngineChoice
    rows: tuple[CandidateRow, ...]
    sent_bytes: int
    device: dict[str, Any]
    conditions: dict[str, Any]  # temperatures before, rails and temperatures while it was timed
    warnings: tuple[str, ...] = ()
    is_new: bool = True  # False where this very release was active already


def deploy(
    bundle: Bundle | str | Path,
    host: str,
    target: Target | str | Path,
    *,
    options: DeployOptions | None = None,
    work: Work = UNWATCHED,
) -> Deployed:
    """Put a bundle on a device: ``host`` is a destination of ssh, or "local"; ``target`` a known name or a TOML file.

    What was active stays so unless a candidate passes its check and is within the accuracy budget; the fastest of those
    on the device becomes active. Raises ``UsageError`` for a device that is not of the target, ``BundleError`` for a
    damaged bundle, ``MissingRuntimeError`` where the device cannot be reached or this machine lacks what builds its
    engines, ``DeviceError`` where it refuses or breaks off, ``AccuracyGateError`` where every candidate that runs loses
    too much, ``VerificationError`` where none can be built or become active for another reason.
    """
    bundle, options = as_bundle(bundle), options or DeployOptions()
    kind = target if isinstance(target, Target) else load_target(target)
    if options.runtime_python is not None:
        kind = replace(kind, runtime_python=(options.runtime_python,))
    names = candidate_names(kind, options.candidates)
    read_golden(bundle)
    signed = signed_parts(bundle)
    transport = transport_to(host, options.ssh_config)
    with ExitStack() as stack:
        engines = None
        if kind.runtime == RTX:  # they take minutes to build: meanwhile the device is free, and asked again after it
            with open_device(transport, kind, options.root) as device:
                probe = looked_at(device, kind, work)
            engines = stack.enter_context(engines_here(bundle, probe, names, work))
        device = stack.enter_context(open_device(transport, kind, options.root))
        probe = looked_at(device, kind, work)
        warnings = doubts_of(probe, kind)
        plan = make_plan(bundle, kind, probe, options.candidates, engines=engines)
        warnings += tuple(f"{name} is left out: {why}" for name, why in plan.left_out.items())
        work.warn(warnings)
        sent = _upload(device, plan, kind, probe, work)
        device.ask("install", id=plan.identity, request=plan.request, signed=signed)
        rows, conditions = _try_all(device, plan, kind, probe, options, work)
        limit = bundle.manifest.recipe.max_drop_points if options.max_drop_points is None else options.max_drop_points
        choice = _choose(rows, limit, kind)
        device.ask("choose", id=plan.identity, choice=_plain(choice))
        if choice.active is None:
            reasons = "; ".join([choice.reason, *(f"{row.name}: {row.error}" for row in rows if row.error)])
            text = f"nothing becomes active on {device.transport.where}, what was stays: {reasons}"
            raise AccuracyGateError(text) if over_the_limit(choice) else VerificationError(text)
        with work.reporter.stage(f"Activating {choice.active}"):
            before = device.ask("list")["active"]
            release = activated(device, plan.identity, choice.active, kind, options.root)
        return Deployed(
            host=host,
            target=kind.title,
            identity=plan.identity,
            release=release,
            before=None if before is None or before[0] == release else checked_release(before[0]),
            choice=choice,
            rows=rows,
            sent_bytes=sent,
            device=probe,
            conditions=conditions,
            warnings=warnings,
            is_new=before is None or before[0] != release,
        )


def _require_room(plan: Plan, target: Target, probe: dict[str, Any], missing_bytes: int, where: str) -> None:
    largest = max(sum(map(_size, c.contents.values())) for c in plan.candidates.values())
    needed = MEMORY_BYTES[target.runtime] + MODEL_COPIES * largest
    free = probe["memory_free_bytes"]
    if free is not None and free < needed:
        raise DeviceError(
            f"{where} has {free >> 20} MB of memory free, about {needed >> 20} are needed: end what runs there"
        )
    engines = sum(c.engine_bytes for c in plan.candidates.values()) if missing_bytes else 0  # else they are there
    if probe["disk_free_bytes"] < engines + missing_bytes:
        raise DeviceError(
            f"{where} has {probe['disk_free_bytes'] >> 20} MB of disk free, about "
            f"{(engines + missing_bytes >> 20) + 1} are needed: free some, or remove what is not active with edge-van "
            f"device prune"
        )


def _upload(device: Device, plan: Plan, target: Target, probe: dict[str, Any], work: Work) -> int:
    """Bytes that went over, once there is room for all."""
    blobs = plan.blobs()
    sizes = {digest: _size(content) for digest, content in blobs.items()}
    missing = device.ask("missing", files=sizes)
    total: int = sum(sizes[digest] - arrived for digest, arrived in missing.items())
    _require_room(plan, target, probe, total, device.transport.where)
    if missing:
        with work.reporter.stage("Uploading", total) as advance:
            for digest, arrived in missing.items():
                device.send(digest, blobs[digest], arrived, advance)
    return total


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _try_all(
    device: Device, plan: Plan, target: Target, probe: dict[str, Any], options: DeployOptions, work: Work
) -> tuple[tuple[CandidateRow, ...], dict[str, Any]]:
    errors: dict[str, str] = {}
    checks: dict[str, dict[str, Any]] = {}
    for name, candidate in plan.candidates.items():
        if why := _built(device, plan, candidate, probe, work):
            errors[name] = f"not built: {why}"
            continue
        with work.reporter.stage(f"Checking {name}"):
            checks[name] = device.ask("check", id=plan.identity, candidate=name)
        if not checks[name]["passed"]:
            errors[name] = f"failed its check: {checks[name]['error']}"
    for name, why in errors.items():
        work.warn((f"{name}: {why}",))
    good = [name for name in plan.candidates if name not in errors]
    settings = {name: getattr(target, name) for name in ("rounds", "seconds", "warm_up_s")}
    settings |= {"power_mode": probe["power_mode"]}
    times, conditions = _times(device, plan, target, good, settings, work, again=options.retime)
    rows = []
    for name, candidate in plan.candidates.items():
        timed = times.get(name, {})
        if name in good and not timed.get("passed"):
            errors[name] = f"not timed: {timed.get('error')}"
        check = checks.get(name, {})
        rows.append(
            CandidateRow(
                name=name,
                drop_points=candidate.drop_points,
                passed_check=bool(check.get("passed")),
                sqnr_db=check.get("sqnr_db"),
                median_ms=timed.get("median_ms"),
                p99_ms=timed.get("p99_ms"),
                error=errors.get(name, ""),
            )
        )
    return tuple(rows), conditions


def _built(device: Device, plan: Plan, candidate: Candidate, probe: dict[str, Any], work: Work) -> str | None:
    """Have the engine built where there is one to build, and prove its precision; why it is none, or None."""
    if candidate.graph is None:
        built = device.ask("build", id=plan.identity, candidate=candidate.name)
        return None if built["passed"] else str(built["error"])
    with work.reporter.stage(f"Building {candidate.name}"):
        built = device.ask("build", id=plan.identity, candidate=candidate.name)
        if not built["passed"]:
            return str(built["error"])
        layers = device.ask("read", id=plan.identity, path=f".work/{candidate.name}/{LAYERS_NAME}")
    if is_before_8_6(str(probe["tensorrt"])):
        return None
    return precision_problem(layers, candidate.graph, str(probe["tensorrt"]))


def _times(
    device: Device, plan: Plan, target: Target, names: list[str], settings: dict[str, Any], work: Work, *, again: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What was timed before, where that is all of them and was done alike; else all of them in turns."""
    if not names:
        return {}, {}
    known = device.ask("state", id=plan.identity)["candidates"]
    before = {name: known.get(name, {}).get("bench") for name in names}
    usable = [t is not None and t["passed"] and t.get("settings") == settings for t in before.values()]
    if not again and all(usable):
        return {name: dict(timed) for name, timed in before.items() if timed is not None}, {}
    with work.reporter.stage("Timing", target.rounds * len(names)) as advance:
        found = device.ask(
            "bench",
            tell=lambda _: advance(1),
            id=plan.identity,
            candidates=names,
            rounds=target.rounds,
            seconds=target.seconds,
            warm_up_s=target.warm_up_s,
            settings=settings,
        )
    return found["candidates"], {key: value for key, value in found.items() if key != "candidates"}


def _choose(rows: tuple[CandidateRow, ...], limit: float, target: Target) -> EngineChoice:
    table = tuple(SchemeTiming(r.name, r.drop_points, r.median_ms, r.p99_ms, r.error) for r in rows)
    return choose_engine(table, limit, TIMED_BY[target.runtime])


def _plain(choice: EngineChoice) -> Any:
    import msgspec

    return msgspec.to_builtins(choice)
