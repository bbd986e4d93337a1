"""Whether INT8 can be shipped on the evidence. The rules are here and nowhere else.

In: a ``Side`` and the runs of its report. Out: a ``Verdict``: a status, one sentence, and every reason.

"no", where any of these holds:
  1. the bundle's accuracy was never measured on labelled images;
  2. accuracy drops by more than the recipe's limit;
  3. INT8 is not faster than its own FP32, or than the same network in BF16 or FP16, which is had without quantising
     and not known to lose over the limit: the whole 95 % interval of the paired ratio is under 1.
"not judged", where none of those holds and there is no bundle, only a benchmark's result: it has no accuracy.
"reservations", where there is a bundle, none of those holds and any of these does:
  4. the interval of the drop reaches over the limit: the images do not show that it is kept;
  5. INT8 was not timed against its own FP32, or the interval of one of those ratios reaches from under 1 to over 1: no
     gain is shown;
  6. the benchmark doubts its single-stream times of all models or of one of those that are compared, other than for
     being few: few for a percentile is in the page's table, and what few say of the ratio in its interval;
  7. the bundle has a warning that is about none of what these rules judge by themselves, or quantize's latency (where
     the speed is taken from it) a note;
  8. speed was measured on another CPU or with another version of OpenVINO than accuracy: its kernels, and with them its
     logits, differ by both;
  9. OpenVINO's INT8 is within the limit and none of TensorRT's INT8 graphs is, which quantize's gate counts too;
 10. the verdict is about a TensorRT graph, and the active engine of a target is of another scheme.
"good" otherwise.
"""

from __future__ import annotations

from edge_van.bundle.records import Accuracy, Manifest
from edge_van.evaluation.gates import NO_VNNI, doubts, over_limit
from edge_van.machine import Machine
from edge_van.reports.format import interval, number, points, signed, signed_interval
from edge_van.reports.lookup import (
    Runs,
    limit_points,
    run_of,
    shipped_accuracy,
    shipped_scheme,
    speed_of,
    speed_over_float,
)
from edge_van.reports.record import Side, Speed, Status, Verdict
from edge_van.timing.record import BenchmarkResult

Speeds = tuple[Speed | None, Speed | None]
"""INT8 against FP32, and against the same network in a shorter float."""
OPENING: dict[Status, str] = {
    "good": "INT8 can be shipped",
    "reservations": "INT8 can be shipped with reservations",
    "no": "INT8 should not be shipped on this evidence",
    "not_judged": "Whether INT8 can be shipped is not judged",
}
STATUS_WORDS: dict[Status, str] = {
    "good": "good",
    "reservations": "with reservations",
    "no": "no",
    "not_judged": "not judged",
}
NOT_TIMED = "Speed against FP32 was not measured: run edge-van benchmark on the bundle."
NOT_TIMED_THERE = (
    "The benchmark did not time INT8 against FP32 in the same engine, one image at a time: run edge-van benchmark on "
    "the bundle again with both and the single-stream scenario."
)
NO_BUNDLE = "A benchmark's result holds no accuracy: give the bundle's folder in its place, or beside it."


def judge(side: Side, runs: Runs) -> Verdict:
    """The verdict on one side by the rules above."""
    manifest, speed, over_float = side.manifest, speed_of(side, runs), speed_over_float(side, runs)
    accuracy = None if manifest is None else shipped_accuracy(manifest)
    against = _against(manifest, accuracy, (speed, over_float))
    reservations = _reservations(side, runs, accuracy, (speed, over_float))
    status: Status = (
        "no" if against else "not_judged" if manifest is None else "reservations" if reservations else "good"
    )
    sentence = f"{OPENING[status]}: {_accuracy_clause(manifest, accuracy)}, and {_speed_clause(speed, over_float)}."
    return Verdict(side.name, status, sentence, against, reservations, speed, over_float)


def _against(manifest: Manifest | None, accuracy: Accuracy | None, speeds: Speeds) -> tuple[str, ...]:
    reasons = []
    if manifest is not None and accuracy is None:
        reasons.append("Accuracy was never measured: run edge-van quantize again with --data.")
    if manifest is not None and accuracy is not None and accuracy.worst.drop_points > (limit := limit_points(manifest)):
        reasons.append(
            f"{accuracy.model} loses {number(accuracy.worst.drop_points)} points of {accuracy.worst.name}, over the "
            f"limit of {points(limit)}."
        )
    reasons += [
        f"INT8 is slower than {s.over}: {number(s.ratio)} times as fast (95 % interval {interval(s.interval)})."
        for s in speeds
        if s is not None and s.interval.high < 1.0
    ]
    return tuple(reasons)


