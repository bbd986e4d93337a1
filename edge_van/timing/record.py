"""What ``edge-van benchmark`` writes: every raw sample, how it was taken, on what, and what to doubt.

In: measured numbers. Out: frozen records, and their JSON; ``timing.record_file`` reads it again. No engine, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from edge_van.bundle.records import Interval
from edge_van.machine import Machine

BENCHMARK_SCHEMA_VERSION = 1
BENCHMARK_KIND = "edge-van benchmark"
MAX_BUNDLES, MAX_MODELS = 16, 256
"""More than that no run has; a page of more would be drawn for hours."""

Scenario = Literal["single_stream", "multi_stream", "offline"]
SCENARIOS: tuple[Scenario, ...] = ("single_stream", "multi_stream", "offline")
SCENARIO_TITLES: dict[Scenario, str] = {
    "single_stream": "SingleStream",
    "multi_stream": "MultiStream",
    "offline": "Offline",
}
TIMED_RUNTIMES = (
    "openvino",
    "onnxruntime",
    "torch",
    "torch_compile",
    "torch_graph",
    "torch_compile_graph",
    "tensorrt",
    "tensorrt_rtx",
)
GPU_RUNTIMES = TIMED_RUNTIMES[2:]
"""Those that compute on an NVIDIA GPU, PyTorch where it is told to; "graph": as CUDA graphs, captured once."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """How the run was asked for: what a second run needs to be the same."""

    scenarios: tuple[Scenario, ...] = SCENARIOS
    threads: int | None = None  # CPU threads an engine may use; None: the engine's own choice
    streams: int = 1  # requests in flight at once in the offline scenario
    batches: tuple[int, ...] = (1, 4, 8, 16, 32)  # of the offline scenario
    multi_stream_samples: int = 8  # images in one query of the multi-stream scenario
    warmup_runs: int = 10
    samples: int = 662  # rounds of the single-stream and the multi-stream scenario
    min_duration_s: float = (
        60.0  # of a scenario, whose batches share it in offline: rounds go on until this and the count
    )
    seed: int = 0
    max_duration_s: float = (
        120.0  # or until this is over (offline: for each batch); a median's least rounds are always taken
    )
    offline_slices: int = 10  # rounds of each batch size: a stretch of time of each model, in turns with the others
    device: Literal["cpu", "cuda"] = "cpu"  # what PyTorch computes on; engines have theirs


@dataclass(frozen=True)
class BenchmarkBundle:
    """Which bundle: enough to tell two runs of one from runs of two."""

    name: str  # of its folder, made unique
    variant: str
    created: str
    checkpoint_sha256: str
    input_size: tuple[int, int]


@dataclass(frozen=True)
class BenchmarkModel:
    """One model of the run. ``name`` is unique: runtime-precision, behind the bundle's name where there are more."""

    name: str
    bundle: str
    runtime: str  # one of ``TIMED_RUNTIMES``
    precision: str  # "fp32", "tf32", "fp16", "bf16", "int8", "int8_bf16" (INT8, the rest in bf16), or a TensorRT scheme
    file: str  # in the bundle
    file_bytes: int  # with the weights beside it
    threads: int | None  # what the engine uses, where it says so
    takes: str = ""  # what one image is when it reaches the model: what is done before is not in the times
    settings: str = ""  # in which the engine was not left as it comes


@dataclass(frozen=True)
class QueryLatency:
    """Times of one model's queries, each timed once a round beside all others.

    ``ratio`` is the median over the rounds of the baseline's time / this one's in the same round: over 1 is faster.
    """

    model: str
    images_per_query: int
    samples_ms: tuple[float, ...]
    median_ms: float
    p90_ms: float
    p99_ms: float
    coefficient_of_variation: float  # standard deviation / mean
    ratio: float
    ratio_interval: Interval


