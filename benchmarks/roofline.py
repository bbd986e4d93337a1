"""How far each kind of layer is from what this CPU can do at most, INT8 and FP32.

In: a bundle. Out: a table and a JSON: a kind's time, its multiply-accumulates and bytes, and the share of the limit.

The limit of a layer is the larger of two times: its multiply-accumulates at the CPU's peak (VNNI for int8, FMA for
float), and the bytes of its input, weights and output at the rate of copying so many bytes. Both are measured by
``roofline.c`` on the same machine, compiled here (``cc``). A layer's time is its kernel's, with all that the engine has
fused into it: an activation, the quantiser behind it. Neither is in the limit: their share is what the rest shows. The
peak of a depthwise convolution is VNNI's too, which it cannot reach: it has no sum over channels.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, results_folder, write_result

import edge_van
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.machine import describe_machine
from edge_van.model.layer_names import part_at_start, part_of
from edge_van.runtimes.openvino import OpenVINOSession, openvino_core

PROGRAM = Path(__file__).with_suffix(".c")
WARMUP_RUNS, RUNS = 30, 300
WIDTHS = {"u8": 1, "i8": 1, "f32": 4, "bf16": 2, "f16": 2}


def limits(threads: int) -> tuple[dict[str, float], dict[int, float]]:
    """(multiply-accumulates a second by unit, bytes a second by the bytes that are copied)."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "roofline"
        subprocess.run(["cc", "-O3", "-march=native", "-pthread", "-o", binary, PROGRAM], check=True)
        said = subprocess.run([binary, str(threads)], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in said.splitlines()]
    units = {line[0]: float(line[1]) for line in lines if line[0] != "copy"}
    if missing := {"vnni", "fma"} - units.keys():
        raise SystemExit(f"this CPU has no AVX-512 {' and '.join(sorted(missing))}: roofline.c measures no other peak")
    return units, {int(line[1]): float(line[2]) for line in lines if line[0] == "copy"}


def layer_costs(onnx_path: Path) -> dict[str, tuple[int, int, int, int]]:
    """Of each layer of the FP32 file (multiply-accumulates, elements read, of weights, written) for one image."""
    import onnx

    model = onnx.load(onnx_path)
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.input, *graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    costs = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm") and part_of(node.name) is not None:
            taken, weight, made = (
                int(np.prod(s)) for s in (shapes[node.input[0]], weights[node.input[1]], shapes[node.output[0]])
            )
            per_element = int(np.prod(weights[node.input[1]][1:]))
            costs[node.name] = (made * per_element, taken, weight, made)
    return costs


def kernels(path: Path) -> tuple[dict[str, float], dict[str, str], float]:
    """(milliseconds of each layer's kernel, the precision of what it writes, milliseconds of all kernels)."""
    with OpenVINOSession(path, profile=True) as session:
        [info] = session.inputs
        image = np.random.default_rng(0).integers(0, 256, [d or 1 for d in info.shape]).astype(info.dtype)
        found = session.profile({info.name: image}, warmup=WARMUP_RUNS, runs=RUNS)
    ms: dict[str, float] = defaultdict(float)
    for kernel in found:
        if part_at_start(kernel.name) is not None:
            ms[kernel.name.split("/")[0]] += kernel.ms
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    executed = openvino_core().compile_model(path, "CPU", settings).get_runtime_model()
    written = {
        op.get_friendly_name().split("/")[0]: op.get_rt_info()["outputPrecisions"].astype(str).split(",")[0]
        for op in executed.get_ordered_ops()
        if op.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul")
    }
    return dict(ms), written, sum(kernel.ms for kernel in found)


def rows(bundle: Path, file: str, units: dict[str, float], copying: dict[int, float]) -> list[dict[str, Any]]:
    """A row a kind of layer, the dearest first; the last is all that is no layer."""
    opened = edge_van.open_bundle(bundle)
    ms, written, total_ms = kernels(opened.file(file))
    is_int8 = file == INT8_IR
    peak = units["vnni" if is_int8 else "fma"]
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, (macs, taken, weights, made) in layer_costs(opened.file(FP32_ONNX)).items():
        width = 1 if is_int8 else 4
        moved = (taken + weights) * width + made * WIDTHS.get(written.get(name, "f32"), 4)
        rate = copying[min((size for size in copying if size >= moved), default=max(copying))]
        compute_ms, memory_ms = 1e3 * macs / peak, 1e3 * moved / rate
        row = kinds[str(part_of(name))]
        row["ms"] += ms.get(name, 0.0)
        row["macs"] += macs
        row["bytes"] += moved
        row["compute_ms"] += compute_ms
        row["memory_ms"] += memory_ms
        row["limit_ms"] += max(compute_ms, memory_ms)
    found = [{"kind": kind, **row} for kind, row in sorted(kinds.items(), key=lambda item: -item[1]["ms"])]
    found.append({"kind": "the rest", "ms": total_ms - sum(row["ms"] for row in found)})
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    manifest = edge_van.open_bundle(args.bundle).manifest
    if platform.machine() != "x86_64" or "amx_int8" in describe_machine().flags:
        raise SystemExit("roofline.c measures the peak of AVX-512, not that of AMX or of another architecture's units")
    with OpenVINOSession(edge_van.open_bundle(args.bundle).file(FP32_IR)) as session:
        threads = min(session.threads or 1, 64)
    units, copying = limits(threads)
    for unit, rate in units.items():
        print(f"{unit}: {rate / 1e9:.0f} G multiply-accumulates/s, {threads} threads")
    content: dict[str, Any] = {
        "size_px": list(manifest.input_spec.size),
        "variant": manifest.variant,
        "threads": threads,
        "macs_per_s": units,
        "copy_bytes_per_s": {str(size): rate for size, rate in copying.items()},
    }
    for name, file in (("int8", INT8_IR), ("fp32", FP32_IR)):
        content[name] = rows(args.bundle, file, units, copying)
        total = sum(row["ms"] for row in content[name])
        print(f"{name}: {total:.2f} ms in kernels")
        for row in content[name]:
            share = f"{row['limit_ms'] / row['ms']:6.1%} of the limit" if row.get("limit_ms") and row["ms"] else ""
            print(f"  {row['kind']:22s} {row['ms']:7.3f} ms {row['ms'] / total:6.1%}  {share}")
    write_result(args, content, f"{manifest.input_spec.size[1]}px")


if __name__ == "__main__":
    sys.exit(main())
