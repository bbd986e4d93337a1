"""Building and timing engines with the ``trtexec`` that JetPack ships: no Python bindings of TensorRT are needed.

In: an ONNX file. Out: the same folder as ``export.tensorrt`` makes, and GPU times. Not yet run on hardware.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from edge_van.bundle.engine_record import EngineRecord, write_engine
from edge_van.bundle.layout import LOG_NAME, PLAN_NAME
from edge_van.engines.layer_table import (
    check_precision,
    onnx_layers,
    parse_layer_json,
    precision_table,
    require_precision,
)
from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.engines.tensorrt_8 import for_tensorrt_8
from edge_van.engines.trtexec_output import Summary, parse_summary, parse_times
from edge_van.engines.versions import flags_of, require_version
from edge_van.errors import DataError, MissingRuntimeError, VerificationError
from edge_van.progress import signals_wait

JETPACK_TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")
LAYERS_NAME, TIMES_NAME = "layers.json", "times.json"
UNPROVED_NAME = "unproved.engine"
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
    """The binary given, else the first that runs of the one on PATH and JetPack's.

    ``MissingRuntimeError`` says why none does, or that its version is too old.
    """
    on_path = shutil.which("trtexec")
    candidates = [binary] if binary else [*([Path(on_path)] if on_path else []), JETPACK_TRTEXEC]
    reasons = []
    for path in candidates:
        try:
            done = _run([str(path), "--help"], timeout_s=60)
            tool = Trtexec(path, parse_summary(done.stdout + done.stderr).version)
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{path}: {error}")
        except DataError:
            said = (done.stderr or done.stdout).strip().splitlines()
            reasons.append(f"{path}: exit code {done.returncode}, {said[-1] if said else 'no output'}")
        else:
            try:
                require_version(tool.version)
            except MissingRuntimeError as error:
                reasons.append(f"{path}: {error}")
            else:
                return tool
    raise MissingRuntimeError(
        f"trtexec does not run ({'; '.join(reasons)}): on a Jetson install libnvinfer-bin, or give its path"
    )


def is_before_8_6(version: str) -> bool:
    """The versions of JetPack 5: another name for a flag, and no word on which nodes a layer computes."""
    return Version(version) < Version("8.6")


def build_command(
    tool: Trtexec, onnx: Path, folder: Path, *, input_shape: str = "", flags: tuple[str, ...] = ()
) -> list[str]:
    """The command that builds ``onnx`` into ``folder`` and writes its layers.

    ``flags`` are ``flags_of`` the graph, for version 8 alone: later ones take the datatypes from the graph.
    """
    command = [
        str(tool.binary),
        f"--onnx={onnx}",
        f"--saveEngine={folder / UNPROVED_NAME}",
        f"--exportLayerInfo={folder / LAYERS_NAME}",
        "--profilingVerbosity=detailed",
        "--buildOnly" if is_before_8_6(tool.version) else "--skipInference",
    ]
    if input_shape:
        command += [f"--{kind}Shapes={input_shape}" for kind in ("min", "opt", "max")]
    if tool.major < 9:
        command += [f"--{flag.lower()}" for flag in flags]
    elif tool.major < 11:
        command += ["--stronglyTyped"]  # 11 is nothing else
    return [*command, "--noTF32"]  # on by default: what the graph calls float32 would have 10 bits


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


def _run(command: list[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    # what it prints need not be UTF-8
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)


def run(command: list[str], log: Path, *, timeout_s: float = BUILD_TIMEOUT_S) -> Summary:
    """Run trtexec, keep what it says in ``log``; ``VerificationError`` with its last error where it fails."""
    try:
        done = _run(command, timeout_s=timeout_s)
    except OSError as error:
        raise MissingRuntimeError(f"trtexec does not run ({command[0]}: {error})") from error
    except subprocess.TimeoutExpired as error:
        said = "".join(p.decode(errors="replace") for p in (error.stdout, error.stderr) if isinstance(p, bytes))
        log.write_text(f"{' '.join(command)}\n{said}", encoding="utf-8")
        raise VerificationError(f"trtexec was not done after {timeout_s:.0f} s: {' '.join(command)}") from error
    text = done.stdout + done.stderr
    log.write_text(f"{' '.join(command)}\n{text}", encoding="utf-8")
    if "&&&&" not in text:  # it ended before it could say anything
        code, lines = done.returncode, text.strip().splitlines()
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}, out of memory perhaps"
        raise VerificationError(f"trtexec failed ({how}): {lines[-1] if lines else 'it said nothing'}")
    summary = parse_summary(text)
    if done.returncode != 0 or not summary.passed:
        errors = [line for line in text.splitlines() if "[E]" in line]
        raise VerificationError(
            f"trtexec failed (exit code {done.returncode}): {errors[-1] if errors else 'it does not say why'}"
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
    """As ``tensorrt.build_engine``, with the binary. Batch 1."""
    with signals_wait():
        import onnx

    model = onnx.load(onnx_path)
    check_qdq_rules(model)
    value = model.graph.input[0]
    sides = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    shape = f"{value.name}:{'x'.join(map(str, (1, *sides)))}"
    unproved, source = folder / UNPROVED_NAME, onnx_path
    start = time.perf_counter()
    try:
        if tool.major < 9:
            source = folder / "model.onnx"
            source.write_bytes(for_tensorrt_8(model, tool.version).SerializeToString())
        run(build_command(tool, source, folder, input_shape=shape, flags=flags_of(model)), folder / LOG_NAME)
        layers = parse_layer_json((folder / LAYERS_NAME).read_text(encoding="utf-8"))
        rows = precision_table(layers, onnx_layers(model))
        if not allow_fallback:
            require_precision(rows, floats=tool.major >= 9)
        plan = unproved.read_bytes()
    except FileNotFoundError as error:
        raise VerificationError(f"trtexec passed and left no {error.filename}") from error
    finally:
        unproved.unlink(missing_ok=True)  # an engine has its own name only once it is proved
        (folder / "model.onnx").unlink(missing_ok=True)
    return write_engine(
        folder,
        plan,
        onnx_path,
        scheme=scheme,
        runtime="tensorrt",
        version=tool.version,
        compute_capabilities=(capability,) if capability else (),
        gpu=gpu,
        build_s=time.perf_counter() - start,
        timing_cache="none",
        layers=rows,
        warnings=check_precision(rows),
    )


def time_engine(tool: Trtexec, folder: Path) -> tuple[float, ...]:
    """GPU compute times of the engine in ``folder``, milliseconds, one per inference."""
    run(time_command(tool, folder), folder / "time.log")
    return parse_times((folder / TIMES_NAME).read_text(encoding="utf-8"))
