"""Two sides of a report against each other: by paired times in one run, else each by its gain over its own FP32.

In: two ``Side`` records and the runs. Out: a ``Comparison`` in sentences; the rules are here and nowhere else.
"""

from __future__ import annotations

from edge_van.records import Interval
from edge_van.report.format import interval, number, signed
from edge_van.report.lookup import Runs, pair, run_of, shipped_accuracy, shipped_model, speed_of
from edge_van.report.record import Comparison, Side

OTHER_RUNS = (
    "The two were timed in different runs: each ratio is to its own FP32, and milliseconds of two runs are not "
    "compared."
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
    speeds = [(side, speed_of(side, runs)) for side in (first, second)]
    known = [(side, speed) for side, speed in speeds if speed is not None]
    if len(known) < 2:
        unknown = " and ".join(side.name for side, speed in speeds if speed is None)
        return [f"Speed is not compared: that of {unknown} was not measured."]
    (one, a), (other, b) = known
    apart = a.interval.high < b.interval.low or b.interval.high < a.interval.low
    gains = ", ".join(f"{side.name} {number(s.ratio)} ({interval(s.interval)})" for side, s in known)
    if apart:
        more = (one if a.ratio > b.ratio else other).name
        return [f"{more} gains more over its own FP32; times as fast, with 95 % intervals: {gains}.", OTHER_RUNS]
    return [f"Neither gains more over its own FP32, the 95 % intervals overlap: {gains}.", OTHER_RUNS]


def _accuracy(first: Side, second: Side) -> str:
    found = [None if side.manifest is None else shipped_accuracy(side.manifest) for side in (first, second)]
    one, other = found
    if one is None or other is None or first.manifest is None or second.manifest is None:
        unknown = " and ".join(s.name for s, a in zip((first, second), found, strict=True) if a is None)
        return f"Accuracy is not compared: that of {unknown} is not known."
    images = [m.calibration.validation_sha256 for m in (first.manifest, second.manifest)]
    if not images[0] or images[0] != images[1] or one.images != other.images:
        return (
            f"Accuracy was measured on different images ({first.name}: {one.images:,} of {one.data}, {second.name}: "
            f"{other.images:,} of {other.data}) and is not compared: run edge-van validate on both with one --data."
        )
    gain = other.top1_int8_percent - one.top1_int8_percent
    level = "the same top-1 in INT8" if round(gain, 2) == 0 else f"{signed(gain)} points of top-1 in INT8"
    return (
        f"On the same {one.images:,} images {second.name} has {level} ({number(other.top1_int8_percent)} % against "
        f"{number(one.top1_int8_percent)} %)."
    )
