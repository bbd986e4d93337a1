"""The builder and the runtime with NVIDIA's own library, 8.6 to 11: a stand-in says what it was asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_stand_in

from edge_van.engines.tensorrt import BuildOptions, _build, _Log
from edge_van.engines.versions import require_version
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.export.precision import to_float16
from edge_van.runtimes import tensorrt as trt_runtime
from edge_van.runtimes.cuda import Device


@pytest.mark.parametrize(
    ("version", "scheme", "half", "flags", "network_flags"),
    [
        ("8.6.2", "int8", False, {"INT8"}, 1),
        ("8.6.2", "int8_pointwise", True, {"INT8", "FP16"}, 1),
        ("8.6.2", "fp32", True, {"FP16"}, 1),
        ("8.6.2", "fp32", False, set(), 1),
        ("10.3.0.30", "int8", True, set(), 2),
        ("10.16.1", "fp32", False, set(), 2),
        ("11.1.0", "int8_pointwise", True, set(), 0),
    ],
)
def test_what_each_version_is_asked(
    graphs: dict[str, Path], version: str, scheme: str, half: bool, flags: set[str], network_flags: int
) -> None:
    trt, asked = tensorrt_stand_in.module_of(version)
    model = onnx.load(graphs[scheme])
    model = to_float16(model) if half else model
    assert _build(trt, model, BuildOptions("tensorrt"), _Log.make(trt), None) == (b"plan", "none")
    assert asked.flags == flags  # TF32, which is on by default, is off
    assert asked.network_flags == network_flags
    parsed = onnx.ModelProto.FromString(asked.parsed)
    operators = {node.op_type for node in parsed.graph.node}
    if version.startswith("8"):
        assert parsed.opset_import[0].version == 17
        assert "Gelu" not in operators
        assert {t.data_type for t in parsed.graph.initializer} <= {1, 3, 7}  # float32, int8, int64
    else:
        assert parsed == model


@pytest.mark.parametrize(("version", "fits"), [("8.5.2", False), ("8.6.0", True), ("9.3.0", True), ("11.0", True)])
def test_the_oldest_version(version: str, fits: bool) -> None:
    if fits:
        require_version(version)
    else:
        with pytest.raises(MissingRuntimeError, match="too old"):
            require_version(version)


Opened = tuple[trt_runtime.TensorRTSession, tensorrt_stand_in.Asked]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    trt, asked = tensorrt_stand_in.module_of("10.3.0")
    monkeypatch.setattr(trt_runtime, "load_tensorrt", lambda runtime: trt)
    monkeypatch.setattr(trt_runtime, "device", lambda: Device("Orin", "8.7"))
    monkeypatch.setattr(trt_runtime, "Buffers", tensorrt_stand_in.Buffers)
    plan = tmp_path / "model.engine"
    plan.write_bytes(b"plan")
    return trt_runtime.TensorRTSession(plan), asked


def test_a_session_runs_and_closes(session: Opened) -> None:
    opened, asked = session
    with opened:
        assert opened.inputs[0].shape == (None, 4)
        images = np.arange(4, dtype=np.float32)[None]
        assert np.array_equal(opened.run({"images": images})["logits"], 2 * images)
        assert asked.addresses == {"images": 100, "logits": 200}
        with pytest.raises(UsageError, match=r"images takes \(1, 4\) to \(1, 4\), got \(2, 4\)"):
            opened.run({"images": np.zeros((2, 4), np.float32)})
        asked.runs = False
        with pytest.raises(MissingRuntimeError, match="could not run the engine"):
            opened.run({"images": images})
    assert opened._buffers.closed
