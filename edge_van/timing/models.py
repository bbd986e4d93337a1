"""Which models of a bundle can be timed here, with which runtime, and why the others cannot.

In: bundles, the runtimes that were asked for. Out: ``TimedModel`` records to open, ``Skipped`` records to show.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import ARM_IR, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.models import BundleModel, Takes
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.machine import is_arm
from edge_van.runtimes.model_file import ModelFile
from edge_van.text import one_line
from edge_van.timing.record import (
    GPU_RUNTIMES,
    MAX_BUNDLES,
    MAX_MODELS,
    TIMED_RUNTIMES,
    BenchmarkBundle,
    BenchmarkModel,
    Skipped,
)


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

    def record(self, threads: int | None) -> BenchmarkModel:
        """What a result says of it; ``threads`` are those its engine uses, where it says so."""
        return BenchmarkModel(
            name=self.name,
            bundle=self.bundle,
            runtime=self.runtime,
            precision=self.precision,
            file=self.file,
            file_bytes=self.file_bytes,
            threads=threads,
            takes=self.takes,
            settings=self.settings,
        )

    @property
    def on_cpu(self) -> bool:
        """A number of CPU threads says something to it."""
        return not self.runtime.startswith("tensorrt") and self.model_file.options.get("device", "cpu") == "cpu"


@dataclass(frozen=True)
class _Wanted:
    """A bundle's model, and how it is timed: by the runtime's ``options``, under a ``precision`` of its own."""

    model: BundleModel
    precision: str
    options: dict[str, object] = field(default_factory=dict)
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


def identity(bundles: Sequence[Bundle]) -> tuple[BenchmarkBundle, ...]:
    """What a result says of the bundles it is of."""
    return tuple(
        BenchmarkBundle(name, m.variant, m.created, m.checkpoint_sha256, m.input_spec.size)
        for name, m in zip(bundle_names(bundles), (b.manifest for b in bundles), strict=True)
    )


def timed_models(
    bundles: Sequence[Bundle], runtimes: Sequence[str] | None = None, device: str = "cpu"
) -> tuple[list[TimedModel], list[Skipped]]:
    """Every model that runs here, of ``runtimes``: when None all of a CPU's and the engines, or with ``device`` "cuda"
    those of a GPU.

    What the run asks for by name and is not here is a ``MissingRuntimeError``; what is only not there is skipped, with
    the reason. Every file is hashed before it is given to an engine: ``BundleError`` for a damaged one. ``UsageError``
    for more bundles or models than a result may have.
    """
    _require_at_most(MAX_BUNDLES, len(bundles), "bundles")
    models: list[TimedModel] = []
    skipped: list[Skipped] = []
    for bundle, name in zip(bundles, bundle_names(bundles), strict=True):
        bundle.require_files()
        prefix = f"{name}/" if len(bundles) > 1 else ""
        for runtime in _all_for(device) if runtimes is None else runtimes:
            try:
                wanted = _FINDERS[runtime](bundle, device)
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


def _all_for(device: str) -> Sequence[str]:
    return GPU_RUNTIMES if device == "cuda" else [r for r in TIMED_RUNTIMES if not r.endswith("_graph")]


def _require_at_most(most: int, count: int, what: str) -> None:
    if count > most:
        raise UsageError(f"a run times at most {most} {what}, {count} were given: leave some out")


def _timed(bundle: Bundle, bundle_name: str, name: str, runtime: str, wanted: _Wanted) -> TimedModel:
    model = wanted.model
    bundle.check(*model.files)
    sizes = {entry.path: entry.size_bytes for entry in bundle.manifest.files}
    return TimedModel(
        bundle=bundle_name,
        runtime=runtime,
        precision=wanted.precision,
        file=model.file,
        model_file=ModelFile(name, model.runtime, bundle.file(model.file), dict(wanted.options)),
        file_bytes=sum(sizes[f] for f in model.files),
        takes="float NCHW, on the GPU already" if wanted.options.get("device") == "cuda" else TAKES[model.takes],
        settings=NO_SPIN if runtime == "onnxruntime" else "",
    )


TAKES: dict[Takes, str] = {
    "camera": "uint8 NHWC, resized and normalised inside",
    "pixels": "uint8 NHWC, normalised inside",
    "floats": "float NCHW, normalised before",
}
"""What an image is when it reaches the model: the less is done inside, the less is timed."""


def _require(module: str, extra: str, title: str) -> None:
    if find_spec(module) is None:
        raise MissingRuntimeError(f"{title} is not installed: pip install 'edge-van[{extra}]'")


def _found(bundle: Bundle, runtime: str, precision: str, file: str) -> BundleModel | Skipped:
    for model in bundle.models():
        if (model.runtime, model.file) == (runtime, file):
            return model
    return Skipped(f"{runtime}-{precision}", f"the bundle has no {file}")


def _require_cpu(device: str, runtime: str) -> None:
    if device != "cpu":
        raise UsageError(f"{runtime} is timed on the CPU: leave --device out, or --runtime {runtime}")


def _openvino(bundle: Bundle, device: str) -> list[_Wanted | Skipped]:
    _require_cpu(device, "openvino")
    _require("openvino", "openvino", "OpenVINO")
    from edge_van.runtimes.openvino import has_bf16

    wanted: list[_Wanted | Skipped] = []
    int8_file = ARM_IR if is_arm() else INT8_IR  # the other one runs in reference kernels there
    for precision, mixed, file in (("fp32", "bf16", FP32_IR), ("int8", "int8_bf16", int8_file)):
        model = _found(bundle, "openvino", precision, file)
        if isinstance(model, Skipped):
            wanted.append(model)
            continue
        wanted.append(_Wanted(model, precision))
        if has_bf16():
            wanted.append(_Wanted(model, mixed, {"precision": "bf16"}))
        else:
            wanted.append(Skipped(f"openvino-{mixed}", "this CPU has no BF16 units"))
    return wanted


def _onnxruntime(bundle: Bundle, device: str) -> list[_Wanted | Skipped]:
    _require_cpu(device, "onnxruntime")
    _require("onnxruntime", "onnxruntime", "ONNX Runtime")
    wanted: list[_Wanted | Skipped] = []
    for precision, file in (("fp32", FP32_ONNX), ("int8", OPENVINO_ONNX)):
        model = _found(bundle, "onnxruntime", precision, file)
        if isinstance(model, Skipped):
            wanted.append(model)
        else:
            wanted.append(_Wanted(model, precision, {"exact": False, "spin": False}))
    return wanted


GPU_PRECISIONS = {"fp32": "f32", "tf32": "tf32", "fp16": "f16", "bf16": "bf16"}
"""As a result calls them, and as ``runtimes.torch`` does."""


def _torch(**options: object) -> Callable[[Bundle, str], list[_Wanted | Skipped]]:
    """With PyTorch's ``options``: on the CPU in float32, on a GPU in each of ``GPU_PRECISIONS``."""

    def find(bundle: Bundle, device: str) -> list[_Wanted | Skipped]:
        for module in ("torch", "onnx"):
            _require(module, "quantize", module)
        if device == "cuda":
            import torch

            from edge_van.runtimes.torch_device import require_gpu

            require_gpu(torch)
        elif "cuda_graph" in options:
            raise UsageError("CUDA graphs are a GPU's: give --device cuda with --runtime torch_graph")
        elif "compile" in options and shutil.which("g++") is None and shutil.which("clang++") is None:
            raise MissingRuntimeError("torch.compile needs a C++ compiler: install g++")
        model = _found(bundle, "torch", "fp32", FP32_ONNX)
        if isinstance(model, Skipped):
            return [model]
        if device == "cpu":
            return [_Wanted(model, "fp32", options)]
        return [
            _Wanted(model, name, {**options, "device": device, "precision": precision})
            for name, precision in GPU_PRECISIONS.items()
        ]

    return find


