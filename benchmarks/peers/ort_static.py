"""ONNX Runtime's static quantisation, on the network as it was trained; also its FP32.

In: the network in eval mode, its InputSpec, calibration images. Out: ONNX files, run by ONNX Runtime with all of its
graph optimisations. Followed: onnxruntime.ai/docs/performance/model-optimizations/quantization.html (pre-process, then
``quantize_static``) and the docstring of ``quantize_static`` (what to choose for an x86 CPU).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_van.input_spec import InputSpec
from edge_van.machine import has_vnni
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import quiet_capture
from peers.peer import FunctionSession, Peer

NAMES = ("ort_fp32", "ort_defaults", "ort_advised")
INPUT, OUTPUT = "images", "logits"


def build(van: VAN, spec: InputSpec, images: CalibrationImages, folder: Path) -> list[Peer]:
    """FP32; ``quantize_static`` with its defaults (Q/DQ, int8 both, MinMax, per tensor); with its advice for x86.

    The advice: uint8 activations, and 7-bit weights (``reduce_range``) where the CPU has no VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    fp32, prepared = folder / "unfolded.onnx", folder / "unfolded_prepared.onnx"
    export_unfolded(van, spec, fp32)
    quant_pre_process(str(fp32), str(prepared))
    paths = {"ort_fp32": fp32}
    advised = {"activation_type": QuantType.QUInt8, "reduce_range": not has_vnni()}
    for name, options in (("ort_defaults", {}), ("ort_advised", advised)):
        paths[name] = folder / f"{name}.onnx"
        quantize_static(str(prepared), str(paths[name]), _reader(images), **options)
    how = {
        "ort_fp32": "FP32, unfolded; ONNX Runtime",
        "ort_defaults": "quantize_static, its defaults, unfolded; ONNX Runtime",
        "ort_advised": "quantize_static, as it advises for x86, unfolded; ONNX Runtime",
    }
    return [_peer(name, how[name], path, spec, van.num_classes) for name, path in paths.items()]


def export_unfolded(van: VAN, spec: InputSpec, path: Path) -> None:
    """``torch.onnx.export`` of the network with its BatchNorms, batch 1."""
    with quiet_capture(), torch.no_grad():
        program = torch.onnx.export(
            van,
            (torch.zeros(1, 3, *spec.size),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None, "torch.onnx.export(dynamo=True) returns a program"
    program.save(str(path))


def open_ort(path: Path, size: tuple[int, int], classes: int, threads: int) -> FunctionSession:
    """Batch 1 on the CPU, as ONNX Runtime comes, but for one thing: its threads stop spinning when a run ends.

    Left alone they spin on for many milliseconds, on the cores that the engine which is timed next needs.
    Within a run they spin as always.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return logits

    return FunctionSession("onnxruntime", forward, size, classes, threads)


def _peer(name: str, how: str, path: Path, spec: InputSpec, classes: int) -> Peer:
    return Peer(name, how, lambda threads: open_ort(path, spec.size, classes, threads))


def _reader(images: CalibrationImages) -> Any:
    """The calibration images one by one, as ``quantize_static`` asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, Any]] = (
                {INPUT: images.normalized(pixels[None]).numpy()} for pixels in images.pixels
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    return Reader()
