"""OpenVINO on the CPU.

In: an IR (.xml) or an ONNX file. Out: a ``Session``. The inference precision is always set, never left to the plugin:
on a CPU with AVX512-BF16 its default is bf16, and a "FP32" baseline would not be one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.runtimes.base import Kernel, Session, TensorInfo
from edge_van.runtimes.stage_map import add_openvino_output, check_stage
from edge_van.runtimes.telemetry import switch_off_telemetry

PRECISIONS = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class OpenVINOOptions:
    """How a model is compiled.

    batch      replaces the batch size the file was written with
    precision  "f32" or "bf16", of what is not INT8
    threads    CPU threads; None is the engine's own choice
    profile    whether kernels are timed, which slows them
    streams    how many requests ``run_many`` has in flight, and siblings share
    throughput whether the engine chooses the streams that most images a second need; else it is set up for latency
    cache_dir  where compiled models are kept
    stage_map  the stage of a VAN whose map is one more output
    """

    batch: int | None = None
    precision: str = "f32"
    threads: int | None = None
    profile: bool = False
    streams: int | None = None
    throughput: bool = False
    cache_dir: str | None = None
    stage_map: int | None = None
    exact: bool = False
    """Compute a quantised graph in float, as it is written: by one stream. With two, one compilation in five gave other
    logits, for good and without a word (seen with 2026.4.1; never of an FP32 or INT8 model in 60)."""

    def __post_init__(self) -> None:
        if self.exact and (self.throughput or self.streams not in (None, 1)):
            raise UsageError("OpenVINO computes a graph exactly by one stream: leave streams and throughput out")
        check_stage(self.stage_map)
        if self.precision not in PRECISIONS:
            raise UsageError(f"OpenVINO takes a precision of {PRECISIONS}, got {self.precision!r}")


class OpenVINOSession(Session):
    """A compiled model and a request of it."""

    runtime = "openvino"

    @classmethod
    def preload(cls, **options: Any) -> None:
        load_openvino()

    def __init__(self, path: Path, **options: Any) -> None:
        """``options`` are the fields of ``OpenVINOOptions``."""
        chosen = OpenVINOOptions(**options)
        ov, core = load_openvino(), openvino_core()
        units = {"bf16": "BF16", "f16": "FP16"}.get(chosen.precision)
        if units is not None and units not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise MissingRuntimeError(f"this CPU has no {units} units: run FP32 or INT8")
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": chosen.precision,
            "PERFORMANCE_HINT": "THROUGHPUT" if chosen.throughput else "LATENCY",
            "PERF_COUNT": chosen.profile,
        }
        if chosen.threads is not None:
            config["INFERENCE_NUM_THREADS"] = chosen.threads
        if chosen.streams is not None:
            config["NUM_STREAMS"] = chosen.streams
        if chosen.exact:
            config["LP_TRANSFORMS_MODE"] = False  # leaves the quantisers in the graph
        if chosen.cache_dir is not None:
            config["CACHE_DIR"] = chosen.cache_dir
        _check_format(path)
        try:
            model = core.read_model(path)
            if chosen.batch is not None:
                model.reshape({port: [chosen.batch, *list(port.partial_shape)[1:]] for port in model.inputs})
            if chosen.stage_map is not None:
                add_openvino_output(ov, model, chosen.stage_map)
            self._model = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise BundleError(f"OpenVINO cannot load {path.name}: {last}; make or copy the bundle again") from error
        self._begin()

    def _begin(self) -> None:
        """A request of the compiled model, with memory bound to its outputs."""
        self.threads = int(self._model.get_property("INFERENCE_NUM_THREADS"))
        self.streams = int(self._model.get_property("NUM_STREAMS"))
        self._queue: Any = None
        self._runs = 0
        self._request = self._model.create_infer_request()
        self._bound: list[np.ndarray | None] = [None] * len(self._model.inputs)
        self._shared: list[np.ndarray | None] = [None] * len(self._model.inputs)  # keeps the memory that is shared
        self.inputs = tuple(_info(port, f"input_{i}") for i, port in enumerate(self._model.inputs))
        self.outputs = tuple(_info(port, f"output_{i}") for i, port in enumerate(self._model.outputs))
        self._results = [self._bind_output(i, info) for i, info in enumerate(self.outputs)]

    def sibling(self) -> OpenVINOSession:
        other = object.__new__(OpenVINOSession)
        other._model = self._model
        other._begin()
        return other

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for i, info in enumerate(self.inputs):
            self._bind(i, feed[info.name])
        # without inputs, which are bound, and without a copy of the outputs. start_async() and wait() would hand over
        # to another thread: 0.03 of 0.86 ms
        self._request.infer(share_outputs=True)
        self._runs += 1
        return {
            info.name: (self._request.get_output_tensor(i).data if result is None else result).copy()
            for i, (info, result) in enumerate(zip(self.outputs, self._results, strict=True))
        }

    def _bind_output(self, index: int, info: TensorInfo) -> np.ndarray | None:
        """Memory that the engine writes this output to in every run: asking for it each time takes 20 microseconds.

        None where its shape is known only after a run.
        """
        shape = [d for d in info.shape if d is not None]
        if len(shape) < len(info.shape):
            return None
        array = np.empty(shape, info.dtype)
        self._request.set_output_tensor(index, load_openvino().Tensor(array, shared_memory=True))
        return array

    def _bind(self, index: int, array: np.ndarray) -> None:
        """Let the input share the array's memory; the array of the last run is bound already."""
        if array is self._bound[index]:
            return
        usable = np.require(array, requirements=("C", "W"))
        self._request.set_input_tensor(index, load_openvino().Tensor(usable, shared_memory=True))
        # a copy holds what the caller's array had now, and must be made again next time
        self._bound[index] = usable if usable is array else None
        self._shared[index] = usable

    def run_many(self, feed: dict[str, np.ndarray], count: int) -> None:
        """As many requests in flight as the model has streams."""
        if self._queue is None:
            self._queue = load_openvino().AsyncInferQueue(self._model, self.streams)
        inputs = {i: feed[info.name] for i, info in enumerate(self.inputs)}
        for _ in range(count):
            self._queue.start_async(inputs, share_inputs=True)
        self._queue.wait_all()

    def layer_times(self) -> list[Kernel]:
        """Every kernel with its mean over all runs since the model was compiled; needs ``profile=True``.

        The CPU plugin counts in whole microseconds, and leaves out a kernel whose mean is under one.
        """
        return [
            Kernel(p.node_name, p.node_type, p.exec_type, p.real_time.total_seconds() * 1e3)
            for p in self._request.profiling_info
            if p.status == type(p).Status.EXECUTED
        ]

    def profile(self, feed: dict[str, np.ndarray], *, warmup: int, runs: int) -> list[Kernel]:
        for _ in range(warmup):
            self.run(feed)
        before = self._kernel_sums()
        for _ in range(runs):
            self.run(feed)
        # what the plugin gives is the mean over the slow first runs too: their share is taken out
        return [Kernel(*key, max(ms - before.get(key, 0.0), 0.0) / runs) for key, ms in self._kernel_sums().items()]

    def _kernel_sums(self) -> dict[tuple[str, str, str], float]:
        """Milliseconds of each kernel in all runs since the model was compiled."""
        sums: dict[tuple[str, str, str], float] = {}
        for kernel in self.layer_times():
            sums[kernel[:3]] = sums.get(kernel[:3], 0.0) + kernel.ms * self._runs
        return sums

    def close(self) -> None:
        self._request = self._queue = self._model = None
        self._bound, self._shared, self._results = [], [], []


