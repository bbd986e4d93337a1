"""MNN, the runtime of Alibaba's phones: the folded network in FP32, and in the lower precision that it has on a CPU.

In: the network in eval mode, its InputSpec. Out: an ``.mnn`` file, run by MNN in this process.
Followed: mnn-docs.readthedocs.io, "Model conversion" and the Python API's "Using Module".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.export.onnx import export_onnx
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from peers.peer import FunctionSession, Peer

NAMES = ("mnn_fp32", "mnn_low")
PRECISIONS = {"mnn_fp32": "high", "mnn_low": "low"}


def build(van: VAN, spec: InputSpec, images: CalibrationImages, folder: Path) -> list[Peer]:
    """One file, converted from our FP32 ONNX, in both precisions."""
    import _tools  # MNN's own; its module MNN.tools would let pip install a maker's logging service when it is imported

    onnx = export_onnx(fold(van, spec.size)[0], folder / "mnn_source.onnx", images.normalized(images.pixels[:2]))
    path = folder / "model.mnn"
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(path), "--bizCode", "edge-van"])
    if not path.is_file():
        raise RuntimeError("MNNConvert wrote no file")
    return [_peer(name, path, spec, van.num_classes) for name in NAMES]


def _peer(name: str, path: Path, spec: InputSpec, classes: int) -> Peer:
    how = f"FP32, folded, precision {PRECISIONS[name]}; MNN"
    return Peer(name, how, lambda threads: open_mnn(path, spec.size, classes, threads, PRECISIONS[name]))


def open_mnn(path: Path, size: tuple[int, int], classes: int, threads: int, precision: str) -> FunctionSession:
    import MNN

    config = {"backend": "CPU", "numThread": threads, "precision": precision}
    manager = MNN.nn.create_runtime_manager((config,))
    manager.set_mode(9)  # shapes are fixed: resize once
    module: Any = MNN.nn.load_module_from_file(str(path), ["images"], ["logits"], runtime_manager=manager)

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        taken = MNN.expr.const(images, list(images.shape), MNN.expr.NCHW)
        return np.array(MNN.expr.convert(module.forward(taken), MNN.expr.NCHW).read(), np.float32).reshape(1, -1)

    return FunctionSession("mnn", forward, size, classes, threads)
