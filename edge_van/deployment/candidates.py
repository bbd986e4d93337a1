"""What a device may choose from: of each candidate its files, how it is run, and what its check compares with.

In: a ``Bundle``, its golden images, what the device said of itself. Out: ``Candidate`` records.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import read_engine_record
from edge_van.bundle.files import file_entry
from edge_van.bundle.golden import Golden
from edge_van.bundle.layout import ARM_IR, FP32_IR, GOLDEN, INT8_IR, PLAN_NAME, RECORD_NAME, plan_path, with_weights
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.bundle.models import precision_of, tensorrt_schemes
from edge_van.bundle.records import FileEntry, Manifest, SchemeResult
from edge_van.deployment.built_here import EnginesHere
from edge_van.engines.trtexec import Trtexec, build_command, time_command
from edge_van.errors import BundleError
from edge_van.storage.files import sha256_of
from edge_van.storage.json_format import encode

ENGINE = "engine/model.engine"
NO_GRAPH = "the bundle has no such graph: make it with edge-van quantize --target openvino,tensorrt"
IMAGES = "golden.bin"
UNMEASURED_FLOOR_DB = 20.0
"""Least SQNR where the FP32 model runs in a shorter float, and what that costs was not measured."""
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "openvino": "f32", "openvino_arm": "f32"}
_IRS = {"openvino": INT8_IR, "openvino_arm": ARM_IR}


@dataclass(frozen=True)
class Candidate:
    """``contents`` are its files on the device; ``request`` is what the agent is told of it, but for them."""

    name: str
    drop_points: float | None
    contents: dict[str, bytes | Path]
    request: dict[str, Any]
    golden: str  # whose logits: a file of the bundle
    graph: Path | None = None  # of an engine: the bundle's file it is built from
    engine_bytes: int = 0  # about as large as the engine will be

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 by the path."""
        return {path: _sha256(content) for path, content in sorted(self.contents.items())}


@dataclass(frozen=True)
class Maker(ABC):
    """Makes the candidates of one runtime."""

    bundle: Bundle
    golden: Golden
    probe: dict[str, Any]

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @abstractmethod
    def candidate(self, name: str) -> Candidate | str:
        """Why there is none, in words, where there is none."""

    def files(self, *paths: str, entries: tuple[FileEntry, ...] = ()) -> dict[str, bytes | Path]:
        """Those files of the bundle, each hashed, beside a manifest that lists them, ``entries`` and nothing else."""
        self.bundle.check(*paths)
        kept = tuple(entry for entry in self.manifest.files if entry.path in (*paths, GOLDEN))
        manifest = encoded(replace(self.manifest, files=(*kept, *entries), engines={}))
        contents: dict[str, bytes | Path] = {path: self.bundle.file(path) for path in (*paths, GOLDEN)}
        return contents | {MANIFEST_NAME: manifest}

    def scheme(self, name: str) -> SchemeResult | None:
        """TensorRT's of that name."""
        return next((s for s in tensorrt_schemes(self.manifest) if s.name == name), None)

    def floor_db(self, file: str) -> float:
        if self.manifest.golden is None or file not in self.manifest.golden.floors_db:
            raise BundleError(
                f"{self.bundle.path} has no golden logits of {file}: make it again with edge-van quantize"
            )
        return self.manifest.golden.floors_db[file]


class OpenVINOMaker(Maker):
    def candidate(self, name: str) -> Candidate | str:
        file = _IRS.get(name, FP32_IR)
        if file not in {entry.path for entry in self.manifest.files}:
            return f"the bundle has no {file}"
        hint = _HINTS[name]
        can = (self.probe["openvino"] or {}).get("capabilities", [])
        if hint != "f32" and name.upper() not in can:
            return f"this CPU has no {name.upper()} units"
        spec = self.manifest.input_spec
        pixels = self.golden.pixels if self.golden.camera is None else self.golden.camera
        drop, floor = 0.0 if name == "fp32" else None, self.floor_db(file)
        if name in _IRS:
            drop = _drop(self.manifest, name)
        elif hint != "f32":
            drop, floor = self._in_a_shorter_float(name)
        active = _active("openvino", "int8" if name in _IRS else "fp32", name if name in _IRS else None, file, hint)
        return Candidate(
            name=name,
            drop_points=drop,
            contents={**self.files(*with_weights(file)), IMAGES: pixels.tobytes()},
            request={
                "runtime": "openvino",
                "model": file,
                "precision": hint,
                "images": IMAGES,
                "dtype": "u1",
                "shape": [*spec.source_shape],
                "golden": file,
                "floor_db": floor,
                "texts": {"active.json": active},
            },
            golden=file,
        )

    def _in_a_shorter_float(self, name: str) -> tuple[float | None, float]:
        """(drop, floor): a device about as noisy as the rounded network is taken to lose as much. Float16 has a
        smaller range, too: there it must have been seen that this one's numbers fit, by the graph in it."""
        rounded, golden = self.manifest.rounded, self.manifest.golden
        fits = name != "fp16" or any(scheme.float_type == "float16" for scheme in self.manifest.schemes)
        if not fits or rounded is None or golden is None or golden.rounded_floor_db is None:
            return None, UNMEASURED_FLOOR_DB
        return rounded.worst.drop_points, golden.rounded_floor_db