def has_bf16() -> bool:
    """Whether this CPU's OpenVINO runs bf16 natively."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def openvino_core() -> Any:
    """One ``Core`` that lives as long as the process.

    The CPU plugin gives the thread that opens it a stack for signals, and takes it away from the thread that lets go of
    the last model. Where these are two, the first keeps an address that is unmapped, and its next signal, a Ctrl-C, is
    a segmentation fault (seen with 2026.4.1).
    """
    return load_openvino().Core()


def load_openvino() -> Any:
    """The package, which tells its maker nothing; ``MissingRuntimeError`` where it is not installed."""
    switch_off_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise MissingRuntimeError("OpenVINO is not installed: pip install 'edge-van[openvino]'") from error
    return openvino


def _check_format(path: Path) -> None:
    """``BundleError`` for a file that is none of its name's format, found by the reader of that format alone.

    OpenVINO would try those of all formats, of which TensorFlow's writes its own lines to standard error.
    """
    from openvino.frontend import FrontEndManager

    kind, called = ("onnx", "ONNX file") if path.suffix == ".onnx" else ("ir", "OpenVINO IR of a known version")
    if not path.is_file():
        what = "is not there"
    elif FrontEndManager().load_by_framework(kind).supported(path):
        return
    else:
        what = f"is no {called}"
    raise BundleError(f"OpenVINO cannot load {path.name}: it {what}: make or copy the bundle again")


def _info(port: Any, unnamed: str) -> TensorInfo:
    """Files of other tools may leave a tensor without a name."""
    shape = tuple(int(d.get_length()) if d.is_static else None for d in port.partial_shape)
    name = port.any_name if port.names else unnamed
    return TensorInfo(name, shape, np.dtype(port.element_type.to_dtype()))
