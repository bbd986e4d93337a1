"""Two sides of a report against each other: by paired times in one run, else each by its gain over its own FP32.

In: two ``Side`` records and the runs. Out: a ``Comparison`` in sentences; the rules are here and nowhere else. Where
the 95 % interval of a difference includes 0, or of a ratio 1, no difference is shown, and none is claimed.
"""

from __future__ import annotations

import math

from edge_van.measure import difference_interval, wilson_interval
from edge_van.records import Accuracy, Interval, Machine
from edge_van.report.format import interval, number, signed, signed_interval
from edge_van.report.lookup import Runs, pair, run_of, shipped_accuracy, shipped_model, speed_of
from edge_van.report.record import Comparison, Side, Speed

OTHER_RUNS = (
    "The two were timed in different runs: each ratio is to its own FP32, milliseconds of two runs are not compared, "
    "and the intervals hold what varies within a run, not what varies from one to the next."
)


def compare(first: Side, second: Side, runs: Runs) -> Comparison:
    """``second`` against ``first``. In one run the ratio is of the models that ship, paired round by round."""
    same_run = first.run is not None and first.run == second.run
    found = _in_one_run(first, second, runs) if same_run else None
    if found is not None:
        ratio, bounds = found
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
    if bounds.low <= 1.0 <= bounds.high:
        found = (
            f"Neither is shown to gain more over its own FP32: the gain of {second.name} is {number(ratio)} times that "
            f"of {first.name} (95 % interval {interval(bounds)}, which includes 1). Times as fast as FP32: {gains}."
        )
    else:
        more, less = (second, first) if ratio > 1.0 else (first, second)
        if ratio < 1.0:
            ratio, bounds = 1.0 / ratio, Interval(1.0 / bounds.high, 1.0 / bounds.low)
        found = (
            f"{more.name} gains more over its own FP32: {number(ratio)} times the gain of {less.name} (95 % interval "
            f"{interval(bounds)}). Times as fast as FP32: {gains}."
        )
    if first.run is not None and first.run == second.run:
        return [found]
    machines = [_machine(side, runs) for side in (first, second)]
    if machines[0] is not None and machines[1] is not None and machines[0].cpu != machines[1].cpu:
        found += f" They were timed on two machines, {machines[0].cpu} and {machines[1].cpu}."
    return [found, OTHER_RUNS]


def _ratio_of_gains(first: Speed, second: Speed) -> tuple[float, Interval]:
    """``second`` over ``first``. Their rounds are independent samples, and a ratio's logarithm is a difference."""
    one, other = ((s.ratio, s.interval.low, s.interval.high) for s in (first, second))
    ratio, low, high = map(math.exp, difference_interval(_logarithms(one), _logarithms(other)))
    return ratio, Interval(low, high)


def _logarithms(values: tuple[float, float, float]) -> tuple[float, float, float]:
    return math.log(values[0]), math.log(values[1]), math.log(values[2])


def _machine(side: Side, runs: Runs) -> Machine | None:
    """That the side's speed was measured on."""
    run = run_of(side, runs)
    return run.machine if run is not None else None if side.manifest is None else side.manifest.machine


def _accuracy(first: Side, second: Side) -> str:
    found = [None if side.manifest is None else shipped_accuracy(side.manifest) for side in (first, second)]
    one, other = found
    if one is None or other is None or first.manifest is None or second.manifest is None:
        unknown = " and ".join(s.name for s, a in zip((first, second), found, strict=True) if a is None)
        return f"Accuracy is not compared: that of {unknown} is not known."
    if first.manifest == second.manifest:
        return f"{first.name} and {second.name} are of one bundle, which has one accuracy."
    images = [m.calibration.validation_sha256 for m in (first.manifest, second.manifest)]
    if not images[0] or images[0] != images[1] or one.images != other.images:
        return (
            f"Accuracy was measured on different images ({first.name}: {one.images:,} of {one.data}, {second.name}: "
            f"{other.images:,} of {other.data}) and is not compared: run edge-van validate on both with one --data."
        )
    gain, low, high = difference_interval(_top1(one), _top1(other))
    figures = (
        f"{signed(gain)} points (95 % interval {signed_interval(Interval(low, high))}, as for independent samples, "
        f"since which images each has right is not recorded; {number(other.top1_int8_percent)} % against "
        f"{number(one.top1_int8_percent)} %)"
    )
    if low <= 0.0 <= high:
        return (
            f"On the same {one.images:,} images the top-1 of {second.name} in INT8 is not shown to differ from that of "
            f"{first.name}: {figures}."
        )
    level = "higher" if gain > 0.0 else "lower"
    return f"On the same {one.images:,} images {second.name} has a {level} top-1 in INT8 than {first.name}: {figures}."


def _top1(accuracy: Accuracy) -> tuple[float, float, float]:
    """INT8's top-1 with its interval, in percent."""
    low, high = wilson_interval(accuracy.top1_int8_percent / 100, accuracy.images)
    return accuracy.top1_int8_percent, 100 * low, 100 * high