class TrtexecMaker(Maker):
    def candidate(self, name: str) -> Candidate | str:
        scheme = self.scheme(name)
        if scheme is None:
            return NO_GRAPH
        self.bundle.check(scheme.file)
        import onnx

        from edge_van.engines.tensorrt_8 import for_tensorrt_8
        from edge_van.engines.versions import flags_of

        tool = Trtexec(Path("trtexec"), str(self.probe["tensorrt"]))
        graph = onnx.load(self.bundle.file(scheme.file))
        contents = self.files(scheme.file)
        source = scheme.file
        if tool.major < 9:
            source = "model.onnx"
            contents[source] = for_tensorrt_8(graph, tool.version).SerializeToString(deterministic=True)
        value = graph.graph.input[0]
        sides = "x".join(str(d.dim_value) for d in value.type.tensor_type.shape.dim[1:])
        build = build_command(
            tool,
            Path("{folder}") / source,
            Path("{work}"),
            input_shape=f"{value.name}:1x{sides}",
            flags=flags_of(graph),
        )
        build = ["--saveEngine={engine}" if w.startswith("--saveEngine=") else w for w in build[1:]]
        images, dtype = self._inputs(graph)
        return Candidate(
            name=name,
            drop_points=0.0 if name == "fp32" else _drop(self.manifest, name),
            contents={**contents, IMAGES: images.tobytes()},
            request={
                "runtime": "tensorrt",
                "images": IMAGES,
                "dtype": dtype,
                "input": value.name,
                "engine": ENGINE,
                "build": [*build, "--timingCacheFile={cache}"],
                "bench": _bench_flags(tool),
                "golden": scheme.file,
                "floor_db": self.floor_db(scheme.file),
                "texts": {"active.json": _active("tensorrt", precision_of(scheme), name, ENGINE, None)},
            },
            golden=scheme.file,
            graph=self.bundle.file(scheme.file),
            engine_bytes=2 * self.bundle.file(scheme.file).stat().st_size,
        )

    def _inputs(self, graph: Any) -> tuple[np.ndarray[Any, Any], str]:
        """The golden images as the graph takes them: bytes, or floats that are normalised."""
        import onnx

        kind = graph.graph.input[0].type.tensor_type.elem_type
        if kind == onnx.TensorProto.UINT8:
            return self.golden.pixels, "u1"
        spec = self.manifest.input_spec
        mean, std = (np.array(v, np.float32) for v in (spec.pixel_mean, spec.pixel_std))
        floats = (self.golden.pixels.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(floats.transpose(0, 3, 1, 2)), "f4"


@dataclass(frozen=True)
class RTXMaker(Maker):
    """Of engines that are there already: TensorRT for RTX builds them on the host."""

    engines: EnginesHere | None = None

    def candidate(self, name: str) -> Candidate | str:
        scheme, engines = self.scheme(name), self.engines
        if scheme is None or engines is None:
            return NO_GRAPH
        if name in engines.failed:
            return f"not built: {engines.failed[name]}"
        folder, plan = engines.folders[name], plan_path(engines.tag, name)
        # how long it took to build changes nothing, and would be another file each time
        record = encode(replace(read_engine_record(folder), build_s=0.0))
        entry = replace(file_entry(folder, PLAN_NAME), path=plan)
        return Candidate(
            name=name,
            drop_points=0.0 if name == "fp32" else _drop(self.manifest, name),
            contents={
                **self.files(entries=(entry,)),
                plan: folder / PLAN_NAME,
                str(PurePosixPath(plan).with_name(RECORD_NAME)): record,
                IMAGES: self.golden.pixels.tobytes(),
            },
            request={
                "runtime": "edge_van",
                "images": IMAGES,
                "shape": list(self.golden.pixels.shape[1:]),
                "golden": scheme.file,
                "floor_db": self.floor_db(scheme.file),
                "texts": {"active.json": _active("tensorrt_rtx", precision_of(scheme), name, plan, None)},
            },
            golden=scheme.file,
        )


def _bench_flags(tool: Trtexec) -> list[str]:
    """``time_command`` with the agent's places for what it fills in."""
    words = time_command(tool, Path())[1:]
    filled = {
        "--loadEngine": "{engine}",
        "--exportTimes": "{times}",
        "--warmUp": "{warm_up_ms}",
        "--duration": "{seconds}",
    }
    return [f"{flag}={filled[flag]}" if (flag := w.split("=")[0]) in filled else w for w in words]


def _drop(manifest: Manifest, name: str) -> float | None:
    """Points of top-1 that were measured for a scheme; of OpenVINO's own by OpenVINO."""
    scheme = next((s for s in manifest.schemes if s.name == name), None)
    accuracy = None if scheme is None else scheme.accuracy
    if name == "openvino" and accuracy is None:
        accuracy = manifest.accuracy
    return None if accuracy is None else accuracy.worst.drop_points


def _active(runtime: str, precision: str, scheme: str | None, file: str, hint: str | None) -> str:
    """What ``active.json`` of the candidate's folder says: which model is in it, and how it runs."""
    content = {"schema_version": 1, "runtime": runtime, "precision": precision, "scheme": scheme, "file": file}
    return json.dumps({**content, "precision_hint": hint}, indent=1, sort_keys=True) + "\n"


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return sha256_of(content)
