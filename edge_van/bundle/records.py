"""The records that a bundle's manifest and the measuring commands share: plain frozen data, no engine, no torch.

In: measured numbers. Out: frozen dataclasses that msgspec reads from and writes to JSON, types checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_van.bundle.budget_record import BudgetRecord
from edge_van.bundle.engine_record import EngineChoice, EngineSet
from edge_van.bundle.interval import Interval as Interval
from edge_van.bundle.recipe import Recipe
from edge_van.head import Head
from edge_van.input_spec import InputSpec
from edge_van.machine import Machine

MANIFEST_SCHEMA_VERSION = 3
LARGEST = 1e12
"""No figure is larger: milliseconds of thirty years."""


@dataclass(frozen=True)
class ClassChange:
    """How one class fares: recall in percent before and after, and where its images moved. Of a label among several:
    ``images`` have it, recall is at the threshold, and nothing moves elsewhere."""

    name: str
    images: int
    recall_fp32_percent: float
    recall_int8_percent: float
    moved_to: dict[str, int] = field(default_factory=dict)
    """Images of this class whose INT8 prediction differs from FP32's, counted by the class INT8 chose."""

    def moved_most(self) -> list[tuple[str, int]]:
        """``moved_to``, the class that most moved to first, else by name."""
        return sorted(self.moved_to.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True)
class MetricChange:
    """A metric of both models on the same images; the drop is in points. A gate asks for those that are ``gated``."""

    name: str  # "F1", "average precision", "exact match"
    fp32_percent: float
    int8_percent: float
    drop_points: float
    drop_interval: Interval
    gated: bool = False


@dataclass(frozen=True)
class Accuracy:
    """FP32 against INT8 on the same images, by the ``metric`` of the network's task. The drop is FP32 minus INT8, in
    points; agreement is the share of images that both say the same of."""

    data: str
    images: int
    broken: int
    fp32_percent: float
    int8_percent: float
    top5_fp32_percent: float | None
    top5_int8_percent: float | None
    drop_points: float
    drop_interval: Interval
    agreement_percent: float
    logit_sqnr_db: float
    classes: tuple[ClassChange, ...] = ()
    images_per_s: float = 0.0
    decode_s: float = 0.0
    inference_s: float = 0.0
    wait_s: float = 0.0
    """Seconds the engines stood still because no decoded image was ready."""
    model: str = "INT8"
    """What stands beside FP32, and what computed it: "INT8", a graph or engine for another device by its name, or
    "bf16", the rounded network; in ``Manifest.precisions`` what OpenVINO computed in."""
    metric: str = "top-1"
    """What the percentages and the drop are of: "top-1"; "accuracy", of two classes told apart by a threshold; "mAP",
    the mean over the labels of their average precision."""
    others: tuple[MetricChange, ...] = ()

    @property
    def gated(self) -> tuple[MetricChange, ...]:
        """The metrics that a gate asks for, that of the task first."""
        shares = self.fp32_percent, self.int8_percent
        own = MetricChange(self.metric, *shares, self.drop_points, self.drop_interval, gated=True)
        return (own, *(m for m in self.others if m.gated))

    @property
    def worst(self) -> MetricChange:
        """Of these the one that fell most."""
        return max(self.gated, key=lambda m: m.drop_points)

    def most_changed(self) -> list[ClassChange]:
        """The classes, the one whose recall changed most first."""
        return sorted(self.classes, key=lambda c: -abs(c.recall_fp32_percent - c.recall_int8_percent))


@dataclass(frozen=True)
class LatencyRow:
    """One model's share of an interleaved latency run; milliseconds. ``ratio`` is baseline time / this time, paired."""

    name: str  # "fp32", "bf16", "int8", "int8_bf16" (INT8, the rest in bf16)
    runtime: str
    median_ms: float
    p90_ms: float
    p99_ms: float
    ratio: float
    ratio_interval: Interval  # 95 %, of the paired ratios' median
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class Latency:
    """One interleaved run: every round times each model once, in changing order, so that a noisy machine cancels."""

    batch: int
    threads: int
    warmup_rounds: int
    rounds: int
    baseline: str
    rows: tuple[LatencyRow, ...]
    load_average_1min: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileEntry:
    """A file of a bundle: path relative to the bundle with forward slashes, size and sha256 of its bytes."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class SchemeResult:
    """One scheme: its file, what it quantises (nothing: fp32 and fp16), and how far its logits are from FP32."""

    name: str
    file: str
    symmetric: bool
    roles: tuple[str, ...]
    quantized_layers: int
    logit_sqnr_db: float
    agreement_percent: float
    images: int
    target: str = "openvino"  # or "openvino_arm", "tensorrt"
    float_type: str = "float32"  # what is not quantised computes in
    accuracy: Accuracy | None = None
    """Measured on the exact graph; without the changes by class."""
    layers_in_float: tuple[str, ...] = ()
    """Quantised layers that the CPU which made the bundle computes in float nevertheless; OpenVINO only."""


@dataclass(frozen=True)
class GoldenRecord:
    """Images with the logits of every file for them, in the bundle's ``golden/golden.npz``."""

    images: int
    floors_db: dict[str, float]
    """By the file: the least SQNR of what a device computes, against the file computed as it is written."""
    rounded_floor_db: float | None = None
    """The same of the FP32 model where a CPU computes it in a shorter float: twice the rounded network's noise."""


@dataclass(frozen=True)
class FoldRecord:
    """What folding did, and by how much the logits of the folded network differ from the checkpoint's, relatively."""

    batch_norms_folded: int
    kernels_cropped: int
    max_relative_error: float


@dataclass(frozen=True)
class CalibrationRecord:
    """Which images set the ranges."""

    data: str
    images: int
    left_out: int  # drawn but also in the validation images, repeated, or unreadable
    seed: int
    images_sha256: str = ""
    """Of the sorted sha256 of every image's bytes: the same set gives the same, whatever it is called."""
    validation_sha256: str = ""
    """Of all images that accuracy was measured on or chosen from, made like ``images_sha256``."""


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says of itself."""

    schema_version: int
    edge_van_version: str
    created: str  # ISO 8601, UTC
    variant: str
    num_classes: int
    checkpoint: str  # name of the file or model folder that was given, never the path to it
    checkpoint_sha256: str
    checkpoint_layout: str
    input_spec: InputSpec
    method: str  # "ptq", "reconstruction" or "qat"
    recipe: Recipe
    fold: FoldRecord
    calibration: CalibrationRecord
    schemes: tuple[SchemeResult, ...]
    versions: dict[str, str]
    files: tuple[FileEntry, ...]
    machine: Machine
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    warnings: tuple[str, ...] = ()
    engines: dict[str, EngineSet] = field(default_factory=dict)
    """By the name of the target's folder under ``tensorrt/``."""
    golden: GoldenRecord | None = None
    head: Head = field(default_factory=Head)
    """What the logits, which every graph ends in, become."""
    rounded: Accuracy | None = None
    """Of the FP32 network with every tensor rounded to bfloat16, which stands for a CPU that computes in a shorter
    float. None without OpenVINO among the targets."""
    budget: BudgetRecord | None = None
    """How the recipe was found, where the accuracy or the latency was given instead."""
    precisions: dict[str, Accuracy] = field(default_factory=dict)
    """Of OpenVINO's models in other precisions than float32 and INT8, as far as they are no slower than INT8: "bf16"
    and "int8_bf16". Without the changes by class."""
    cpu: EngineChoice | None = None
    """Which of OpenVINO's models is active on the CPU that made the bundle: "fp32", "bf16", "int8" or "int8_bf16"."""
