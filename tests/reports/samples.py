"""Made-up but plausible records for the report's tests: a benchmark with every section, and bundles to go with it.

Nothing of edge-van is replaced: these are inputs, as ``edge-van benchmark`` and ``edge-van quantize`` write them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from bundle_samples import MANIFEST

from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet, PrecisionRow, SchemeTiming
from edge_van.bundle.records import (
    Accuracy,
    ClassChange,
    FileEntry,
    Interval,
    Latency,
    LatencyRow,
    Manifest,
    SchemeResult,
)
from edge_van.input_spec import InputSpec
from edge_van.statistics import paired_ratio
from edge_van.timing.record import (
    BENCHMARK_KIND,
    BENCHMARK_SCHEMA_VERSION,
    SCENARIOS,
    BenchmarkBundle,
    BenchmarkModel,
    BenchmarkResult,
    BenchmarkSettings,
    Conditions,
    Doubt,
    LayerProfile,
    LayerTime,
    QueryLatency,
    Skipped,
    Startup,
    Throughput,
)

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODELS = (  # runtime, precision, file, MB, median ms
    ("openvino", "fp32", "openvino_fp32/model.xml", 15.4, 3.36),
    ("openvino", "bf16", "openvino_fp32/model.xml", 15.4, 2.41),
    ("openvino", "int8", "openvino/model.xml", 4.84, 1.96),
    ("openvino", "int8_bf16", "openvino/model.xml", 4.84, 1.93),
    ("onnxruntime", "fp32", "onnx/model.onnx", 15.2, 4.20),
    ("onnxruntime", "int8", "onnx/model_openvino.onnx", 4.13, 9.80),
    ("torch", "fp32", "onnx/model.onnx", 15.2, 14.1),
    ("torch_compile", "fp32", "onnx/model.onnx", 15.2, 5.10),
)


LISTED = FileEntry("listed", 0, hashlib.sha256(b"").hexdigest())
"""A bundle lists a file at least; this one is no model."""


def times_ms(median: float, count: int, seed: int) -> np.ndarray:
    """(count,) skewed as real latencies are: a sharp left edge and a long right tail."""
    generator = np.random.default_rng(seed)
    tail = np.where(generator.random(count) < 0.03, generator.gamma(2.0, 0.3, count), 0.0)
    return median * (0.97 + generator.gamma(2.0, 0.015, count) + tail)


def query(model: str, samples: np.ndarray, base: np.ndarray, images: int = 1) -> QueryLatency:
    p50, p90, p99 = (float(v) for v in np.percentile(samples, [50, 90, 99]))
    ratio, *ends = paired_ratio(base, samples)
    interval = Interval(*ends)
    spread = float(samples.std() / samples.mean())
    return QueryLatency(model, images, tuple(samples.round(4).tolist()), p50, p90, p99, spread, ratio, interval)


def layers(model: str, scale: float) -> LayerProfile:
    """The kernels of a VAN-B0 as OpenVINO names them."""
    rows = [LayerTime("Subtract.16_original", "Transpose", "jit_uni_I8", 0.04)]
    for stage, depth in enumerate((3, 3, 5, 2), start=1):
        rows.append(LayerTime(f"x_abcd_acdb_patch_embed{stage}.proj/WithoutBiases", "Reorder", "jit_uni_f32", 0.010))
        rows.append(LayerTime(f"patch_embed{stage}.proj/WithoutBiases", "Convolution", "brgconv_avx512_f32", 0.06))
        for block in range(depth):
            at = f"block{stage}.{block}"
            gate = f"{at}.attn.spatial_gating_unit"
            rows += [
                LayerTime(f"{at}.attn.proj_1/WithoutBiases", "Convolution", "brgconv_avx512_1x1_f32", 0.020),
                LayerTime(f"{gate}.conv0/WithoutBiases", "GroupConvolution", "brgconv_avx512_dw_f32", 0.014),
                LayerTime(f"{gate}.conv_spatial/WithoutBiases", "GroupConvolution", "jit_avx512_dw_f32", 0.037),
                LayerTime(f"{gate}.conv1/WithoutBiases", "Convolution", "brgconv_avx512_1x1_f32", 0.014),
                LayerTime(f"node_mul_{stage}{block}", "Subgraph", "jit_avx512_f32", 0.009),
                LayerTime(f"{at}.attn.proj_2/WithoutBiases", "Convolution", "brgconv_avx512_1x1_f32", 0.012),
                LayerTime(f"{at}.mlp.fc1/WithoutBiases", "Convolution", "brgconv_avx512_1x1_f32", 0.034),
                LayerTime(f"{at}.mlp.dwconv.dwconv/WithoutBiases", "GroupConvolution", "brgconv_avx512_dw_f32", 0.044),
                LayerTime(f"{at}.mlp.fc2/WithoutBiases", "Convolution", "brgconv_avx512_1x1_f32", 0.034),
            ]
        rows += [
            LayerTime(f"MVN.{stage}", "MVN", "jit_avx512_f32", 0.011),
            LayerTime("node_layer_norm", "Subgraph", "jit_avx512_f32", 0.006),
        ]
    rows.append(LayerTime("head/WithoutBiases", "FullyConnected", "brgemm_avx512_f32", 0.012))
    return LayerProfile(model, 50, tuple(replace(row, mean_ms=round(row.mean_ms * scale, 4)) for row in rows))


def benchmark(
    manifests: dict[str, Manifest], *, rounds: int = 300, speed: float = 1.0, most_models: int = len(MODELS)
) -> BenchmarkResult:
    """One interleaved run over every model of the bundles, the first one's OpenVINO FP32 the baseline."""
    several = len(manifests) > 1
    models, singles, multis, offline, startups = [], [], [], [], []
    base = multi_base = np.ones(rounds)
    for b, bundle in enumerate(manifests):
        for m, (runtime, precision, file, megabytes, median) in enumerate(MODELS[:most_models]):
            name = f"{bundle}: {runtime}-{precision}" if several else f"{runtime}-{precision}"
            seed = 100 * b + m
            median = median * (speed if precision.startswith("int8") else 1.0) * (1 + 0.2 * b)
            samples, multi = times_ms(median, rounds, seed), times_ms(3.4 * median, rounds, seed + 50)
            if b == m == 0:
                base, multi_base = samples, multi
            models.append(BenchmarkModel(name, bundle, runtime, precision, file, int(megabytes * 1e6), 2))
            singles.append(query(name, samples, base))
            multis.append(query(name, multi, multi_base, 4))
            for batch in (1, 8):
                slices = tuple((1000 * batch / (median * (0.55 * batch + 0.3)) * np.linspace(0.97, 1.03, 9)).tolist())
                spread = float(np.std(slices) / np.mean(slices))
                ratio = 3.36 / median
                offline.append(
                    Throughput(
                        name,
                        batch,
                        2,
                        slices,
                        slices[4],
                        spread,
                        ratio,
                        Interval(ratio * 0.98, ratio * 1.02),
                        2.9 / slices[4] if runtime == "openvino" else None,
                    )
                )
            cached = (35.0 * median**0.3, 1.1 * median) if runtime == "openvino" else (None, None)
            startups.append(Startup(name, 120.0 * median**0.5, 2.5 * median, *cached, 180.0 + 12 * median, 95.0))
    first = models[0].name
    return BenchmarkResult(
        schema_version=BENCHMARK_SCHEMA_VERSION,
        kind=BENCHMARK_KIND,
        edge_van_version="0.1.0",
        created="2026-02-03T04:05:06+00:00",
        command=f"edge-van benchmark {' '.join(manifests)}",
        bundles=tuple(
            BenchmarkBundle(name, m.variant, m.created, m.checkpoint_sha256, m.input_spec.size)
            for name, m in manifests.items()
        ),
        machine=MANIFEST.machine,
        settings=BenchmarkSettings(SCENARIOS, 2, 2, (1, 8), 4, 20, rounds, 5.0, 0, 60.0),
        baseline=first,
        models=tuple(models),
        conditions=Conditions(rounds, 7, 1.4, 0.2, 0, 0.6, "rapl"),
        single_stream=tuple(singles),
        multi_stream=tuple(multis),
        offline=tuple(offline),
        startup=tuple(startups),
        layers=tuple(
            layers(m.name, {"fp32": 1.0, "int8": 0.6}[m.precision])
            for m in models
            if m.runtime == "openvino" and m.precision in ("fp32", "int8")
        ),
        skipped=(Skipped("tensorrt-int8", "no NVIDIA GPU here"),),
    )


