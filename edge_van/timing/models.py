"""Which models of a bundle can be timed here, with which runtime, and why the others cannot.

In: bundles, the runtimes that were asked for. Out: ``TimedModel`` records to open, ``Skipped`` records to show.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX, PLAN_NAME
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.runtimes.model_file import ModelFile
from edge_van.text import one_line
from edge_van.timing.record import MAX_BUNDLES, MAX_MODELS, TIMED_RUNTIMES, Skipped


@dataclass(frozen=True)
class TimedModel:
    """A model that can be opened here. ``name`` is unique over all bundles of the run."""

    bundle: str
    runtime: str  # one of ``TIMED_RUNTIMES``
    precision: str
    file: str  # in the bundle
    model_file: ModelFile
    file_bytes: int
    takes: str
    settings: str = ""

    @property
    def name(self) -> str:
        return self.model_file.name

    @property
    def on_cpu(self) -> bool:
        """A number of CPU threads says something to it."""
        return not self.runtime.startswith("tensorrt")


@dataclass(frozen=True)
class _Wanted:
    precision: str
    file: str
    runtime: str  # of ``open_model``
    options: dict[str, object]
    target: str = ""  # of an engine, where the bundle has several


NO_SPIN = "told not to spin between runs: its threads would hold the cores of the engine timed next"


def bundle_names(bundles: Sequence[Bundle]) -> list[str]:
    """The folders' names, each once: with a number behind it where an earlier one has the name already."""
    names: list[str] = []
    for bundle in bundles:
        base = name = one_line(bundle.path.resolve().name)
        number = 1
        while name in names:
            number += 1
            name = f"{base}#{number}"
        names.append(name)
    return names


def timed_models(
    bundles: Sequence[Bundle], runtimes: Sequence[str] | None = None
) -> tuple[list[TimedModel], list[Skipped]]:
    """Every model that runs here, of ``runtimes`` (all when None).

    What the run asks for by name and is not here is a ``MissingRuntimeError``; what is only not there is skipped, with
    the reason. Every file is hashed before it is given to an engine: ``BundleError`` for a damaged one. ``UsageError``
    for more bundles or models than a result may have.
    """
    _require_at_most(MAX_BUNDLES, len(bundles), "bundles")
    models: list[TimedModel] = []
    skipped: list[Skipped] = []
    for bundle, name in zip(bundles, bundle_names(bundles), strict=True):
        prefix = f"{name}/" if len(bundles) > 1 else ""
        for runtime in TIMED_RUNTIMES if runtimes is None else runtimes:
            try:
                wanted = _FINDERS[runtime](bundle)
            except MissingRuntimeError as error:
                if runtimes is not None:
                    raise
                skipped.append(Skipped(f"{prefix}{runtime}", str(error)))
                continue
            for w in wanted:
                if isinstance(w, Skipped):
                    skipped.append(Skipped(f"{prefix}{w.model}", w.reason))
                else:
                    middle = f"{w.target}-" if w.target else ""
                    models.append(_timed(bundle, name, f"{prefix}{runtime}-{middle}{w.precision}", runtime, w))
    _require_at_most(MAX_MODELS, len(models), "models")
    return models, skipped


def _require_at_most(most: int, count: int, what: str) -> None:
    if count > most:
        raise UsageError(f"a run times at most {most} {what}, {count} were given: leave some out")


def _timed(bundle: Bundle, bundle_name: str, name: str, runtime: str, wanted: _Wanted) -> TimedModel:
    files = [wanted.file, *([f"{wanted.file[:-4]}.bin"] if wanted.file.endswith(".xml") else [])]
    bundle.check(*files)
    sizes = {entry.path: entry.size_bytes for entry in bundle.manifest.files}
    model_file = ModelFile(name, wanted.runtime, bundle.file(wanted.file), dict(wanted.options))
    return TimedModel(
        bundle=bundle_name,
        runtime=runtime,
        precision=wanted.precision,
        file=wanted.file,
        model_file=model_file,
        file_bytes=sum(sizes[f] for f in files),
        takes=_takes(bundle, runtime),
        settings=NO_SPIN if runtime == "onnxruntime" else "",
    )


