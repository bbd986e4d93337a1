"""``evaluation.gates``: the limit itself passes, and a bundle for TensorRT alone is judged by its best INT8 graph."""

from dataclasses import replace

import pytest
from bundle_samples import ACCURACY, MANIFEST

from edge_van.bundle.records import Accuracy, Interval, Latency, LatencyRow, SchemeResult
from edge_van.errors import AccuracyGateError, LatencyGateError, UsageError
from edge_van.evaluation.gates import accuracy_gate, bundle_gate, doubts, latency_gate

LATENCY = Latency(
    batch=1,
    threads=0,
    warmup_rounds=1,
    rounds=100,
    baseline="fp32",
    rows=(
        LatencyRow("fp32", "openvino", 2.0, 2.0, 2.0, 1.0, Interval(1.0, 1.0), (2.0,)),
        LatencyRow("int8", "openvino", 1.0, 1.0, 1.0, 2.0, Interval(1.9, 2.1), (1.0,)),
    ),
    load_average_1min=0.0,
)


def test_accuracy() -> None:
    accuracy_gate(ACCURACY, 1.0)
    with pytest.raises(AccuracyGateError, match=r"1\.00 points .* 0\.5 are allowed"):
        accuracy_gate(ACCURACY, 0.5)


def test_latency() -> None:
    latency_gate(LATENCY, 2.0)
    with pytest.raises(LatencyGateError, match=r"2\.00 times as fast .*1\.90 to 2\.10.*2\.5 was asked for"):
        latency_gate(LATENCY, 2.5)


def test_a_bundle() -> None:
    bundle_gate(MANIFEST, 0.0, None)  # nothing was measured
    with pytest.raises(UsageError, match="--min-speedup 9 was asked for, and no latency was measured"):
        bundle_gate(MANIFEST, 0.0, 9.0)
    both = replace(MANIFEST, accuracy=ACCURACY, latency=LATENCY)
    bundle_gate(both, 1.0, None)
    bundle_gate(both, 1.0, 2.0)
    with pytest.raises(LatencyGateError):
        bundle_gate(both, 1.0, 2.1)
    with pytest.raises(AccuracyGateError):
        bundle_gate(both, 0.9, 2.1)


def test_a_bundle_for_tensorrt_alone() -> None:
    def scheme(name: str, layers: int, drop: float) -> SchemeResult:
        accuracy = replace(ACCURACY, drop_points=drop)
        return SchemeResult(name, f"{name}.onnx", True, (), layers, 30.0, 99.0, 9, "tensorrt", "float16", accuracy)

    schemes = (scheme("int8", 109, 3.0), scheme("int8_pointwise", 70, 0.5), scheme("fp16", 0, 0.0))
    only = replace(MANIFEST, accuracy=None, latency=None, schemes=schemes)
    bundle_gate(only, 0.5, None)
    with pytest.raises(AccuracyGateError, match="0\\.50 points"):
        bundle_gate(only, 0.4, None)  # that fp16 loses nothing does not make INT8 good
    good = replace(only, accuracy=replace(ACCURACY, drop_points=0.0))
    bundle_gate(good, 0.5, None)
    with pytest.raises(AccuracyGateError, match="0\\.50 points"):
        bundle_gate(good, 0.4, None)  # nor does that OpenVINO's model is


def test_what_these_images_cannot_tell() -> None:
    def drop(points: float, half: float, images: int = 1000) -> Accuracy:
        interval = Interval(points - half, points + half)
        return replace(ACCURACY, drop_points=points, drop_interval=interval, images=images)

    assert doubts(drop(0.1, 0.2), 1.0) is None
    assert doubts(drop(2.0, 0.2), 1.0) is None  # the gate says that
    assert doubts(drop(0.5, 0.5), 1.0) is None
    found = doubts(drop(0.5, 1.0), 1.0)
    assert found is not None
    assert found.startswith("1,000 images do not show that INT8 loses at most 1 point of top-1 (95 %")
    assert "(95 % interval -0.50 to +1.50): about 4,000 would be needed" in found
    assert (doubts(drop(1.0, 0.1), 1.0) or "").endswith("more would be needed")
    for room in (1e-300, 1e-9, 0.009):  # no set of images is so large, and a number of them says nothing
        assert (doubts(drop(-room, 0.1), 0.0) or "").endswith("more would be needed")
