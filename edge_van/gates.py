"""The limits a measured bundle must keep, each with its own exit code.

In: an ``Accuracy`` or a ``Latency`` and a limit. Out: nothing, or the gate's error with the figure and the limit.
"""

from __future__ import annotations

from edge_van.errors import AccuracyGateError, LatencyGateError
from edge_van.records import Accuracy, Latency, Manifest


def bundle_gate(manifest: Manifest, max_drop_points: float, min_speedup: float | None) -> None:
    """Both gates of a finished bundle. Without an OpenVINO model, one of TensorRT's INT8 graphs must be within the
    limit: a device takes the fastest that is."""
    if manifest.accuracy is not None:
        accuracy_gate(manifest.accuracy, max_drop_points)
    else:
        measured = [s.accuracy for s in manifest.schemes if s.quantized_layers and s.accuracy is not None]
        if measured:
            accuracy_gate(min(measured, key=lambda a: a.top1_drop_points), max_drop_points)
    if manifest.latency is not None and min_speedup is not None:
        latency_gate(manifest.latency, min_speedup)


def accuracy_gate(accuracy: Accuracy, max_drop_points: float) -> None:
    """``AccuracyGateError`` where top-1 drops by more than ``max_drop_points``."""
    if accuracy.top1_drop_points > max_drop_points:
        raise AccuracyGateError(
            f"INT8 loses {accuracy.top1_drop_points:.2f} points of top-1 "
            f"(95 % interval {accuracy.top1_drop_interval.low:.2f} to {accuracy.top1_drop_interval.high:.2f}), "
            f"{max_drop_points:g} are allowed"
        )


def latency_gate(latency: Latency, min_speedup: float) -> None:
    """``LatencyGateError`` where the INT8 row is less than ``min_speedup`` times as fast as the baseline."""
    row = next(row for row in latency.rows if row.name == "int8")
    if row.ratio < min_speedup:
        raise LatencyGateError(
            f"INT8 is {row.ratio:.2f} times as fast as FP32 (95 % interval {row.ratio_interval.low:.2f} to "
            f"{row.ratio_interval.high:.2f}), {min_speedup:g} was asked for"
        )