def _takes(bundle: Bundle, runtime: str) -> str:
    """What an image is when it reaches the model: the less is done inside, the less is timed."""
    if runtime == "openvino":
        resized = "resized and " if bundle.manifest.input_spec.source_size is not None else ""
        return f"uint8 NHWC, {resized}normalised inside"
    if runtime.startswith("tensorrt") and bundle.manifest.recipe.get("tensorrt_input") == "uint8":
        return "uint8 NHWC, normalised inside"
    return "float NCHW, normalised before"


def _has(bundle: Bundle, file: str) -> bool:
    return any(entry.path == file for entry in bundle.manifest.files)


def _require(module: str, extra: str, title: str) -> None:
    if find_spec(module) is None:
        raise MissingRuntimeError(f"{title} is not installed: pip install 'edge-van[{extra}]'")


def _openvino(bundle: Bundle) -> list[_Wanted | Skipped]:
    _require("openvino", "openvino", "OpenVINO")
    from edge_van.runtimes.openvino import has_bf16

    found: list[_Wanted | Skipped] = []
    for precision, file in (("fp32", FP32_IR), ("int8", INT8_IR)):
        if not _has(bundle, file):
            found.append(Skipped(f"openvino-{precision}", f"the bundle has no {file}"))
            continue
        found.append(_Wanted(precision, file, "openvino", {}))
        mixed = {"fp32": "bf16", "int8": "int8_bf16"}[precision]
        if has_bf16():
            found.append(_Wanted(mixed, file, "openvino", {"precision": "bf16"}))
        else:
            found.append(Skipped(f"openvino-{mixed}", "this CPU has no BF16 units"))
    return found


def _onnxruntime(bundle: Bundle) -> list[_Wanted | Skipped]:
    _require("onnxruntime", "onnxruntime", "ONNX Runtime")
    found: list[_Wanted | Skipped] = []
    for precision, file in (("fp32", FP32_ONNX), ("int8", OPENVINO_ONNX)):
        if _has(bundle, file):
            found.append(_Wanted(precision, file, "onnxruntime", {"exact": False, "spin": False}))
        else:
            found.append(Skipped(f"onnxruntime-{precision}", f"the bundle has no {file}"))
    return found


def _torch(bundle: Bundle) -> list[_Wanted | Skipped]:
    for module in ("torch", "onnx"):
        _require(module, "quantize", module)
    if not _has(bundle, FP32_ONNX):
        return [Skipped("torch-fp32", f"the bundle has no {FP32_ONNX}")]
    return [_Wanted("fp32", FP32_ONNX, "torch", {})]


def _torch_compile(bundle: Bundle) -> list[_Wanted | Skipped]:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise MissingRuntimeError("torch.compile needs a C++ compiler: install g++")
    return [
        _Wanted(w.precision, w.file, w.runtime, {"compile": True}) if isinstance(w, _Wanted) else w
        for w in _torch(bundle)
    ]


def _engines(runtime: str) -> Callable[[Bundle], list[_Wanted | Skipped]]:
    def find(bundle: Bundle) -> list[_Wanted | Skipped]:
        engines = [
            (tag, record)
            for tag, found in bundle.manifest.engines.items()
            for record in found.engines
            if record.runtime == runtime
        ]
        if not engines:
            return [Skipped(runtime, "the bundle has no engines for it: make them with edge-van build")]
        from edge_van.runtimes.cuda import device

        gpu = device()
        several = len({tag for tag, _ in engines}) > 1
        wanted: list[_Wanted | Skipped] = []
        for tag, record in engines:
            target = tag if several else ""
            if gpu.compute_capability not in record.compute_capabilities:
                name = "-".join(filter(None, (runtime, target, record.scheme)))
                wanted.append(Skipped(name, f"built for other GPUs than this {gpu.name}"))
            else:
                file = f"tensorrt/{tag}/{record.scheme}/{PLAN_NAME}"
                wanted.append(_Wanted(record.scheme, file, runtime, {}, target))
        return wanted

    return find


_FINDERS: dict[str, Callable[[Bundle], list[_Wanted | Skipped]]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "torch_compile": _torch_compile,
    "tensorrt": _engines("tensorrt"),
    "tensorrt_rtx": _engines("tensorrt_rtx"),
}
