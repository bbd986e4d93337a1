"""ExecuTorch with XNNPACK, the runtime that PyTorch has for devices: FP32 and its own INT8, of the folded network.

In: the network in eval mode, its InputSpec, calibration images. Out: ``.pte`` files, run by ExecuTorch in this process.
Followed: docs.pytorch.org/executorch, "XNNPACK Backend" and its page on quantisation (symmetric, per channel).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import quiet_capture
from peers.peer import FunctionSession, Peer

NAMES = ("executorch_fp32", "executorch_int8")
HOW = {
    "executorch_fp32": "FP32, folded; ExecuTorch, XNNPACK",
    "executorch_int8": "XNNPACKQuantizer, symmetric per channel, on our folded network; ExecuTorch, XNNPACK",
}


def build(van: VAN, spec: InputSpec, images: CalibrationImages, folder: Path) -> list[Peer]:
    """Both of the folded network: what fuses BatchNorms in its quantiser would change an unfolded VAN."""
    folded, _ = fold(van, spec.size)
    example = torch.zeros(1, 3, *spec.size)
    peers = []
    for name in NAMES:
        with quiet_capture(), torch.no_grad():
            model = folded if name.endswith("fp32") else _quantized(folded, example, images)
            path = _lowered(model, example, folder / f"{name}.pte")
        peers.append(_peer(name, path, spec, van.num_classes))
    return peers


def _quantized(model: nn.Module, example: torch.Tensor, images: CalibrationImages) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (example,)).module(), quantizer)
    for pixels in images.pixels:
        prepared(images.normalized(pixels[None]))
    return convert_pt2e(prepared)


def _lowered(model: Any, example: torch.Tensor, path: Path) -> Path:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = to_edge_transform_and_lower(torch.export.export(model, (example,)), partitioner=[XnnpackPartitioner()])
    path.write_bytes(program.to_executorch().buffer)
    return path


def _peer(name: str, path: Path, spec: InputSpec, classes: int) -> Peer:
    return Peer(name, HOW[name], lambda threads: open_executorch(path, spec.size, classes, threads))


def open_executorch(path: Path, size: tuple[int, int], classes: int, threads: int) -> FunctionSession:
    """Its threads are one pool of the process, as many as there are cores."""
    from executorch.extension.pybindings import portable_lib

    if portable_lib._threadpool_get_thread_count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)
    module = portable_lib._load_for_executorch(str(path))

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        [logits] = module.forward([torch.from_numpy(images)])
        return np.array(logits, np.float32)  # the next run writes where it lies

    return FunctionSession("executorch", forward, size, classes, threads)
