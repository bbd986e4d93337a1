"""What works on this machine and in this bundle: every library imported, every engine run once on a tiny model.

In: nothing, or a bundle's folder. Out: a list of ``Check``, in the order to show them. Nothing is changed or installed.
"""

from __future__ import annotations

import logging
import platform
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edge_van.bundle.bundle import open_bundle, verify
from edge_van.bundle.manifest import MANIFEST_NAME
from edge_van.bundle.whole import require_fitting
from edge_van.errors import BundleError
from edge_van.machine import has_vnni, this_cpu
from edge_van.version import __version__

# y = relu(x) for two floats (opset 13, IR 8), so that ONNX Runtime can be tried where onnx is not installed.
_TINY_ONNX = (
    b'\x08\x08\x12\x00:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)
_FEED, _EXPECTED = [-1.0, 2.0], [0.0, 2.0]


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``missing``: not there, fine if not needed. ``broken``: there but unusable."""

    name: str
    status: Literal["ok", "missing", "broken"]
    version: str | None
    detail: str
    fix: str | None


def inspect_install() -> list[Check]:
    """Python, the CPU, and every library edge-van can use. Never raises for a broken one: that is its answer."""
    checks = [
        Check("python", "ok", platform.python_version(), f"{platform.system()} {platform.machine()}", None),
        Check("edge-van", "ok", __version__, "this package", None),
        cpu_check(*this_cpu()),
    ]
    needed = quantize_needs()
    if not needed:
        detail = "edge-van runs without having been installed, so what it takes to quantise is not known"
        checks.append(Check("quantize", "missing", None, detail, _QUANTIZE))
    # Some libraries print, log and warn while they are imported; standard output is kept for the answer.
    level = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return checks + [_of_the_right_version(_library(*row), row, needed) for row in _libraries(needed)]
    finally:
        logging.disable(level)


def inspect_bundle(path: Path) -> list[Check]:
    """The manifest, then the files: one ``Check`` if all is well, else one for each file that is not."""
    try:
        bundle = open_bundle(path)
        problems = verify(bundle)
    except BundleError as error:
        try:
            there = (path / MANIFEST_NAME).exists()
        except OSError:  # a name too long for the system, say
            there = False
        fix = "make or copy the bundle again" if there else "give the folder of a bundle, as quantize wrote it"
        return [Check("manifest", "broken" if there else "missing", None, str(error), fix)]
    manifest = bundle.manifest
    size_mib = sum(entry.size_bytes for entry in manifest.files) / 2**20
    checks = [
        Check("manifest", "ok", str(manifest.schema_version), f"{manifest.variant}, made {manifest.created}", None)
    ]
    if not problems:
        try:
            require_fitting(bundle)
        except BundleError as error:
            return [*checks, Check("manifest", "broken", None, str(error), "make or copy the bundle again")]
        return [
            *checks,
            Check("files", "ok", None, f"{len(manifest.files)} files, {size_mib:.1f} MiB, all sound", None),
        ]
    for problem in problems:
        status: Literal["missing", "broken"] = "missing" if problem.kind == "missing" else "broken"
        checks.append(Check(problem.path, status, None, problem.detail, "make or copy the bundle again"))
    return checks


def cpu_check(model: str | None, flags: Collection[str]) -> Check:
    """What decides the speed of INT8, from what ``machine.parse_cpu_info`` found (x86 or 64-bit ARM)."""
    model = model or platform.machine()
    if not flags:
        return Check("cpu", "ok", None, f"{model}: what it can do is not known on this system", None)
    if "asimd" in flags:
        units = {"dot product": "asimddp" in flags, "i8mm": "i8mm" in flags, "bf16": "bf16" in flags}
    else:
        units = {
            "VNNI": any("vnni" in flag for flag in flags),
            "AVX-512": "avx512f" in flags,
            "AMX INT8": "amx_int8" in flags,
            "bf16": "avx512_bf16" in flags or "amx_bf16" in flags,
        }
    detail = f"{model}: " + ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in units.items())
    if not has_vnni(flags):
        detail += f"; INT8 gains less here than on a CPU with {next(iter(units))}"
    return Check("cpu", "ok", None, detail, None)


def quantize_needs() -> dict[str, SpecifierSet]:
    """The distributions of the ``quantize`` extra with the versions they must have, as edge-van's own metadata says;
    none where it is not there."""
    try:
        requirements = [Requirement(line) for line in metadata.requires("edge-van") or []]
    except metadata.PackageNotFoundError:
        return {}
    return {
        canonicalize_name(r.name): r.specifier
        for r in requirements
        if r.marker is not None and not r.marker.evaluate({"extra": ""}) and r.marker.evaluate({"extra": "quantize"})
    }


def _libraries(needed: Iterable[str]) -> list[_Row]:
    """``_LIBRARIES``, then what else is ``needed`` to quantise."""
    known = {distribution for row in _LIBRARIES for distribution in row[2]}
    modules = {name: _MODULES.get(name, name.replace("-", "_")) for name in needed if name not in known}
    return [*_LIBRARIES, *((name, module, (name,), _QUANTIZE, _imports) for name, module in modules.items())]


def _library(name: str, module: str, distributions: tuple[str, ...], fix: str, probe: Callable[[Any], str]) -> Check:
    installed = next((v for d in distributions if (v := _installed_version(d))), None)
    missing = Check(name, "missing", None, "not installed", fix)
    again = f"reinstall it: {fix}"
    try:
        loaded = import_module(module)
        # A folder of that name (a bundle has openvino/, onnx/, tensorrt/) imports as an empty namespace package.
        if getattr(loaded, "__file__", None) is None:
            raise ModuleNotFoundError(f"No module named {module!r}, only a folder of that name", name=module)
        detail = probe(loaded)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  an import can fail in any way, with a SystemExit or a Rust panic too
        absent = isinstance(error, ModuleNotFoundError) and error.name in (module, module.split(".")[0])
        if absent and installed is None:
            return missing
        lines = str(error).strip().splitlines() or ["no message"]
        return Check(name, "broken", installed, f"{type(error).__name__}: {lines[-1].strip()}", again)
    return Check(name, "ok", installed or str(getattr(loaded, "__version__", "unknown")), detail, None)


def _of_the_right_version(check: Check, row: _Row, needed: Mapping[str, SpecifierSet]) -> Check:
    """One that works and is of a version edge-van does not take is broken."""
    wanted = next((needed[d] for d in row[2] if d in needed), None)
    if (
        check.status != "ok"
        or check.version is None
        or wanted is None
        or wanted.contains(check.version, prereleases=True)
    ):
        return check
    return replace(check, status="broken", detail=f"edge-van needs {wanted}", fix=_QUANTIZE)


def _installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _imports(module: Any) -> str:
    return "imports"


def _imports_without_device(module: Any) -> str:
    return "imports; whether it runs shows on an NVIDIA GPU only"


def _runs_openvino(openvino: Any) -> str:
    numpy, ops = import_module("numpy"), import_module("openvino.opset13")
    x = ops.parameter([2], numpy.float32, name="x")
    compiled = openvino.Core().compile_model(openvino.Model([ops.relu(x)], [x], "tiny"), "CPU")
    _compare(compiled([numpy.array(_FEED, numpy.float32)])[0])
    return "runs a small model on the CPU"


def _runs_onnxruntime(onnxruntime: Any) -> str:
    session = onnxruntime.InferenceSession(_TINY_ONNX, providers=["CPUExecutionProvider"])
    numpy = import_module("numpy")
    _compare(session.run(None, {"x": numpy.array(_FEED, numpy.float32)})[0])
    return "runs a small model on the CPU"


def _compare(result: Any) -> None:
    if result.tolist() != _EXPECTED:
        raise ArithmeticError(f"relu of {_FEED} came out as {result.tolist()}")


_QUANTIZE = "pip install 'edge-van[quantize]'"
_RTX = "pip install 'edge-van[tensorrt-rtx]'"
_TENSORRT = "pip install tensorrt (on a Jetson it comes with JetPack: apt install python3-libnvinfer)"
_MODULES = {"py-cpuinfo": "cpuinfo"}
"""Modules that are not called as their distribution is."""
_Row = tuple[str, str, tuple[str, ...], str, Callable[[Any], str]]  # name, module, distributions, how to get it, probe
_LIBRARIES: tuple[_Row, ...] = (
    ("numpy", "numpy", ("numpy",), "pip install numpy", _imports),
    ("pillow", "PIL.Image", ("pillow",), "pip install pillow", _imports),
    ("openvino", "openvino", ("openvino",), "pip install 'edge-van[openvino]'", _runs_openvino),
    (
        "onnxruntime",
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu"),
        "pip install 'edge-van[onnxruntime]'",
        _runs_onnxruntime,
    ),
    ("tensorrt", "tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), _TENSORRT, _imports_without_device),
    ("tensorrt_rtx", "tensorrt_rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx"), _RTX, _imports_without_device),
    ("cuda-python", "cuda.bindings", ("cuda-python", "cuda-bindings"), "pip install cuda-python", _imports),
)
