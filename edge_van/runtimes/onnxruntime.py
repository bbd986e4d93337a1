"""ONNX Runtime on the CPU.

In: an ONNX file. Out: a ``Session``. ``exact=True`` turns its graph rewrites off, so that a Q/DQ graph computes just
what it says (quantise, dequantise, float convolution): the reference for accuracy. On a CPU without VNNI the rewritten
integer kernels may saturate. ``stage_map`` adds the map of a stage to the outputs, and needs the package ``onnx``.
"""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from packaging.version import Version

from edge_van.errors import BundleError, MissingRuntimeError
from edge_van.runtimes.base import Kernel, Session, TensorInfo
from edge_van.runtimes.onnx_file import read_onnx
from edge_van.runtimes.stage_map import add_onnx_output, check_stage
from edge_van.runtimes.telemetry import switch_off_telemetry
from edge_van.text import single_line

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


ROUNDS_FLOAT16_FROM = Version("1.30")
"""Before, its QuantizeLinear truncates float16 values on a CPU: logits that are wrong by 10 dB."""


class ONNXRuntimeSession(Session):
    """An ONNX Runtime session on the CPU provider."""

    runtime = "onnxruntime"

    @classmethod
    def preload(cls, **options: Any) -> None:
        _load()

    def __init__(
        self,
        path: Path,
        *,
        exact: bool = True,
        threads: int | None = None,
        profile: bool = False,
        stage_map: int | None = None,
        spin: bool = True,
    ) -> None:
        """``spin`` False: its threads sleep as soon as a run is over, instead of spinning for a while."""
        check_stage(stage_map)
        ort = _load()
        self._name = path.name
        if Version(ort.__version__) < ROUNDS_FLOAT16_FROM and _quantises_float16(path):
            raise MissingRuntimeError(
                f"ONNX Runtime {ort.__version__} truncates where {path.name} rounds float16 to int8: its logits are "
                f"others: install {ROUNDS_FLOAT16_FROM} or newer (from Python 3.11 on), or make the bundle with "
                f'tensorrt_float = "float32" in the recipe'
            )
        options = ort.SessionOptions()
        options.log_severity_level = 4  # its errors are raised; written to standard error too, they would be said twice
        if not spin:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        self._profile_folder = tempfile.TemporaryDirectory(prefix="edge-van-profile-") if profile else None
        if self._profile_folder is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._profile_folder.name) / "run")
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = self.threads = threads
        source: str | bytes = str(path) if stage_map is None else _with_stage_map(path, stage_map)
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            last = str(error).strip().splitlines()[-1]
            raise BundleError(f"ONNX Runtime cannot load {path.name}: {last}; make or copy the bundle again") from error
        self.inputs = tuple(_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [info.name for info in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, feed), strict=True))
        except Exception as error:  # classes of its own, one a status, with no base but this
            raise BundleError(
                f"ONNX Runtime cannot run {self._name}: {single_line(error, 300)}: make or copy the bundle again"
            ) from error

    def profile(self, feed: dict[str, np.ndarray], *, warmup: int, runs: int) -> list[Kernel]:
        """Once only: ONNX Runtime writes its profile when it is ended, and cannot begin another."""
        for _ in range(warmup + runs):
            self.run(feed)
        events = json.loads(Path(self._session.end_profiling()).read_bytes())
        return _mean(_kernels_by_run(events)[-runs:])

    def close(self) -> None:
        self._session = None
        if self._profile_folder is not None:
            self._profile_folder.cleanup()
            self._profile_folder = None


def _kernels_by_run(events: list[dict[str, Any]]) -> list[list[Kernel]]:
    """The kernels of each run in ONNX Runtime's Chrome trace: each follows the ``model_run`` that it began in."""
    begins = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    runs: list[list[Kernel]] = [[] for _ in begins]
    for e in sorted(events, key=lambda e: e.get("ts", 0)):
        name = e.get("name", "")
        if name.endswith("_kernel_time") and (run := bisect_right(begins, e["ts"])):
            operator = e["args"]["op_name"]
            runs[run - 1].append(Kernel(name.removesuffix("_kernel_time"), operator, operator, e["dur"] / 1e3))
    return runs


def _mean(runs: list[list[Kernel]]) -> list[Kernel]:
    """One row a kernel, in the order they first ran; a run that leaves one out took 0 ms for it."""
    sums: dict[tuple[str, str, str], float] = {}
    for kernel in chain.from_iterable(runs):
        sums[kernel[:3]] = sums.get(kernel[:3], 0.0) + kernel.ms
    return [Kernel(*key, ms / len(runs)) for key, ms in sums.items()]


def _quantises_float16(path: Path) -> bool:
    """By the names in the file, which a bundle's graphs have: reading it needs a package that a device may lack."""
    try:
        content = path.read_bytes()
    except OSError:
        return False  # loading it says why
    return b"_float16" in content and b"QuantizeLinear" in content


def _load() -> Any:
    switch_off_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntimeError("ONNX Runtime is not installed: pip install 'edge-van[onnxruntime]'") from error
    return onnxruntime


def _with_stage_map(path: Path, stage: int) -> bytes:
    """The file with one more output, in memory alone."""
    model = read_onnx(path)
    add_onnx_output(model, stage)
    content: bytes = model.SerializeToString()
    return content


def _info(value: Any) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else None for d in value.shape)
    return TensorInfo(value.name, shape, np.dtype(_DTYPES[value.type]))
