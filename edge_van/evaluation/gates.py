"""The limits a measured bundle must keep, each with its own exit code.

In: an ``Accuracy`` or a ``Latency`` and a limit. Out: nothing, or the gate's error with the figure and the limit.
"""

from __future__ import annotations

from math import ceil

from edge_van.bundle.budget_record import BudgetRecord
from edge_van.bundle.records import Accuracy, Latency, Manifest
from edge_van.errors import AccuracyGateError, LatencyGateError, UsageError

SMALLEST_ROOM = 0.01
"""Points between a drop and its limit under which the number of images that would tell them apart is beyond any set."""
ACCURACY_ADVICE = "more --samples, or --method qat, may lose less"
NO_VNNI = "this CPU has no VNNI: INT8 gains less here than on one that has it"
"""The warning of ``edge-van quantize`` on such a CPU."""
LATENCY_ADVICE = "give --target openvino, whose models are timed, or leave --min-speedup out"


def bundle_gate(manifest: Manifest, max_drop_points: float, min_speedup: float | None) -> None:
    """Both gates of a finished bundle: OpenVINO's model, and one of TensorRT's INT8 graphs, must be within the limit.

    A device takes the fastest graph that is, so one is enough, and an ARM CPU has the FP32 model beside its own scheme.
    Of a bundle that was made for a budget it is the budget that must be kept, by OpenVINO's model. ``UsageError`` for a
    limit on what was not measured.
    """
    if manifest.budget is not None:
        budget_gate(manifest.budget, manifest.accuracy)
    else:
        _drop_gates(manifest, max_drop_points)
    if min_speedup is None:
        return
    if manifest.latency is None:
        raise UsageError(f"--min-speedup {min_speedup:g} was asked for, and no latency was measured: {LATENCY_ADVICE}")
    latency_gate(manifest.latency, min_speedup)


def budget_gate(record: BudgetRecord, finished: Accuracy | None = None) -> None:
    """``AccuracyGateError`` or ``LatencyGateError`` where no rung keeps the budget, or where the bundle that was
    ``finished`` does not, which was made and measured once more."""
    if record.missed == "accuracy":
        raise AccuracyGateError(record.reason)
    if record.missed == "latency":
        raise LatencyGateError(record.reason)
    if finished is not None:
        lost = max(m.drop_interval.high if record.by_interval else m.drop_points for m in finished.gated)
        if lost > record.budget.max_drop_points:
            raise AccuracyGateError(
                f"the rung that was taken kept {record.budget.max_drop_points:g} points, and the bundle made of it "
                f"reaches {lost:+.2f}: an image or a library changed under way, run it again"
            )


def _drop_gates(manifest: Manifest, max_drop_points: float) -> None:
    if manifest.accuracy is not None:
        accuracy_gate(manifest.accuracy, max_drop_points)
    tensorrt = [s for s in manifest.schemes if s.target == "tensorrt" and s.quantized_layers]
    measured = [s.accuracy for s in tensorrt if s.accuracy is not None]
    if measured:
        accuracy_gate(min(measured, key=lambda a: a.worst.drop_points), max_drop_points)


def accuracy_gate(accuracy: Accuracy, max_drop_points: float) -> None:
    """``AccuracyGateError`` where a gated metric drops by more than ``max_drop_points``."""
    worst = accuracy.worst
    if worst.drop_points > max_drop_points:
        raise AccuracyGateError(
            f"{accuracy.model} loses {worst.drop_points:.2f} points of {worst.name} "
            f"(95 % interval {worst.drop_interval.low:.2f} to {worst.drop_interval.high:.2f}), "
            f"{max_drop_points:g} are allowed: {ACCURACY_ADVICE}"
        )


def over_limit(accuracy: Accuracy, max_drop_points: float) -> str | None:
    """The warning that stands in a manifest for a drop over the limit; None for one within it."""
    worst = accuracy.worst
    if worst.drop_points <= max_drop_points:
        return None
    return f"{accuracy.model} loses {worst.drop_points:.2f} points of {worst.name}, {max_drop_points:g} are allowed"


def doubts(accuracy: Accuracy, max_drop_points: float) -> str | None:
    """What to know of a drop within the limit that these images cannot tell from one over it; None if they can."""
    if accuracy.worst.drop_points > max_drop_points:
        return None
    unsure = max(accuracy.gated, key=lambda m: m.drop_interval.high)
    low, high = unsure.drop_interval.low, unsure.drop_interval.high
    if high <= max_drop_points:
        return None
    # the interval's half width goes down with the square root of the number of images
    room = max_drop_points - unsure.drop_points
    needed = "more"
    if room > SMALLEST_ROOM:
        needed = f"about {ceil(accuracy.images * ((high - low) / 2 / room) ** 2 / 100) * 100:,}"
    return (
        f"{accuracy.images:,} images do not show that {accuracy.model} loses at most {max_drop_points:g} "
        f"{'point' if max_drop_points == 1 else 'points'} of {unsure.name} (95 % interval "
        f"{low:+.2f} to {high:+.2f}): {needed} would be needed"
    )


def latency_gate(latency: Latency, min_speedup: float) -> None:
    """``LatencyGateError`` where the INT8 row is less than ``min_speedup`` times as fast as the baseline."""
    row = next(row for row in latency.rows if row.name == "int8")
    if row.ratio < min_speedup:
        raise LatencyGateError(
            f"INT8 is {row.ratio:.2f} times as fast as FP32 (95 % interval {row.ratio_interval.low:.2f} to "
            f"{row.ratio_interval.high:.2f}), {min_speedup:g} was asked for: measure on an idle machine, or try "
            f"--activation hardswish, which is faster"
        )
