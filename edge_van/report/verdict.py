"""Whether INT8 can be shipped on the evidence. The rules are here and nowhere else.

In: a ``Side`` and the runs of its report. Out: a ``Verdict``: a status, one sentence, and every reason.

"no", where any of these holds:
  1. accuracy was never measured on labelled images;
  2. top-1 drops by more than the recipe's limit;
  3. INT8 is not faster than its own FP32: the whole 95 % interval of the paired ratio is under 1.
"reservations", where none of those holds and any of these does:
  4. the interval of the drop reaches over the limit: the images do not show that it is kept;
  5. speed was never measured, or its interval reaches from under 1 to over 1: no gain is shown;
  6. the benchmark doubts its single-stream times of all models or of one of the two that are compared;
  7. the bundle has a warning, or quantize's latency (where the speed is taken from it) a note;
  8. speed was measured on another CPU than accuracy: OpenVINO's kernels, and with them its logits, differ by CPU;
  9. OpenVINO's INT8 is within the limit and none of TensorRT's INT8 graphs is, which quantize's gate counts too.
"good" otherwise.
"""

from __future__ import annotations

from edge_van.benchmark_record import BenchmarkResult
from edge_van.gates import doubts
from edge_van.records import Accuracy, Manifest
from edge_van.report.format import interval, number, points, signed, signed_interval
from edge_van.report.lookup import Runs, limit_points, run_of, shipped_accuracy, speed_of
from edge_van.report.record import Side, Speed, Status, Verdict

OPENING: dict[Status, str] = {
    "good": "INT8 can be shipped",
    "reservations": "INT8 can be shipped with reservations",
    "no": "INT8 should not be shipped on this evidence",
}
STATUS_WORDS: dict[Status, str] = {"good": "good", "reservations": "with reservations", "no": "no"}


def judge(side: Side, runs: Runs) -> Verdict:
    """The verdict on one side by the rules above."""
    manifest, speed = side.manifest, speed_of(side, runs)
    accuracy = None if manifest is None else shipped_accuracy(manifest)
    against = _against(manifest, accuracy, speed)
    reservations = _reservations(side, runs, accuracy, speed)
    status: Status = "no" if against else "reservations" if reservations else "good"
    sentence = f"{OPENING[status]}: {_accuracy_clause(manifest, accuracy)}, and {_speed_clause(speed)}."
    return Verdict(side.name, status, sentence, against, reservations, speed)


def _against(manifest: Manifest | None, accuracy: Accuracy | None, speed: Speed | None) -> tuple[str, ...]:
    found = []
    if manifest is None:
        found.append("Accuracy is not known here: a benchmark's result has none. Give the bundle's folder.")
    elif accuracy is None:
        found.append("Accuracy was never measured: run edge-van quantize again with --data.")
    elif accuracy.top1_drop_points > (limit := limit_points(manifest)):
        found.append(
            f"{accuracy.model} loses {number(accuracy.top1_drop_points)} points of top-1, over the limit of "
            f"{points(limit)}."
        )
    if speed is not None and speed.interval.high < 1.0:
        found.append(
            f"INT8 is slower than FP32: {number(speed.ratio)} times as fast (95 % interval {interval(speed.interval)})."
        )
    return tuple(found)


def _reservations(side: Side, runs: Runs, accuracy: Accuracy | None, speed: Speed | None) -> tuple[str, ...]:
    manifest, run = side.manifest, run_of(side, runs)
    found = []
    if manifest is not None and accuracy is not None and (doubt := doubts(accuracy, limit_points(manifest))):
        found.append(f"{doubt[:1].upper()}{doubt[1:]}.")
    if manifest is not None and manifest.accuracy is not None:
        found += _tensorrt(manifest)
    if speed is None:
        found.append("Speed against FP32 was not measured: run edge-van benchmark on the bundle.")
    elif speed.interval.low <= 1.0 <= speed.interval.high:
        found.append(f"No gain in speed is shown: the interval of the ratio, {interval(speed.interval)}, includes 1.")
    if run is not None:
        found += _doubts(run, speed)
    if manifest is not None:
        found += [f"The bundle's warning: {warning}" for warning in manifest.warnings]
        timed_by = None if speed is None else speed.measured_by
        if timed_by == "quantize" and manifest.latency is not None:
            found += manifest.latency.notes
        if timed_by == "benchmark" and run is not None and run.machine.cpu != manifest.machine.cpu:
            found.append(
                f"Speed was measured on {run.machine.cpu}, accuracy on {manifest.machine.cpu}, whose kernels may give "
                f"other logits: run edge-van validate there."
            )
    return tuple(found)


def _doubts(run: BenchmarkResult, speed: Speed | None) -> list[str]:
    """Those about the times that the verdict's speed is taken from."""
    compared = set() if speed is None else {speed.baseline, speed.model}
    return [
        f"{d.text[:1].upper()}{d.text[1:]}."
        for d in run.doubts
        if d.scenario in (None, "single_stream") and (not d.models or compared & set(d.models))
    ]


def _tensorrt(manifest: Manifest) -> list[str]:
    """A device takes the fastest of these graphs that is within the limit, so one is enough."""
    measured = [s.accuracy for s in manifest.schemes if s.quantized_layers and s.accuracy is not None]
    best = min((a.top1_drop_points for a in measured), default=0.0)
    if best <= (limit := limit_points(manifest)):
        return []
    return [
        f"Every INT8 graph for TensorRT loses more than the limit of {points(limit)}, the best {number(best)}: this is "
        f"about OpenVINO alone."
    ]


def _accuracy_clause(manifest: Manifest | None, accuracy: Accuracy | None) -> str:
    if manifest is None or accuracy is None:
        return "its accuracy is not known"
    drop, limit = accuracy.top1_drop_points, limit_points(manifest)
    moved = (
        "top-1 does not move"
        if round(drop, 2) == 0
        else f"it loses {number(drop)} points of top-1"
        if drop > 0
        else f"it gains {number(-drop)} points of top-1"
    )
    return (
        f"{moved} (drop {signed(drop)}, 95 % interval {signed_interval(accuracy.top1_drop_interval)}; up to "
        f"{points(limit)} is allowed) on {accuracy.images:,} images"
    )


def _speed_clause(speed: Speed | None) -> str:
    if speed is None:
        return "its speed against FP32 is not known"
    return f"it is {number(speed.ratio)} times as fast as FP32 (95 % interval {interval(speed.interval)})"