@dataclass(frozen=True)
class Throughput:
    """Images per second of one model at one batch size; ``slices`` are what the median and the spread are taken of."""

    model: str
    batch: int
    streams: int
    slices: tuple[float, ...]  # images/s, each over a slice of time between slices of the other models
    images_per_s: float  # their median
    coefficient_of_variation: float
    ratio: float  # median over the slices of this / the baseline at the same batch size: over 1 is faster
    ratio_interval: Interval
    joules_per_image: float | None = None  # of what ``Conditions.energy_source`` says, idle power included
    device_memory_mib: float | None = None  # of the GPU, weights and maps together, where the engine tells


@dataclass(frozen=True)
class Startup:
    """One model in a process of its own, with nothing compiled on disk.

    ``cached_*`` are another process's, with what an earlier one compiled; None where the engine keeps no such cache.
    """

    model: str
    load_ms: float
    first_inference_ms: float
    cached_load_ms: float | None
    cached_first_inference_ms: float | None
    peak_memory_mib: float  # resident, of the whole process
    before_load_mib: float  # resident, with the engine imported and nothing loaded
    disturbed: bool = False  # other work or throttling went on meanwhile, in every try


@dataclass(frozen=True)
class LayerTime:
    """One executed kernel: its layer's name, its operator, the kernel the engine chose, mean milliseconds."""

    name: str
    operator: str
    kernel: str
    mean_ms: float


@dataclass(frozen=True)
class LayerProfile:
    """Kernels of one model in the order they ran, measured with the engine's own profiler on (which slows it)."""

    model: str
    runs: int
    layers: tuple[LayerTime, ...]


@dataclass(frozen=True)
class Doubt:
    """Why a figure is not to be trusted.

    ``scenario`` is one of ``SCENARIOS`` or "startup", None for all; ``models`` are those it concerns, none for all.
    "cores_apart" stands in older files alone.
    """

    kind: Literal["too_few_samples", "variation", "drift", "throttling", "other_load", "stolen_time", "cores_apart"]
    scenario: str | None
    models: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Conditions:
    """What the machine did meanwhile, of what the operating system tells."""

    rounds: int  # kept
    rounds_discarded: int  # thrown away, because they were disturbed; others were measured in their place
    other_cpu_percent: float | None  # share of the machine's CPU time that other processes took in what was kept
    stolen_cpu_percent: float | None  # and that the hypervisor gave to other machines
    throttle_events: int | None  # by heat or by a control group's quota
    load_average_1min: float
    energy_source: str | None = None  # "rapl": the processor packages; "rails": a Jetson's module; "nvml": the GPU
    not_watched: tuple[str, ...] = ()  # what this machine does not tell, so that no doubt can come of it


@dataclass(frozen=True)
class Skipped:
    """A model that could have been there, and why it is not."""

    model: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResult:
    """One interleaved run over every model; the content of ``benchmark.json``."""

    schema_version: int
    kind: str  # BENCHMARK_KIND
    edge_van_version: str
    created: str  # ISO 8601, UTC
    command: str
    bundles: tuple[BenchmarkBundle, ...]
    machine: Machine
    settings: BenchmarkSettings
    baseline: str  # the model that ratios are taken to
    models: tuple[BenchmarkModel, ...]
    conditions: Conditions
    single_stream: tuple[QueryLatency, ...] = ()
    multi_stream: tuple[QueryLatency, ...] = ()
    offline: tuple[Throughput, ...] = ()
    startup: tuple[Startup, ...] = ()
    layers: tuple[LayerProfile, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=())


def best_throughput(result: BenchmarkResult, model: str) -> Throughput | None:
    """The offline scenario's figure: the batch size with the most images per second; None where none was measured."""
    rows = [row for row in result.offline if row.model == model]
    return max(rows, key=lambda row: row.images_per_s) if rows else None


def benchmark_schema() -> dict[str, Any]:
    """The JSON Schema of ``benchmark.json``."""
    return msgspec.json.schema(BenchmarkResult)


def encode_benchmark(result: BenchmarkResult) -> bytes:
    """JSON, the same bytes for the same result; on one line, since most of it are samples."""
    return msgspec.json.encode(result) + b"\n"
