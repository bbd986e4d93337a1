"""Two sides of a report against each other: by paired times in one run, else each by its gain over its own FP32.

In: two ``Side`` records and the runs. Out: a ``Comparison`` in sentences; the rules are here and nowhere else. Where
the 95 % interval of a difference includes 0, or of a ratio 1, no difference is shown, and none is claimed. Of two runs
no speed is claimed to be the better one: a ratio moves from run to run by more than the intervals of both hold.
"""

from __future__ import annotations

from edge_van.bundle.records import Accuracy, Interval
from edge_van.machine import Machine
from edge_van.reports.format import interval, number, signed, signed_interval
from edge_van.reports.lookup import (
    ENGINE_PACKAGES,
    Runs,
    pair,
    run_of,
    same_engines,
    shipped_accuracy,
    shipped_model,
    speed_of,
)
from edge_van.reports.record import Comparison, Side, Speed
from edge_van.statistics import difference_interval, quotient_interval, wilson_interval

OTHER_RUNS = (
    "What moves a ratio from run to run is not in that interval, so no winner is named; milliseconds of two runs are "
    "not compared."
)


def compare(first: Side, second: Side, runs: Runs) -> Comparison:
    """``second`` against ``first``. In one run the ratio is of the models that ship, paired round by round."""
    same_run = first.run is not None and first.run == second.run
    paired = _in_one_run(first, second, runs) if same_run else None
    if paired is not None:
        ratio, bounds = paired
        speed = [_faster(first, second, ratio, bounds)]
    else:
        ratio, bounds, speed = None, None, _by_own_baseline(first, second, runs)
    return Comparison(first.name, second.name, same_run, (*speed, _accuracy(first, second)), ratio, bounds)


def _in_one_run(first: Side, second: Side, runs: Runs) -> tuple[float, Interval] | None:
    run, one, other = run_of(first, runs), shipped_model(first, runs), shipped_model(second, runs)
    return None if run is None or one is None or other is None else pair(run, other.name, one.name)


def _faster(first: Side, second: Side, ratio: float, bounds: Interval) -> str:
    if bounds.low <= 1.0 <= bounds.high:
        return (
            f"Neither INT8 is shown to be faster: {second.name} is {number(ratio)} times as fast as {first.name} (95 % "
            f"interval {interval(bounds)}, which includes 1), timed in the same rounds."
        )
    fast, slow = (second, first) if ratio > 1.0 else (first, second)
    if ratio < 1.0:
        ratio, bounds = 1.0 / ratio, Interval(1.0 / bounds.high, 1.0 / bounds.low)
    return (
        f"{fast.name} is faster: its INT8 is {number(ratio)} times as fast as that of {slow.name} (95 % interval "
        f"{interval(bounds)}), timed in the same rounds."
    )


def _by_own_baseline(first: Side, second: Side, runs: Runs) -> list[str]:
    a, b = speed_of(first, runs), speed_of(second, runs)
    if a is None or b is None:
        unknown = " and ".join(side.name for side, speed in ((first, a), (second, b)) if speed is None)
        return [f"Speed is not compared: that of {unknown} was not measured."]
    known, apart = ((first, a), (second, b)), a.measured_by != b.measured_by
    gains = ", ".join(
        f"{side.name} {number(s.ratio)} ({interval(s.interval)}{f', by edge-van {s.measured_by}' if apart else ''})"
        for side, s in known
    )
    ratio, bounds = _ratio_of_gains(a, b)
    if first.run is None or first.run != second.run:
        return _in_two_runs(first, second, runs, gains, number(ratio), interval(bounds))
    if bounds.low <= 1.0 <= bounds.high:
        return [
            f"Neither is shown to gain more over its own FP32: the gain of {second.name} is {number(ratio)} times that "
            f"of {first.name} (95 % interval {interval(bounds)}, which includes 1). Times as fast as FP32: {gains}."
        ]
    more, less = (second, first) if ratio > 1.0 else (first, second)
    if ratio < 1.0:
        ratio, bounds = 1.0 / ratio, Interval(1.0 / bounds.high, 1.0 / bounds.low)
    return [
        f"{more.name} gains more over its own FP32: {number(ratio)} times the gain of {less.name} (95 % interval "
        f"{interval(bounds)}). Times as fast as FP32: {gains}."
    ]


def _in_two_runs(first: Side, second: Side, runs: Runs, gains: str, factor: str, bounds: str) -> list[str]:
    """The gains as they were found, and what else than the bundle was not the same."""
    one_bundle = _identity(first, runs) == _identity(second, runs)
    if one_bundle and first.run is None and second.run is None:
        return [
            f"{first.name} and {second.name} are of one bundle, whose speed edge-van quantize measured once: {gains}."
        ]
    sentence = (
        f"{first.name} and {second.name} are of one bundle: from the one run to the other the ratio moved by a factor "
        f"{factor} (95 % interval {bounds}, within the runs). Times as fast as FP32: {gains}."
        if one_bundle
        else f"In these two runs the gains over each one's own FP32 were {gains}: that of {second.name} is {factor} "
        f"times that of {first.name} (95 % interval {bounds}, within the runs)."
    )
    return [sentence + _not_the_same(first, second, runs), OTHER_RUNS]


