"""TensorRT engines from an explicit Q/DQ ONNX file: by ``tensorrt`` on a device, by ``tensorrt_rtx`` ahead of time.

In: an ONNX file of ``export.onnx`` and what to build for. Out: a folder with the raw plan, the record beside it and the
builder's log. Nothing is built whose precision is not proved: see ``export.layer_table``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_van.bundle.engine_record import EngineRecord, write_engine
from edge_van.bundle.layout import LOG_NAME
from edge_van.engines.layer_table import (
    EngineLayer,
    check_precision,
    onnx_layers,
    parse_layer_json,
    parse_layer_log,
    precision_table,
    require_precision,
)
from edge_van.engines.qdq_rules import check_qdq_rules
from edge_van.engines.versions import flags_of, for_version, network_flags, require_version, strongly_typed
from edge_van.errors import BundleError, MissingRuntimeError, UsageError, VerificationError
from edge_van.progress import signals_wait
from edge_van.runtimes.cuda import device
from edge_van.runtimes.tensorrt import load_tensorrt
from edge_van.storage.files import replace_file

RTX_CAPABILITIES = {"7.5": "SM75", "8.0": "SM80", "8.6": "SM86", "8.9": "SM89", "12.0": "SM120", "12.1": "SM121"}
"""What TensorRT for RTX 1.7 builds ahead of time for: desktop cards, no Jetson."""
Progress = Callable[[str], None]
"""Called with the name of every phase of the builder."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    runtime               "tensorrt" (for the GPU that is there) or "tensorrt_rtx" (ahead of time)
    compute_capabilities  for "tensorrt_rtx": the cards, as "8.6", "sm86" or "SM86"; several share one engine
    max_batch             the engine takes 1 to this many images, and is tuned for 1
    timing_cache          a file to read timings from, if it is there, and to write them to
    allow_fallback        a layer in another datatype than the graph says is a warning instead of an error
    """

    runtime: str
    compute_capabilities: tuple[str, ...] = ()
    max_batch: int = 1
    timing_cache: Path | None = None
    allow_fallback: bool = False

    def __post_init__(self) -> None:
        if self.runtime not in ("tensorrt", "tensorrt_rtx"):
            raise UsageError(f"engines are built by tensorrt or tensorrt_rtx, not {self.runtime!r}")
        if self.max_batch < 1:
            raise UsageError(f"an engine takes at least one image, got a largest batch of {self.max_batch}")
        if (path := self.timing_cache) is not None and (not path.parent.is_dir() or path.is_dir()):
            raise UsageError(f"{path} cannot be a timing cache: give a file in a folder that is there")
        if self.runtime == "tensorrt" and self.compute_capabilities:
            raise UsageError("tensorrt builds for the GPU that is there: leave the compute capabilities out")
        cards = sorted(set(map(_capability, self.compute_capabilities)), key=list(RTX_CAPABILITIES).index)
        object.__setattr__(self, "compute_capabilities", tuple(cards))


def _capability(text: str) -> str:
    """ "8.6" from "8.6", "86", "sm86" or "SM_86"."""
    digits = text.lower().removeprefix("sm").strip("_. ").replace(".", "")
    known = f"{digits[:-1]}.{digits[-1:]}"
    if known not in RTX_CAPABILITIES:
        raise UsageError(
            f"{text!r} is no compute capability that TensorRT for RTX builds for; it knows "
            f"{', '.join(RTX_CAPABILITIES.values())} (a Jetson's engine is built on the Jetson, by tensorrt)"
        )
    return known


def build_engine(
    onnx_path: Path, folder: Path, scheme: str, options: BuildOptions, *, progress: Progress | None = None
) -> EngineRecord:
    """Build ``onnx_path`` into ``folder`` (which exists): the plan, its record and the builder's log; the record.

    Raises ``VerificationError`` for a graph that breaks TensorRT's rules, that the parser or builder refuses, or whose
    layers do not run in the datatype it asks for; ``MissingRuntimeError`` without the library or, for ``tensorrt``, a
    GPU. The log is written in any case.
    """
    with signals_wait():
        import onnx

    model = onnx.load(onnx_path)
    check_qdq_rules(model)
    with signals_wait():
        trt = load_tensorrt(options.runtime)
    if options.runtime == "tensorrt":
        require_version(trt.__version__)
    gpu = device() if options.runtime == "tensorrt" else None
    log = _Log.make(trt)
    start = time.perf_counter()
    try:
        plan, cache_state = _build(trt, model, options, log, progress)
        layers = _layers(trt, plan, log, options.runtime)
    finally:
        (folder / LOG_NAME).write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    rows = precision_table(layers, onnx_layers(model))
    warnings = check_precision(rows)
    if not options.allow_fallback:
        require_precision(rows, floats=strongly_typed(trt, options.runtime))
    return write_engine(
        folder,
        plan,
        onnx_path,
        scheme=scheme,
        runtime=options.runtime,
        version=trt.__version__,
        compute_capabilities=options.compute_capabilities if gpu is None else (gpu.compute_capability,),
        gpu=None if gpu is None else gpu.name,
        build_s=time.perf_counter() - start,
        timing_cache=cache_state,
        layers=rows,
        warnings=warnings,
        max_batch=options.max_batch,
    )


class _Log:
    """Keeps every line the builder says; errors are quoted in what we raise."""

    @staticmethod
    def make(trt: ModuleType) -> Any:
        """An instance of the library's own ``ILogger``."""

        class Kept(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[str] = []
                self.errors: list[str] = []

                self.raised: BaseException | None = None

            def log(self, severity: Any, message: str) -> None:
                try:
                    self.lines.append(f"{severity.name}: {message}")
                    if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                        self.errors.append(message)
                except BaseException as error:  # noqa: BLE001  an interrupt must not cross C++: kept, and raised behind it
                    self.raised = self.raised or error

        return Kept()


def _build(
    trt: ModuleType, model: Any, options: BuildOptions, log: Any, progress: Progress | None
) -> tuple[bytes, str]:
    """(plan, state of the timing cache)."""
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(for_version(trt, options.runtime, model).SerializeToString()):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(f"{e.desc()} (node {e.node()})" for e in errors[:3])
        raise VerificationError(f"{trt.__name__} {trt.__version__} cannot parse the graph: {said}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if hasattr(trt.BuilderFlag, "TF32"):  # on by default: what the graph calls float32 would have 10 bits
        config.clear_flag(trt.BuilderFlag.TF32)
    if not strongly_typed(trt, options.runtime):
        for name in flags_of(model):
            config.set_flag(getattr(trt.BuilderFlag, name))
    if options.runtime == "tensorrt_rtx" and options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for i, capability in enumerate(options.compute_capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, RTX_CAPABILITIES[capability]), i)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shapes = [(batch, *tuple(tensor.shape)[1:]) for batch in (1, 1, options.max_batch)]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    cache_state = _load_timing_cache(config, options.timing_cache, log)
    monitor = None
    if hasattr(trt, "IProgressMonitor"):  # without it an interrupt ends the build only when it is done
        config.progress_monitor = monitor = _monitor(trt, log, progress or (lambda phase: None))
    plan = builder.build_serialized_network(network, config)
    del monitor
    if log.raised is not None:
        raise log.raised
    if plan is None:
        raise VerificationError(
            f"{trt.__name__} {trt.__version__} cannot build the engine: {'; '.join(log.errors[-3:]) or 'see the log'}"
        )
    try:
        _save_timing_cache(config, options.timing_cache)
    except BundleError:  # an engine is not lost for a file that only saves time; the record says so
        cache_state = "not written"
    return bytes(plan), cache_state


def _monitor(trt: ModuleType, log: Any, progress: Progress) -> Any:
    """Tells ``progress`` each phase; what it or a signal raises goes to ``log.raised`` and ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            try:
                progress(name)
            except BaseException as error:  # noqa: BLE001  an interrupt must not cross C++: kept, and raised behind it
                log.raised = log.raised or error

        def step_complete(self, name: str, step: int) -> bool:
            try:
                return log.raised is None  # False ends the build
            except BaseException as error:  # noqa: BLE001
                log.raised = log.raised or error
                return False

        def phase_finish(self, name: str) -> None:
            pass

    return Monitor()


def _load_timing_cache(config: Any, path: Path | None, log: Any) -> str:
    """ "none", "new", "reused", or "refused": of another version or GPU, or damaged, and begun anew."""
    if path is None:
        return "none"
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UsageError(f"the timing cache {path} cannot be read ({error.strerror}): give another file") from error
    said = len(log.lines)
    cache = config.create_timing_cache(content)
    # one that is damaged is replaced by an empty one with nothing but a warning
    doubted = any("timing cache" in line.lower() and "fail" in line.lower() for line in log.lines[said:])
    taken = cache is not None and config.set_timing_cache(cache, False)
    if not taken:
        config.set_timing_cache(config.create_timing_cache(b""), False)
    if not content:
        return "new"
    return "reused" if taken and not doubted else "refused"


def _save_timing_cache(config: Any, path: Path | None) -> None:
    if path is None:
        return
    cache = config.get_timing_cache()
    if cache is not None:
        replace_file(path, bytes(cache.serialize()))


def _layers(trt: ModuleType, plan: bytes, log: Any, runtime: str) -> tuple[EngineLayer, ...]:
    """From the engine itself where a GPU is there to open it, else from the builder's log."""
    if runtime == "tensorrt":
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            raise MissingRuntimeError("the engine that was just built cannot be opened on this GPU: see the log")
        inspector = engine.create_engine_inspector()
        return parse_layer_json(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return parse_layer_log(log.lines)
