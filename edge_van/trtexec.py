"""Building and timing engines with the ``trtexec`` that JetPack ships: no Python bindings of TensorRT are needed.

In: an ONNX file. Out: the same folder as ``export.tensorrt`` makes, and GPU times. Not yet run on hardware.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from edge_van.engine_record import (
    ENGINE_SCHEMA_VERSION,
    LOG_NAME,
    PLAN_NAME,
    RECORD_NAME,
    EngineRecord,
    encode_record,
)
from edge_van.errors import MissingRuntimeError, VerificationError
from edge_van.export.layer_table import (
    check_precision,
    onnx_layers,
    parse_layer_json,
    precision_table,
    require_precision,
)
from edge_van.export.precision import for_tensorrt_8
from edge_van.export.qdq_rules import check_qdq_rules
from edge_van.trtexec_parse import Summary, parse_summary, parse_times

JETPACK_TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")
LAYERS_NAME, TIMES_NAME = "layers.json", "times.json"
BUILD_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Trtexec:
    """A binary and its version, "10.3.0"."""

    binary: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_trtexec(binary: Path | None = None) -> Trtexec:
    """The binary given, the one on PATH, or JetPack's; ``MissingRuntimeError`` if there is none or it does not run."""
    on_path = shutil.which("trtexec")
    candidates = [binary] if binary else [Path(on_path)] if on_path else [JETPACK_TRTEXEC]
    found = candidates[0]
    try:
        done = subprocess.run([found, "--help"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingRuntimeError(
            f"trtexec does not run ({found}: {error}): on a Jetson install libnvinfer-bin, or give its path"
        ) from error
    return Trtexec(found, parse_summary(done.stdout + done.stderr).version)


def build_command(tool: Trtexec, onnx: Path, folder: Path, *, batch: int = 1, input_shape: str = "") -> list[str]:
    """The command that builds ``onnx`` into ``folder`` and writes its layers; flags by version."""
    command = [
        str(tool.binary),
        f"--onnx={onnx}",
        f"--saveEngine={folder / PLAN_NAME}",
        f"--exportLayerInfo={folder / LAYERS_NAME}",
        "--profilingVerbosity=detailed",
        "--skipInference" if tool.major >= 9 or tool.version.startswith("8.6") else "--buildOnly",
    ]
    if input_shape:
        command += [f"--{kind}Shapes={input_shape}" for kind in ("min", "opt", "max")]
    if tool.major < 9:
        command += ["--int8", "--fp16"]  # later ones take the datatypes from the graph
    elif tool.major == 10:
        command += ["--stronglyTyped"]  # 11 is nothing else, and refuses the flag
    return command


def time_command(tool: Trtexec, folder: Path, *, warm_up_ms: int = 500, duration_s: int = 5) -> list[str]:
    """The command that times the engine in ``folder``: the GPU's own time, from a CUDA graph, without copies."""
    command = [
        str(tool.binary),
        f"--loadEngine={folder / PLAN_NAME}",
        f"--exportTimes={folder / TIMES_NAME}",
        f"--warmUp={warm_up_ms}",
        f"--duration={duration_s}",
        "--iterations=100",
    ]
    if tool.major < 11:  # from 11 on these are what it does anyway
        command += ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"]
    return command


def run(command: list[str], log: Path, *, timeout_s: float = BUILD_TIMEOUT_S) -> Summary:
    """Run trtexec, keep what it says in ``log``; ``VerificationError`` with its last error where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except OSError as error:
        raise MissingRuntimeError(f"trtexec does not run ({command[0]}: {error})") from error
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"trtexec was not done after {timeout_s:.0f} s: {' '.join(command)}") from error
    text = done.stdout + done.stderr
    log.write_text(f"{' '.join(command)}\n{text}", encoding="utf-8")
    summary = parse_summary(text)
    if done.returncode != 0 or not summary.passed:
        errors = [line for line in text.splitlines() if "[E]" in line]
        raise VerificationError(
            f"trtexec failed (exit code {done.returncode}): {errors[-1] if errors else 'see the log'}"
        )
    return summary


def build_engine_with_trtexec(
    tool: Trtexec,
    onnx_path: Path,
    folder: Path,
    scheme: str,
    *,
    gpu: str,
    capability: str,
    allow_fallback: bool = False,
) -> EngineRecord:
    """As ``export.tensorrt.build_engine``, with the binary. Batch 1."""
    import onnx

    model = onnx.load(onnx_path)
    check_qdq_rules(model)
    source = onnx_path
    if tool.major < 9:
        source = folder / "model.onnx"
        source.write_bytes(for_tensorrt_8(model).SerializeToString())
    value = model.graph.input[0]
    sides = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    start = time.perf_counter()
    shape = f"{value.name}:{'x'.join(map(str, (1, *sides)))}"
    run(build_command(tool, source, folder, input_shape=shape), folder / LOG_NAME)
    build_s = time.perf_counter() - start
    rows = precision_table(parse_layer_json((folder / LAYERS_NAME).read_text(encoding="utf-8")), onnx_layers(model))
    if not allow_fallback:
        require_precision(rows)
    plan = (folder / PLAN_NAME).read_bytes()
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        scheme=scheme,
        runtime="tensorrt",
        version=tool.version,
        compute_capabilities=(capability,) if capability else (),
        gpu=gpu,
        onnx=onnx_path.name,
        onnx_sha256=hashlib.sha256(onnx_path.read_bytes()).hexdigest(),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        build_s=build_s,
        timing_cache="none",
        layers=rows,
        warnings=check_precision(rows),
    )
    (folder / RECORD_NAME).write_bytes(encode_record(record))
    return record


def time_engine(tool: Trtexec, folder: Path) -> tuple[float, ...]:
    """GPU compute times of the engine in ``folder``, milliseconds, one per inference."""
    run(time_command(tool, folder), folder / "time.log")
    return parse_times((folder / TIMES_NAME).read_text(encoding="utf-8"))