def _not_the_same(first: Side, second: Side, runs: Runs) -> str:
    """Machine, engines and threads where the two runs differ in them."""
    differences = ""
    one, other = _machine(first, runs), _machine(second, runs)
    if one is not None and other is not None and not same_engines(one, other):
        if one.cpu != other.cpu:
            differences += f" They were timed on two machines, {one.cpu} and {other.cpu}."
        versions = [
            f"{package} {_known(one.versions.get(package))} and {_known(other.versions.get(package))}"
            for package in ENGINE_PACKAGES
            if one.versions.get(package) != other.versions.get(package)
        ]
        if versions:
            differences += f" The engines' versions differ: {', '.join(versions)}."
    threads = [_threads(side, runs) for side in (first, second)]
    if threads[0] != threads[1]:
        differences += f" They ran on other numbers of threads: {threads[0]} and {threads[1]}."
    return differences


def _known(version: str | None) -> str:
    return "(unknown)" if version is None else version


def _threads(side: Side, runs: Runs) -> str:
    """CPU threads of the model that ships: as its session had them, else as the run asked for."""
    run, model = run_of(side, runs), shipped_model(side, runs)
    if run is None:
        latency = None if side.manifest is None else side.manifest.latency
        count = None if latency is None else latency.threads
    else:
        count = run.settings.threads if model is None or model.threads is None else model.threads
    return "the engine's choice" if count is None else str(count)


def _identity(side: Side, runs: Runs) -> tuple[str, str] | None:
    """Of the bundle, by when it was made and from what; the same for a result that timed it."""
    if side.manifest is not None:
        return side.manifest.created, side.manifest.checkpoint_sha256
    run = run_of(side, runs)
    timed_bundle = None if run is None else next((b for b in run.bundles if b.name == side.run_bundle), None)
    return None if timed_bundle is None else (timed_bundle.created, timed_bundle.checkpoint_sha256)


def _ratio_of_gains(first: Speed, second: Speed) -> tuple[float, Interval]:
    """``second`` over ``first``, whose rounds are independent samples."""
    one, other = ((s.ratio, s.interval.low, s.interval.high) for s in (first, second))
    ratio, low, high = quotient_interval(one, other)
    return ratio, Interval(low, high)


def _machine(side: Side, runs: Runs) -> Machine | None:
    """That the side's speed was measured on."""
    run = run_of(side, runs)
    return run.machine if run is not None else None if side.manifest is None else side.manifest.machine


def _accuracy(first: Side, second: Side) -> str:
    accuracies = [None if side.manifest is None else shipped_accuracy(side.manifest) for side in (first, second)]
    one, other = accuracies
    if one is None or other is None or first.manifest is None or second.manifest is None:
        unknown = " and ".join(s.name for s, a in zip((first, second), accuracies, strict=True) if a is None)
        return f"Accuracy is not compared: that of {unknown} is not known."
    if first.manifest == second.manifest:
        return f"{first.name} and {second.name} are of one bundle, which has one accuracy."
    images = [m.calibration.validation_sha256 for m in (first.manifest, second.manifest)]
    if not images[0] or images[0] != images[1] or one.images != other.images:
        return (
            f"Accuracy was measured on different images ({first.name}: {one.images:,} of {one.data}, {second.name}: "
            f"{other.images:,} of {other.data}) and is not compared. Compare by hand "
            f"what edge-van validate prints for both with one --data."
        )
    if one.metric != other.metric:
        return f"Accuracy is not compared: that of {first.name} is {one.metric}, that of {second.name} {other.metric}."
    if one.metric == "mAP":  # its interval by itself is not recorded
        return (
            f"On the same {one.images:,} images {second.name} has a mAP of {number(other.int8_percent)} % in INT8, "
            f"{first.name} of {number(one.int8_percent)} %; how sure the difference is, is not known."
        )
    gain, low, high = difference_interval(_level(one), _level(other))
    figures = (
        f"{signed(gain)} points (95 % interval {signed_interval(Interval(low, high))}, as for independent samples, "
        f"since which images each has right is not recorded; {number(other.int8_percent)} % against "
        f"{number(one.int8_percent)} %)"
    )
    if low <= 0.0 <= high:
        return (
            f"On the same {one.images:,} images the {one.metric} of {second.name} in INT8 is not shown to differ from "
            f"that of {first.name}: {figures}."
        )
    level = f"{'higher' if gain > 0.0 else 'lower'} {one.metric}"
    return f"On the same {one.images:,} images {second.name} has a {level} in INT8 than {first.name}: {figures}."


def _level(accuracy: Accuracy) -> tuple[float, float, float]:
    """INT8's share of images that are right, with its interval, in percent."""
    low, high = wilson_interval(accuracy.int8_percent / 100, accuracy.images)
    return accuracy.int8_percent, 100 * low, 100 * high
