"""Where the figures come from: engines and their choice, machine, versions, settings, conditions, doubts, commands.

In: a side of a report and the runs, or the report. Out: blocks of its page.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from edge_van.bundle.engine_record import EngineSet
from edge_van.bundle.records import Manifest
from edge_van.input_spec import InputSpec
from edge_van.machine import Machine
from edge_van.reports.format import ABSENT, ms, number, signed, size
from edge_van.reports.lookup import Runs, run_of, same_engines, shipped_accuracy
from edge_van.reports.record import Report, Side
from edge_van.reports.view import Block, Code, Column, Group, Section, Table, Text, columns
from edge_van.timing.record import BenchmarkResult

MOST_DOUBTS = 6
"""More are folded: a run on a busy machine has dozens."""
ENERGY = {
    "rapl": "of the processor packages (RAPL), idle power included",
    "rails": "of the module (INA3221 rails), idle power included",
    "nvml": "of the GPU (NVML), idle power included",
}
_FACTS = (Column("", numeric=False), Column("", numeric=False))


def has_engines(report: Report) -> bool:
    return any(side.manifest is not None and side.manifest.engines for side in report.sides)


def engines(side: Side, runs: Runs, name: str) -> tuple[Block, ...]:
    """A precision table for every engine, and the choice with its reason."""
    engine_sets = {} if side.manifest is None else side.manifest.engines
    if not engine_sets:
        return (Text("This bundle has no TensorRT engines: edge-van build makes them.", "hint"),)
    blocks: list[Block] = []
    for tag, engine_set in engine_sets.items():
        blocks += _target(tag, engine_set)
    return tuple(blocks)


def _target(tag: str, engine_set: EngineSet) -> list[Block]:
    timings = {row.scheme: row for row in engine_set.choice.table}
    rows = []
    for engine in engine_set.engines:
        kinds = Counter(layer.runs_in for layer in engine.layers)
        timing = timings.get(engine.scheme)
        rows.append(
            (
                engine.scheme + (" (active)" if engine.scheme == engine_set.choice.active else ""),
                ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
                size(engine.plan_bytes),
                number(engine.build_s, 1),
                signed(None if timing is None else timing.drop_points),
                ms(None if timing is None else timing.median_ms),
                ms(None if timing is None else timing.p99_ms),
            )
        )
    heads = ("scheme", "layers by datatype", "plan", "built in s", "drop, points", "median, ms", "p99, ms")
    blocks: list[Block] = [Table(f"Engines for {tag}", columns(*heads, text=(0, 1)), tuple(rows))]
    timed = f" Timed by {engine_set.choice.timed_by}." if engine_set.choice.timed_by else ""
    blocks.append(Text(f"Active: {engine_set.choice.active or 'none'} ({engine_set.choice.reason}).{timed}"))
    blocks += [Text(f"{row.scheme}: {row.note}") for row in engine_set.choice.table if row.note]
    blocks += [Text(f"Warning of {e.scheme}: {warning}") for e in engine_set.engines for warning in e.warnings]
    for engine in engine_set.engines:
        blocks.append(
            Table(
                f"{engine.scheme}: layer by layer ({engine.runtime} {engine.version}, compute capability "
                f"{', '.join(engine.compute_capabilities)})",
                columns("layer", "asked for", "runs in", "kernel", text=(0, 1, 2, 3)),
                tuple((row.layer, row.scheme, row.runs_in, row.kernel) for row in engine.layers),
                folded=True,
            )
        )
    return blocks


def origin(report: Report) -> Section:
    """Everything a second run would need, and everything that speaks against the first."""
    several = len(report.sides) > 1
    groups = [Group(_of_side(side, report.runs), side.name if several else "") for side in report.sides]
    groups.append(Group((Table("This report", _FACTS, (("made again by", Code(report.command)),)),)))
    return Section("origin", "Machine, settings, doubts", tuple(groups))


def _of_side(side: Side, runs: Runs) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if side.manifest is not None:
        blocks.append(Table("Bundle", _FACTS, _bundle(side.manifest)))
    run = run_of(side, runs)
    blocks += _machines(side, run)
    if run is not None:
        blocks.append(Table("Benchmark", _FACTS, _settings(run)))
        blocks.append(Table("Conditions", _FACTS, _conditions(run)))
        blocks.append(_doubts(run))
        if run.skipped:
            heads = columns("model", "why it was skipped", text=(0, 1))
            blocks.append(Table("Skipped", heads, tuple((s.model, s.reason) for s in run.skipped)))
    if side.manifest is not None and side.manifest.warnings:
        rows = tuple((warning,) for warning in side.manifest.warnings)
        blocks.append(Table("Warnings of the bundle", (Column("warning", numeric=False),), rows))
    return tuple(blocks)


def _machines(side: Side, run: BenchmarkResult | None) -> list[Block]:
    """One table where everything was measured on one CPU with the same engines, else one for each."""
    made = None if side.manifest is None else side.manifest.machine
    looked = None if side.explanation is None else side.explanation.machine
    asked = (
        ("speed", run.machine if run is not None else made if _has_latency(side) else None),
        ("accuracy" if _has_accuracy(side) else "noise on the logits", made),
        ("flips and Grad-CAM", looked),
    )
    machines: list[tuple[list[str], Machine]] = []
    for figures, machine in asked:
        if machine is None:
            continue
        same = next((there for there, other in machines if same_engines(machine, other)), None)
        if same is None:
            machines.append(([figures], machine))
        else:
            same.append(figures)
    if len(machines) == 1:
        return [Table("Machine", _FACTS, _machine(machines[0][1]))]
    return [Table(f"Machine that measured {', '.join(f)}", _FACTS, _machine(machine)) for f, machine in machines]


def _has_latency(side: Side) -> bool:
    return side.manifest is not None and side.manifest.latency is not None


def _has_accuracy(side: Side) -> bool:
    return side.manifest is not None and shipped_accuracy(side.manifest) is not None


def _doubts(run: BenchmarkResult) -> Block:
    if not run.doubts:
        unseen = run.conditions.not_watched
        limits = f"what was watched of other work within its limits. Not watched here: {'; '.join(unseen)}."
        return Text(
            f"The benchmark doubts none of its figures: enough samples, steady, "
            f"{limits if unseen else 'other work within its limits.'}"
        )
    rows = tuple((d.kind.replace("_", " "), d.text) for d in run.doubts)
    return Table(f"Doubts ({len(rows)})", columns("kind", "doubt", text=(0, 1)), rows, folded=len(rows) > MOST_DOUBTS)


def _bundle(m: Manifest) -> tuple[tuple[str, str], ...]:
    spec, calibration = m.input_spec, m.calibration
    settings = {**asdict(m.recipe), **asdict(m.fold)}
    del settings["method"]
    trainings = {method: settings.pop(method) for method in ("qat", "reconstruction")}
    settings |= {f"{m.method}.{key}": value for key, value in trainings.get(m.method, {}).items()}
    recipe = ", ".join(
        f"{key} {','.join(value) if isinstance(value, tuple) else value}"
        for key, value in sorted(settings.items())
        if value != ()
    )
    return (
        ("network", f"VAN-{m.variant}, {m.num_classes:,} classes, {spec.size[0]} x {spec.size[1]} px"),
        ("images", _prepared(spec)),
        ("checkpoint", f"{m.checkpoint} ({m.checkpoint_layout}), sha256 {m.checkpoint_sha256[:16]}…"),
        (
            "calibrated on" if m.method == "ptq" else "trained on",
            f"{calibration.images:,} images of {calibration.data}, seed {calibration.seed}",
        ),
        ("made", f"{m.created} by edge-van {m.edge_van_version}"),
        ("method", f"{m.method}; {recipe}"),
    )


def _prepared(spec: InputSpec) -> str:
    """How an image becomes the input, as one would say it."""
    kept = {"crop": "aspect kept", "squash": "aspect not kept", "pad": "aspect kept, with bars"}[spec.resize]
    colours = {1: "grey", 3: spec.channel_order.upper(), 4: f"{spec.channel_order.upper()} and a fourth band"}
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (spec.mean, spec.std))
    order = f", sent as {spec.source_order.upper()}" if spec.swaps_channels else ""
    return (
        f"resized ({spec.interpolation}, {kept}), centre crop {spec.crop:.3g}; {colours[spec.channels]}{order}; "
        f"mean {mean}, std {std}"
    )


def _machine(m: Machine) -> tuple[tuple[str, str], ...]:
    return (
        ("CPU", f"{m.cpu}, {m.physical_cores} cores ({m.logical_cores} logical)"),
        ("flags", ", ".join(m.flags)),
        ("memory", f"{m.memory_gib:g} GiB"),
        ("system", f"{m.system}, Python {m.python}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in m.versions.items())),
    )


def _settings(run: BenchmarkResult) -> tuple[tuple[str, str], ...]:
    s = run.settings
    batches = ", ".join(map(str, s.batches))
    at_least = f" and at least {s.min_duration_s:g} s a scenario" if s.min_duration_s else ""
    return (
        ("scenarios", ", ".join(name.replace("_", " ") for name in s.scenarios)),
        ("threads", "the engine's choice" if s.threads is None else str(s.threads)),
        ("offline", f"batches {batches}; requests in flight: {s.streams}"),
        (
            "queries",
            f"{s.samples:,} of each model{at_least}, or as many as {s.max_duration_s:g} s a scenario allow, after "
            f"{s.warmup_runs} warm-up runs",
        ),
        ("seed", str(s.seed)),
        ("measured", f"{run.created} by edge-van {run.edge_van_version}"),
        ("made again by", Code(run.command)),
    )


def _conditions(run: BenchmarkResult) -> tuple[tuple[str, str], ...]:
    c = run.conditions

    def percent(value: float | None) -> str:
        return "not told by this system" if value is None else f"{value:.1f} % of the machine's CPU time"

    return (
        (
            "rounds",
            f"{c.rounds:,} kept (each one query of every model, or one slice of time at one batch size), "
            f"{c.rounds_discarded:,} disturbed ones thrown away",
        ),
        ("other processes", percent(c.other_cpu_percent)),
        ("the hypervisor's other guests", percent(c.stolen_cpu_percent)),
        ("throttling", "not told by this system" if c.throttle_events is None else f"{c.throttle_events} events"),
        ("not watched", "; ".join(c.not_watched) or ABSENT),
        ("load average", f"{c.load_average_1min:g}"),
        ("energy", ABSENT if c.energy_source is None else ENERGY.get(c.energy_source, c.energy_source)),
    )
