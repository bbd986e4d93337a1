"""What the tables share: a model's words, a ratio with its interval, the machine and the command behind a table.

In: a parsed result, or a row of it. Out: text.
"""

from __future__ import annotations

from typing import Any

TITLES = {
    "fp32": "FP32, folded",
    "bf16": "BF16, folded",
    "nncf_defaults": "`nncf.quantize`, defaults, unfolded",
    "nncf_defaults_bf16": "`nncf.quantize`, defaults, bf16 for the rest (OpenVINO's own choice here)",
    "openvino_bf16": "`openvino` (ships), bf16 for the rest",
    "nncf_defaults_unfolded": "`nncf.quantize`, defaults, unfolded",
    "openvino": "`openvino`: asymmetric (ships)",
    "openvino_fast": "`openvino_fast`: gate, residual and LayerNorm inputs too",
    "int8": "`int8`: symmetric, for TensorRT (ships as Q/DQ ONNX)",
    "int8_pointwise": "`int8_pointwise`: symmetric, depthwise in float",
    "hardswish_openvino": "`openvino` with `--activation hardswish`",
}
Results = list[dict[str, Any]]


def ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"


def source(result: dict[str, Any]) -> str:
    machine = result["machine"]
    flags = ", ".join(f for f in machine["flags"] if "vnni" in f or f in ("avx2", "avx512f", "amx_int8"))
    note = f"{result['note']}; " if "note" in result else ""
    used = {k: machine["versions"][k] for k in ("openvino", "nncf", "torch") if k in machine["versions"]}
    return (
        f"{machine['cpu']}, {machine['logical_cores']} cores, {flags}; "
        f"{', '.join(f'{k} {v}' for k, v in used.items())}; {note}`{result['command']}`."
    )


def sources(results: Results) -> list[str]:
    return [line for result in results for line in (source(result), "")][:-1]


def cpu(result: dict[str, Any]) -> str:
    flags = result["machine"]["flags"]
    kernels = next((k for k in ("amx_int8", "avx512_vnni", "avx_vnni", "avx2") if k in flags), "no avx2")
    return f"{result['machine']['cpu']}, {kernels}"