def _engines(runtime: str) -> Callable[[Bundle, str], list[_Wanted | Skipped]]:
    def find(bundle: Bundle, device_of_torch: str) -> list[_Wanted | Skipped]:
        records = [record for engine_set in bundle.manifest.engines.values() for record in engine_set.engines]
        if all(record.runtime != runtime for record in records):
            return [Skipped(runtime, "the bundle has no engines for it: make them with edge-van build")]
        from edge_van.runtimes.cuda import device

        gpu = device()
        engines = [model for model in bundle.models() if model.is_engine and model.runtime == runtime]
        several = len({model.target for model in engines}) > 1
        wanted: list[_Wanted | Skipped] = []
        for model in engines:
            target = str(model.target) if several else ""
            if gpu.compute_capability not in model.compute_capabilities:
                name = "-".join(filter(None, (runtime, target, model.scheme)))
                wanted.append(Skipped(name, f"built for other GPUs than this {gpu.name}"))
            else:
                wanted.append(_Wanted(model, str(model.scheme), target=target))
        return wanted

    return find


_FINDERS: dict[str, Callable[[Bundle, str], list[_Wanted | Skipped]]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "torch": _torch(),
    "torch_compile": _torch(compile=True),
    "torch_graph": _torch(cuda_graph=True),
    "torch_compile_graph": _torch(compile=True, cuda_graph=True),
    "tensorrt": _engines("tensorrt"),
    "tensorrt_rtx": _engines("tensorrt_rtx"),
}
