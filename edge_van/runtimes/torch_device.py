"""Where PyTorch computes a network and in which numbers: CPU or CUDA, FP32, TF32, FP16 or BF16, CUDA graphs or not.

In: a network and float32 images. Out: functions that compute it once more, their device milliseconds and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from edge_van.errors import MissingRuntimeError, UsageError

TORCH_PRECISIONS = ("f32", "tf32", "f16", "bf16")
"""What convolutions and linear layers compute in: "tf32" keeps float32 tensors and rounds a convolution's inputs to 10
bits of fraction; "f16" and "bf16" hold weights and maps in 16 bits."""
WARM_UPS = 3
"""Runs before a graph is captured: cuDNN chooses its kernels and torch asks for its memory in them."""

Step = Callable[[], tuple[Any, ...]]
"""Computes one and the same batch once more; the tensors returned are overwritten by the next call."""


class TorchDevice:
    """``name`` is "cpu" or "cuda"; with ``cuda_graph`` a batch is captured once and replayed.

    Raises ``UsageError`` for what contradicts itself, ``MissingRuntimeError`` where torch finds no GPU.
    """

    def __init__(self, torch: Any, name: str = "cpu", precision: str = "f32", *, cuda_graph: bool = False) -> None:
        if name not in ("cpu", "cuda"):
            raise UsageError(f"torch computes on cpu or cuda, got {name!r}")
        if precision not in TORCH_PRECISIONS:
            raise UsageError(f"torch takes a precision of {', '.join(TORCH_PRECISIONS)}; got {precision!r}")
        if name == "cpu" and (cuda_graph or precision == "tf32"):
            what = "CUDA graphs are" if cuda_graph else "TF32 is"
            raise UsageError(f"{what} a GPU's: give device='cuda' with it")
        if name == "cuda":
            require_gpu(torch)
        self._torch, self.is_gpu, self.precision, self._cuda_graph = torch, name == "cuda", precision, cuda_graph
        self._name = name
        self._dtype = {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)

    def placed(self, model: Any) -> Any:
        """The network there, in its numbers and in channels-last layout."""
        return model.to(device=self._name, dtype=self._dtype, memory_format=self._torch.channels_last)

    def room(self, shape: tuple[int, ...]) -> Any:
        """A tensor (N, C, H, W) there for images."""
        torch = self._torch
        return torch.zeros(shape, device=self._name, dtype=self._dtype).to(memory_format=torch.channels_last)

    def fill(self, tensor: Any, images: np.ndarray) -> None:
        """Float32 images of the tensor's shape into it."""
        tensor.copy_(self._torch.from_numpy(np.ascontiguousarray(images)))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inference mode, and whether float32 is rounded to TF32: a setting of the process, put back afterwards."""
        torch = self._torch
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.is_gpu:
                stack.enter_context(_tf32(torch, self.precision == "tf32"))
            yield

    def step(self, forward: Callable[[Any], tuple[Any, ...]], tensor: Any) -> Step:
        """What computes ``forward`` of what ``tensor`` holds then; called inside ``computing``, as its result is."""
        if not self._cuda_graph:
            return lambda: forward(tensor)
        torch = self._torch
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                forward(tensor)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = forward(tensor)

        def replay() -> tuple[Any, ...]:
            graph.replay()
            return results

        return replay

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.is_gpu:
            self._torch.cuda.synchronize()

    def timed_ms(self, step: Step) -> float:
        """Milliseconds on the device from an idle start to the end, by its own events: where the host cannot give it
        work as fast as it computes, the waiting is in them."""
        torch = self._torch
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    def peak_memory_mib(self, step: Step, weights: Any) -> float:
        """What ``weights`` and one call of ``step`` take at most, without what other models hold meanwhile."""
        cuda = self._torch.cuda
        cuda.synchronize()
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        step()
        cuda.synchronize()
        own = sum(tensor.nbytes for tensor in (*weights.parameters(), *weights.buffers()))
        return float(cuda.max_memory_allocated() - before + own) / 2**20


def require_gpu(torch: Any) -> None:
    """``MissingRuntimeError`` where torch has no CUDA or finds no GPU."""
    if torch.version.cuda is None:
        raise MissingRuntimeError(
            f"this torch ({torch.__version__}) is built without CUDA: install a build of torch with it on a machine "
            f"with an NVIDIA GPU"
        )
    if not torch.cuda.is_available():
        raise MissingRuntimeError(
            f"torch {torch.__version__} finds no NVIDIA GPU with a driver for CUDA {torch.version.cuda}: run on a "
            f"machine that has one (nvidia-smi lists it)"
        )


def torch_uuid() -> str | None:
    """As NVML names the GPU that torch computes on; None where there is none."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(0).uuid}" if torch.cuda.is_available() else None


@contextmanager
def _tf32(torch: Any, allowed: bool) -> Iterator[None]:
    """And cuDNN's fastest kernels. The settings by number format alone: they cannot be mixed with those before them."""
    cudnn = torch.backends.cudnn
    settings = (torch.backends.cuda.matmul, cudnn.conv)
    before, benchmark = [each.fp32_precision for each in settings], cudnn.benchmark
    try:
        cudnn.benchmark = True
        for each in settings:
            each.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        cudnn.benchmark = benchmark
        for each, value in zip(settings, before, strict=True):
            each.fp32_precision = value