def accuracy(drop: float = 0.05, half: float = 0.45, model: str = "INT8", sqnr_db: float = 29.3) -> Accuracy:
    generator = np.random.default_rng(1)
    recall = generator.uniform(65, 97, len(CLASSES)).round(1)
    change = generator.normal(0, 0.9, len(CLASSES)).round(1)
    return Accuracy(
        "validation.zip",
        2000,
        0,
        85.55,
        85.55 - drop,
        99.5,
        99.45,
        drop,
        Interval(drop - half, drop + half),
        98.6,
        sqnr_db,
        tuple(
            ClassChange(name, 200, float(r), float(r + c), {CLASSES[(i + 1) % 10]: 3, CLASSES[i]: 1})
            for i, (name, r, c) in enumerate(zip(CLASSES, recall, change, strict=True))
        ),
        model=model,
    )


def scheme(name: str, sqnr_db: float, drop: float | None, layers: int = 109, target: str = "tensorrt") -> SchemeResult:
    measured = None if drop is None else replace(accuracy(drop, 0.5, name, sqnr_db), classes=())
    float_type = "float32" if target == "openvino" else "float16"
    file = f"onnx/model_{name}.onnx" if name != "fp32" else "onnx/model.onnx"
    return SchemeResult(
        name,
        file,
        target != "openvino",
        ("pointwise",) if layers else (),
        layers,
        sqnr_db,
        98.8,
        1000,
        target,
        float_type,
        measured,
    )


