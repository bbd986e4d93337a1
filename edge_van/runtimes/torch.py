"""PyTorch on the CPU or an NVIDIA GPU, eager or compiled: the float network of a bundle, as its framework runs it.

In: a bundle's ``onnx/model.onnx``. Out: a ``Session``. The file's tensors go into a ``FoldedVAN`` again (see
``edge_van.runtimes.torch_network``); quantised graphs are for the other runtimes. The only runtime that imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.runtimes.base import Session, TensorInfo
from edge_van.runtimes.onnx_file import load_onnx, read_onnx
from edge_van.runtimes.stage_map import STAGE_MAP, check_stage, map_size
from edge_van.runtimes.torch_device import Step, TorchDevice

if TYPE_CHECKING:
    from torch import Tensor

    from edge_van.model.fold import FoldedVAN


class TorchSession(Session):
    """A ``FoldedVAN`` in channels-last layout, in inference mode; ``stage_map`` adds the map of that stage.

    ``compile=True`` runs it through ``torch.compile`` with inductor, which writes and compiles C++ (on a GPU Triton):
    that happens here, once, for batch 1, and takes from half a minute to minutes; the first other batch size compiles
    again, for all. ``device``, ``precision`` and ``cuda_graph`` are those of ``TorchDevice``.
    """

    runtime = "torch"

    @classmethod
    def preload(cls, **options: Any) -> None:
        _load()
        load_onnx("the network")
        import_module("edge_van.runtimes.torch_network")
        import_module("torch._dynamo")  # torch itself does, once a network's shapes are folded without values
        if options.get("compile"):
            import_module("torch._inductor.compile_fx")

    def __init__(
        self,
        path: Path,
        *,
        compile: bool = False,  # noqa: A002  the name torch gives it
        threads: int | None = None,
        stage_map: int | None = None,
        device: str = "cpu",
        precision: str = "f32",
        cuda_graph: bool = False,
    ) -> None:
        check_stage(stage_map)
        if threads is not None and threads < 1:
            raise UsageError(f"torch takes 1 or more threads, got {threads}")
        torch = _load()
        self._device = TorchDevice(torch, device, precision, cuda_graph=cuda_graph)
        from edge_van.runtimes.torch_network import read_folded

        graph = read_onnx(path).graph
        model = read_folded(path, graph)
        self._threads = int(threads or torch.get_num_threads())
        self.threads = None if self._device.is_gpu else self._threads
        self.inputs = (_info(graph.input[0].name, (model.in_channels, *model.input_size)),)
        self.outputs = (_info(graph.output[0].name, (model.num_classes,)),)
        if stage_map is not None:
            size = map_size(model.input_size, stage_map)
            self.outputs += (_info(STAGE_MAP, (model.variant.embed_dims[stage_map - 1], *size)),)
        self._model = model = self._device.placed(model)

        def forward(images: Tensor) -> tuple[Tensor, ...]:
            if stage_map is None:
                return (model(images),)
            inner = run_stages(model, images, 1, stage_map)
            return logits_from(model, inner, stage_map), inner

        self._torch = torch
        self._tensor: Any = None
        self._step: Step | None = None
        self._filled: np.ndarray | None = None
        self._forward: Any = forward
        if compile:
            self._forward = torch.compile(with_own_code(forward))
            self._compile()

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        [images] = feed.values()
        with self._computing():
            step = self._step_for(images.shape)
            self._device.fill(self._tensor, images)
            self._filled = None  # the caller may change them
            results = [result.float().cpu().numpy() for result in step()]
        # contiguous again, and a copy: the tensors are torch's
        return {info.name: np.array(result, order="C") for info, result in zip(self.outputs, results, strict=True)}

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with _threads(self._torch, self._threads), self._device.computing():
            yield

    def run_many(self, feed: dict[str, np.ndarray], count: int) -> None:
        """On a GPU one after the other as fast as it takes them, with the images there already."""
        if not self._device.is_gpu:
            super().run_many(feed, count)
            return
        [images] = feed.values()
        with self._computing():
            step = self._resident(images)
            for _ in range(count):
                step()
            self._device.wait()

    def device_turn(self, feed: dict[str, np.ndarray]) -> Callable[[], float] | None:
        if not self._device.is_gpu:
            return None

        [images] = feed.values()

        def turn() -> float:
            with self._computing():
                step = self._resident(images)
                step()
                return self._device.timed_ms(step)

        return turn

    def device_memory_mib(self, feed: dict[str, np.ndarray]) -> float | None:
        if not self._device.is_gpu:
            return None
        [images] = feed.values()
        with self._computing():
            tensor = self._device.room(images.shape)
            self._forward(tensor)  # what compiling for this batch takes is no part of it
            return self._device.peak_memory_mib(lambda: self._forward(tensor), self._model)

    def _step_for(self, shape: tuple[int, ...]) -> Step:
        """What computes ``_tensor``, of this shape; kept until another shape is asked for."""
        if self._step is None or tuple(self._tensor.shape) != shape:
            self._step = self._filled = None  # also where what follows does not fit into the memory
            tensor = self._device.room(shape)
            self._tensor, self._step = tensor, self._device.step(self._forward, tensor)
        return self._step

    def _resident(self, images: np.ndarray) -> Step:
        """What computes images that lie on the device: copied when they are first given, not each time."""
        step = self._step_for(images.shape)
        if self._filled is not images:
            self._device.fill(self._tensor, images)
            self._filled = images
        return step

    def _compile(self) -> None:
        """Compile now, not in the first run, which a benchmark may time; ``MissingRuntimeError`` if it cannot."""
        [info] = self.inputs
        try:
            self._run({info.name: np.zeros((1, *(d or 1 for d in info.shape[1:])), np.float32)})
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MissingRuntimeError(
                f"torch.compile failed here ({reason}): it needs a C++ compiler (apt install g++) and the headers of "
                f"Python (apt install python3-dev), on a GPU Triton besides; or run torch without compile"
            ) from error

    def close(self) -> None:
        self._forward = self._model = self._step = self._tensor = self._filled = None


def with_own_code(function: Any) -> FunctionType:
    """The function with code that no other has: torch.compile counts how often it compiled by that, over all sessions
    of a process, and from the ninth time on runs them as they are without an error."""
    code, name = function.__code__.replace(), function.__name__
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)


def run_stages(model: FoldedVAN, x: Tensor, first: int, last: int) -> Tensor:
    """Stages ``first`` to ``last``: from images or the map of the stage before to the normalised map of ``last``."""
    from edge_van.model.van import layer_norm_map

    for s in range(first, last + 1):
        x = getattr(model, f"patch_embed{s}")(x)
        for block in getattr(model, f"block{s}"):
            x = block(x)
        x = layer_norm_map(x, getattr(model, f"norm{s}"))
    return x


def logits_from(model: FoldedVAN, stage_map: Tensor, stage: int) -> Tensor:
    """(N, classes) from the normalised map (N, C_s, H_s, W_s) of ``stage``: the rest of the network."""
    logits: Tensor = model.head(run_stages(model, stage_map, stage + 1, 4).mean((2, 3)))
    return logits


@contextmanager
def _threads(torch: Any, count: int) -> Iterator[None]:
    """torch's number of threads is the process's: it is put back, as other sessions and tests run beside this one."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _info(name: str, shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo(name, (None, *shape), np.dtype(np.float32))


def _load() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingRuntimeError("PyTorch is not installed: pip install 'edge-van[quantize]'") from error
    return torch
