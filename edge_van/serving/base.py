"""What both servers' repositories are made of: which model is served, its tensors, the record beside it.

In: a ``Bundle`` and what was asked for. Out: a ``Served`` model, an ``ExportedServer`` record, or a ``UsageError``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from edge_van.bundle.active import ActiveModel, active_model, in_precision
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.models import BundleModel, engine_of
from edge_van.bundle.records import FileEntry
from edge_van.errors import BundleError, UsageError
from edge_van.head import Head
from edge_van.input_spec import InputSpec
from edge_van.storage.json_format import JSONFormat
from edge_van.text import one_line

SERVERS = ("ovms", "triton")
MODELS, LABELS_NAME, COMPOSE_NAME, RECORD_NAME = "models", "labels.txt", "compose.yaml", "edge_van_server.json"
VERSION = "1"
"""The folder of the model's only version: both servers take the highest number there is."""
RECORD_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ServerOptions:
    """What is seldom asked for.

    name          what clients ask for; by default "van_" and the variant
    precision     one of "fp32", "bf16", "int8", "int8_bf16"; by default the active model's, INT8 where none is
    engine        serve the TensorRT engine of this target of ``edge-van build``, by Triton on its GPU
    scheme        of ``engine``: which one; by default the active one
    source_order  "rgb" or "bgr": of the pixels that clients send; by default "bgr" for OpenVINO Model Server, which
                  decodes JPEG and PNG to that, and the bundle's own for Triton, which decodes nothing
    """

    name: str | None = None
    precision: str | None = None
    engine: str | None = None
    scheme: str | None = None
    source_order: str | None = None


@dataclass(frozen=True)
class ServedTensor:
    """An input or output as a client names it. ``datatype`` is NumPy's word; -1 stands for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ExportedServer:
    """What was written: ``edge_van_server.json`` in its folder, which lists every other file of it.

    ``file`` is the bundle's that is served, ``source_order`` that of the pixels it takes now. ``golden_sqnr_db`` is
    that of the written file's logits for the bundle's golden images against the recorded ones, None for an engine and
    for a bundle without golden images.
    """

    schema_version: int
    edge_van_version: str
    server: str  # of ``SERVERS``
    name: str
    file: str
    precision: str
    source_order: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    files: tuple[FileEntry, ...]
    golden_sqnr_db: float | None = None
    notes: tuple[str, ...] = ()
    head: Head = field(default_factory=Head)  # what the logits become


RECORD_FORMAT = JSONFormat(
    ExportedServer,
    kind="",
    version=RECORD_VERSION,
    oldest_version=1,
    max_bytes=2**20,
    called="record of a server's folder",
    again="export it again",
    error=BundleError,
)


@dataclass(frozen=True)
class Served:
    """The model that is served, and as what."""

    bundle: Bundle
    model: BundleModel
    hint: str  # what OpenVINO computes in that is not INT8: "f32", "bf16" or "f16"; "" of an engine
    name: str
    source_order: str

    @property
    def spec(self) -> InputSpec:
        return self.bundle.manifest.input_spec

    @property
    def precision(self) -> str:
        """ "int8", or "int8_bf16" where the rest is not float32; of a float model what it is computed in."""
        if self.hint in ("", "f32"):
            return self.model.precision
        short = {"f16": "fp16"}.get(self.hint, self.hint)
        return short if self.model.precision == "fp32" else f"{self.model.precision}_{short}"

    @property
    def turns_channels(self) -> bool:
        """Whether the file has to be written anew for the order that clients send."""
        return self.source_order != self.spec.source_order

    @property
    def place(self) -> str:
        """The model's folder, relative to the repository's."""
        return f"{MODELS}/{self.name}"


def chosen(bundle: Bundle, server: str, options: ServerOptions) -> Served:
    """The model that ``server`` gets; ``UsageError`` for what it cannot serve, or what contradicts itself."""
    spec = bundle.manifest.input_spec
    name = f"van_{bundle.manifest.variant}" if options.name is None else options.name
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{one_line(name)[:80]!r} is no model's name: give --name up to 64 letters, digits, '_', '-' and '.', a "
            f"letter or digit first"
        )
    if options.engine is not None or options.scheme is not None:
        return Served(bundle, _engine(bundle, server, options), "", name, spec.source_order)
    found = _openvino(bundle, options.precision)
    order = options.source_order or ("bgr" if server == "ovms" and spec.channels == 3 else spec.source_order)
    if order != spec.source_order and spec.channels != 3:
        raise UsageError(f"an image of {spec.channels} channels is sent as the bundle takes it: no --source-order")
    return Served(bundle, found.model, found.options.get("precision", "f32"), name, order)


def _engine(bundle: Bundle, server: str, options: ServerOptions) -> BundleModel:
    if options.engine is None:
        raise UsageError("--scheme is of the engines of a target: give --engine TARGET with it")
    if server != "triton":
        raise UsageError("OpenVINO Model Server runs no TensorRT engine: leave --engine out, or take --to triton")
    if options.precision is not None or options.source_order is not None:
        raise UsageError("an engine's precision and input are fixed: leave --precision and --source-order out")
    model = engine_of(bundle.manifest, options.engine, options.scheme)
    if model.runtime != "tensorrt":
        raise UsageError(
            f"the engines of {options.engine} are of TensorRT for RTX, which Triton does not run: build one with "
            f"TensorRT itself on the GPU that serves"
        )
    return model


def _openvino(bundle: Bundle, precision: str | None) -> ActiveModel:
    """As ``predict`` chooses, but of OpenVINO's models alone: an IR is what both servers run on a CPU."""
    if precision is not None:
        return in_precision(bundle, precision)
    active = active_model(bundle)
    if active is None:
        return ActiveModel(bundle, bundle.model("openvino", "int8"))
    if active.model.runtime != "openvino":
        raise UsageError(
            f"the active model of {bundle.path} is one of {active.model.runtime}, which this does not serve: give "
            f"--precision, or --engine TARGET of a bundle that edge-van build has been run on"
        )
    return active


def labels_of(served: Served) -> str | None:
    """Class names in the order of the logits, one a line; None where they are not known, or are not one a logit."""
    classes = served.spec.classes
    if classes is None or len(classes) != served.bundle.manifest.num_classes:
        return None
    return "".join(f"{one_line(name)}\n" for name in classes)


def project_of(server: str, served: Served) -> str:
    """Docker Compose's name for it, which else is that of the folder: two of one name would be one, and a name without
    a letter of ASCII is none."""
    return f"edge-van-{server}-{re.sub('[^a-z0-9_-]', '-', served.name.lower())}"


def write(folder: Path, relative: str, content: str) -> None:
    """A text file of the new folder, its parents made."""
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