def engines() -> dict[str, EngineSet]:
    def record(name: str) -> EngineRecord:
        rows = [PrecisionRow("patch_embed1.proj", name[:4], name[:4], f"sm86_xmma_{name}")]
        rows += [PrecisionRow(f"block1.{i}.attn.proj_1", name[:4], name[:4], "fused kernel") for i in range(8)]
        rows.append(PrecisionRow("head", name[:4], "fp16", "gemv"))
        return EngineRecord(
            1,
            name,
            "tensorrt_rtx",
            "1.7.1",
            ("8.6",),
            None,
            f"model_{name}.onnx",
            "ab" * 32,
            "cd" * 32,
            20_100_000,
            31.2,
            "none",
            tuple(rows),
        )

    table = (
        SchemeTiming("int8", -0.07, 0.412, 0.51),
        SchemeTiming("fp16", 0.0, 0.533, 0.62),
        SchemeTiming("fp32", 0.0, None, note="not built"),
    )
    reason = "int8 is the fastest within 1 points: 0.412 ms, the next fp16 with 0.533 ms"
    choice = EngineChoice("int8", 1.0, reason, table, "tensorrt, CUDA events")
    return {"sm86-rtx1.7": EngineSet((record("int8"), record("fp16")), choice)}


def latency(ratio: float = 1.7, notes: tuple[str, ...] = ()) -> Latency:
    base = times_ms(3.4, 150, 7)
    rows = []
    for name, times in (("fp32", base), ("int8", times_ms(3.4 / ratio, 150, 8))):
        q = query(name, times, base)
        rows.append(
            LatencyRow(name, "openvino", q.median_ms, q.p90_ms, q.p99_ms, q.ratio, q.ratio_interval, q.samples_ms)
        )
    return Latency(1, 2, 10, 150, "fp32", tuple(rows), 0.4, notes)


def manifest(*, drop: float = 0.05, half: float = 0.45, created: str = MANIFEST.created, **changes: object) -> Manifest:
    fields: dict[str, object] = {
        "created": created,
        "num_classes": len(CLASSES),
        "input_spec": InputSpec(size=(64, 64), crop=1.0, classes=CLASSES),
        "calibration": replace(MANIFEST.calibration, validation_sha256="ef" * 32),
        "schemes": (
            scheme("openvino", 28.4, None, target="openvino"),
            scheme("int8", 30.6, -0.07),
            scheme("int8_pointwise", 30.8, -0.12, 70),
            scheme("fp16", 64.2, 0.02, 0),
            scheme("fp32", 200.0, 0.0, 0),
        ),
        "accuracy": accuracy(drop, half),
        "latency": latency(),
        "engines": engines(),
        "files": (LISTED,),
    }
    return replace(MANIFEST, **{**fields, **changes})


SYMMETRIC, ASYMMETRIC = "van_b0_int8_symmetric", "van_b0_int8_asymmetric"
HOSTILE = '<script>alert("x")</script>" onerror="x" & $x$ @a https://b.c :bug: \x1b[31m| `a` '
"""A name that is markup, an attribute, a formula, a user, a link, a picture, a terminal code, and the end of a cell."""
DOUBT = Doubt("other_load", "single_stream", (), "other processes took 9 % of the CPU")


def bundle_folder(folder: Path, content: Manifest, result: BenchmarkResult | None = None) -> Path:
    """A bundle as far as a report reads it: its manifest, the file that it lists, and its benchmark."""
    from edge_van.bundle.manifest import encoded
    from edge_van.timing.record import encode_benchmark

    folder.mkdir(parents=True)
    (folder / LISTED.path).touch()
    (folder / "manifest.json").write_bytes(encoded(content))
    if result is not None:
        (folder / "benchmark.json").write_bytes(encode_benchmark(result))
    return folder