def _reservations(side: Side, runs: Runs, accuracy: Accuracy | None, speeds: Speeds) -> tuple[str, ...]:
    manifest, run, speed = side.manifest, run_of(side, runs), speeds[0]
    reservations = [NO_BUNDLE] if manifest is None else []
    if manifest is not None and accuracy is not None and (doubt := doubts(accuracy, limit_points(manifest))):
        reservations.append(f"{doubt[:1].upper()}{doubt[1:]}.")
    if manifest is not None and accuracy is not None:
        reservations += _tensorrt(manifest) if manifest.accuracy is not None else _other_engines(manifest)
    if speed is None:
        reservations.append(NOT_TIMED if run is None else NOT_TIMED_THERE)
    reservations += [
        f"No gain in speed over {s.over} is shown: the interval of the ratio, {interval(s.interval)}, includes 1."
        for s in speeds
        if s is not None and s.interval.low <= 1.0 <= s.interval.high
    ]
    if run is not None:
        reservations += _doubts(run, speeds)
    if manifest is not None:
        judged = _judged_here(manifest)
        reservations += [f"The bundle's warning: {warning}" for warning in manifest.warnings if warning not in judged]
        if speed is not None and run is not None:
            reservations += _elsewhere(manifest.machine, run.machine, openvino=manifest.accuracy is not None)
        elif speed is not None and manifest.latency is not None:
            reservations += manifest.latency.notes
    return tuple(reservations)


def _judged_here(manifest: Manifest) -> set[str]:
    """The warnings of ``edge-van quantize`` about what these rules judge by the same figures: of every accuracy, and of
    a CPU on which INT8 gains little, where the gain itself is measured."""
    limit = limit_points(manifest)
    measured = [manifest.accuracy, *manifest.precisions.values()]
    measured += [s.accuracy for s in manifest.schemes if s.quantized_layers]
    known = [accuracy for accuracy in measured if accuracy is not None]
    return {NO_VNNI, *(say(accuracy, limit) or "" for accuracy in known for say in (over_limit, doubts))}


def _elsewhere(accuracy: Machine, speed: Machine, *, openvino: bool) -> list[str]:
    """Where the two were not measured on one CPU and, for OpenVINO's models, with one version of it."""
    here, there = (m.versions.get("openvino") for m in (speed, accuracy))
    if speed.cpu != accuracy.cpu:
        apart = f"on {speed.cpu}, accuracy on {accuracy.cpu}"
    elif openvino and here != there:
        apart = f"with OpenVINO {here or 'of unknown version'}, accuracy with {there or 'one of unknown version'}"
    else:
        return []
    return [
        f"Speed was measured {apart}, whose kernels may give other logits: compare the accuracy that edge-van validate "
        f"prints there by hand, or make the bundle there with edge-van quantize."
    ]


def _doubts(run: BenchmarkResult, speeds: Speeds) -> list[str]:
    """Those about the times that the verdict's speed is taken from."""
    compared = {name for s in speeds if s is not None for name in (s.baseline, s.model)}
    return [
        f"{d.text[:1].upper()}{d.text[1:]}."
        for d in run.doubts
        if d.scenario in (None, "single_stream")
        and d.kind != "too_few_samples"
        and (not d.models or compared & set(d.models))
    ]


def _tensorrt(manifest: Manifest) -> list[str]:
    """A device takes the fastest of these graphs that is within the limit, so one is enough."""
    measured = [s.accuracy for s in manifest.schemes if s.quantized_layers and s.accuracy is not None]
    best = min((a.worst.drop_points for a in measured), default=0.0)
    if best <= (limit := limit_points(manifest)):
        return []
    return [
        f"Every INT8 graph for TensorRT loses more than the limit of {points(limit)}, the best {number(best)}: this is "
        f"about OpenVINO alone."
    ]


def _other_engines(manifest: Manifest) -> list[str]:
    """What is said of one INT8 graph does not hold for a target whose device runs another engine."""
    scheme = shipped_scheme(manifest)
    return [
        f"The active engine for {target} is {engine_set.choice.active or 'none'}: this verdict is about {scheme.name}."
        for target, engine_set in manifest.engines.items()
        if scheme is not None and engine_set.choice.active != scheme.name
    ]


def _accuracy_clause(manifest: Manifest | None, accuracy: Accuracy | None) -> str:
    if manifest is None or accuracy is None:
        return "its accuracy is not known"
    drop, limit = accuracy.drop_points, limit_points(manifest)
    moved = (
        f"{accuracy.metric} does not move"
        if round(drop, 2) == 0
        else f"it loses {number(drop)} points of {accuracy.metric}"
        if drop > 0
        else f"it gains {number(-drop)} points of {accuracy.metric}"
    )
    return (
        f"{moved} (drop {signed(drop)}, 95 % interval {signed_interval(accuracy.drop_interval)}; up to "
        f"{points(limit)} is allowed) on {accuracy.images:,} images"
    )


def _speed_clause(speed: Speed | None, over_float: Speed | None) -> str:
    known = [s for s in (speed, over_float) if s is not None]
    if not known:
        return "its speed against FP32 is not known"
    ratios = [f"{number(s.ratio)} times as fast as {s.over} (95 % interval {interval(s.interval)})" for s in known]
    unknown = "its speed against FP32 is not known, " if speed is None else ""
    return f"{unknown}it is {' and '.join(ratios)}, timed by edge-van {known[0].measured_by}"
