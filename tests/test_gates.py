"""``edge_van.gates``: the limit itself passes, and a bundle for TensorRT alone is judged by its best INT8 graph."""

from dataclasses import replace

import pytest
from bundle_samples import ACCURACY, MANIFEST

from edge_van.errors import AccuracyGateError, LatencyGateError
from edge_van.gates import accuracy_gate, bundle_gate, latency_gate
from edge_van.records import Interval, Latency, LatencyRow, SchemeResult

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
    bundle_gate(MANIFEST, 0.0, 9.0)  # nothing was measured
    both = replace(MANIFEST, accuracy=ACCURACY, latency=LATENCY)
    bundle_gate(both, 1.0, None)
    bundle_gate(both, 1.0, 2.0)
    with pytest.raises(LatencyGateError):
        bundle_gate(both, 1.0, 2.1)
    with pytest.raises(AccuracyGateError):
        bundle_gate(both, 0.9, 2.1)


def test_a_bundle_for_tensorrt_alone() -> None:
    def scheme(name: str, layers: int, drop: float) -> SchemeResult:
        accuracy = replace(ACCURACY, top1_drop_points=drop)
        return SchemeResult(name, f"{name}.onnx", True, (), layers, 30.0, 99.0, 9, "tensorrt", "float16", accuracy)

    schemes = (scheme("int8", 109, 3.0), scheme("int8_pointwise", 70, 0.5), scheme("fp16", 0, 0.0))
    only = replace(MANIFEST, accuracy=None, latency=None, schemes=schemes)
    bundle_gate(only, 0.5, None)
    with pytest.raises(AccuracyGateError, match="0\\.50 points"):
        bundle_gate(only, 0.4, None)  # that fp16 loses nothing does not make INT8 good
