"""PyTorch on the CPU, eager or compiled: the float32 network of a bundle, as the framework it came from runs it.

In: a bundle's ``onnx/model.onnx``. Out: a ``Session``. The file's tensors go into a ``FoldedVAN`` again (see
``edge_van.runtimes.torch_network``); quantised graphs are for the other runtimes. The only runtime that imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.runtimes.base import Session, TensorInfo
from edge_van.runtimes.onnx_file import load_onnx, read_onnx
from edge_van.runtimes.stage_map import STAGE_MAP, check_stage, map_size

if TYPE_CHECKING:
    from torch import Tensor

    from edge_van.model.fold import FoldedVAN


class TorchSession(Session):
    """A ``FoldedVAN`` in channels-last layout, in inference mode; ``stage_map`` adds the map of that stage.

    ``compile=True`` runs it through ``torch.compile`` with inductor, which writes and compiles C++: that happens here,
    once, for batch 1, and takes from half a minute to minutes; the first other batch size compiles again, for all.
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
    ) -> None:
        check_stage(stage_map)
        if threads is not None and threads < 1:
            raise UsageError(f"torch takes 1 or more threads, got {threads}")
        torch = _load()
        from edge_van.runtimes.torch_network import read_folded

        graph = read_onnx(path).graph
        model = read_folded(path, graph)
        self._threads = self.threads = int(threads or torch.get_num_threads())
        self.inputs = (_info(graph.input[0].name, (model.in_channels, *model.input_size)),)
        self.outputs = (_info(graph.output[0].name, (model.num_classes,)),)
        if stage_map is not None:
            size = map_size(model.input_size, stage_map)
            self.outputs += (_info(STAGE_MAP, (model.variant.embed_dims[stage_map - 1], *size)),)
        model = cast(Any, model).to(memory_format=torch.channels_last)  # torch types it for tensors alone

        def forward(images: Tensor) -> tuple[Tensor, ...]:
            if stage_map is None:
                return (model(images),)
            inner = run_stages(model, images, 1, stage_map)
            return logits_from(model, inner, stage_map), inner

        self._torch = torch
        self._forward: Any = forward
        if compile:
            self._forward = torch.compile(forward)
            self._compile()

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        [images] = feed.values()
        torch = self._torch
        tensor = torch.from_numpy(np.ascontiguousarray(images)).contiguous(memory_format=torch.channels_last)
        with _threads(torch, self._threads), torch.inference_mode():
            results = self._forward(tensor)
        # contiguous again, and a copy: the tensors are torch's
        return {
            info.name: np.array(result.numpy(), order="C") for info, result in zip(self.outputs, results, strict=True)
        }

    def _compile(self) -> None:
        """Compile now, not in the first run, which a benchmark may time; ``MissingRuntimeError`` if it cannot."""
        [info] = self.inputs
        try:
            self._run({info.name: np.zeros((1, *(d or 1 for d in info.shape[1:])), np.float32)})
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MissingRuntimeError(
                f"torch.compile failed here ({reason}): it needs a C++ compiler (apt install g++) and the headers of "
                f"Python (apt install python3-dev); or run torch without compile"
            ) from error

    def close(self) -> None:
        self._forward = None


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
