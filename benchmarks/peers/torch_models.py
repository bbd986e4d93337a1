"""PyTorch as it comes: FP32 eager and compiled, and torchao's PT2E quantisation for x86 inductor.

In: the network in eval mode, its InputSpec, calibration images. Out: functions that torch runs in this process.
Followed: torchao's tutorial "PyTorch 2 Export Quantization with X86 Backend through Inductor".
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import quiet_capture
from peers.peer import Forward, FunctionSession, Peer, Unavailable, attempt

NAMES = ("torch_eager", "torch_compile", "torchao_unfolded", "torchao_folded")
HOW = {
    "torch_eager": "FP32, unfolded; PyTorch eager",
    "torch_compile": "FP32, unfolded; torch.compile",
    "torchao_unfolded": "torchao X86Inductor PT2E, unfolded; torch.compile, frozen",
    "torchao_folded": "torchao X86Inductor PT2E, on our folded network; torch.compile, frozen",
}


def build(
    van: VAN, spec: InputSpec, images: CalibrationImages, wanted: Collection[str] = NAMES
) -> list[Peer | Unavailable]:
    """Those ``wanted``. ``torchao_folded`` is there because torchao's own fusing of BatchNorms changes an unfolded
    VAN."""
    classes = van.num_classes
    example = torch.zeros(1, 3, *spec.size)

    def peer(name: str, make: Callable[[], Callable[[Tensor], Tensor]]) -> list[Peer | Unavailable]:
        if name not in wanted:
            return []

        def built() -> list[Peer]:
            forward = on_arrays(make())
            forward(example.numpy())  # torch.compile compiles here, and fails here where it cannot
            return [Peer(name, HOW[name], lambda threads: open_torch(forward, spec.size, classes, threads))]

        return attempt([name], built)

    return [
        *peer("torch_eager", lambda: van),
        # dynamic=False: a second size in the same process would else be compiled for any size, and run slower
        *peer("torch_compile", lambda: torch.compile(van, dynamic=False)),
        *peer("torchao_unfolded", lambda: quantized(van, example, images)),
        *peer("torchao_folded", lambda: quantized(fold(van, spec.size)[0], example, images)),
    ]


def quantized(model: nn.Module, example: Tensor, images: CalibrationImages) -> Callable[[Tensor], Tensor]:
    """Capture, prepare, calibrate, convert, compile with frozen weights: the tutorial's five steps."""
    import torch._inductor.config as inductor_config

    with quiet_capture(), torch.no_grad():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(torch.export.export(model, (example,)).module(), quantizer)
        for pixels in images.pixels:
            prepared(images.normalized(pixels[None]))
        converted = convert_pt2e(prepared)
        with inductor_config.patch(freezing=True):
            compiled: Callable[[Tensor], Tensor] = torch.compile(converted, dynamic=False)
            compiled(example)  # compiled now, while the setting holds
    return compiled


def on_arrays(model: Callable[[Tensor], Tensor]) -> Forward:
    """``model`` on numpy arrays, without gradients."""

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = model(torch.from_numpy(images)).numpy()
        return logits.copy()  # the next run may write where it lies

    return forward


def open_torch(forward: Forward, size: tuple[int, int], classes: int, threads: int) -> FunctionSession:
    """torch has one number of threads for the process."""
    torch.set_num_threads(threads)
    return FunctionSession("torch", forward, size, classes, threads)
