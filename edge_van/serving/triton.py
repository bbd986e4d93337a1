"""A repository for Triton Inference Server: an IR for its OpenVINO backend, or an engine for its TensorRT backend.

In: a ``Served`` model and a new folder. Out: ``models/NAME/config.pbtxt``, ``models/NAME/1/``, ``compose.yaml``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge_van.bundle.engine_record import EngineRecord
from edge_van.errors import BundleError
from edge_van.serving.base import (
    COMPOSE_NAME,
    LABELS_NAME,
    MODELS,
    VERSION,
    Served,
    ServedTensor,
    labels_of,
    project_of,
    write,
)
from edge_van.serving.openvino_ir import IR, tensors_of, write_ir

CONFIG_NAME, PLAN = "config.pbtxt", "model.plan"
IMAGE = "${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:26.07-py3}"
ENGINE_IMAGE = "${{TRITON_IMAGE:?give the Triton image that has TensorRT {version}}}"
"""An image has one TensorRT, and an engine runs with the one it was built by."""
TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_COMPOSE = """\
# Starts Triton with the model beside this file: docker compose up
# It asks nobody for a password, so only this machine reaches its ports. TRITON_IMAGE names another image.
name: {project}
services:
  triton:
    image: {image}
    command: ["tritonserver", "--model-repository=/{models}", "--disable-auto-complete-config"]
    volumes:
      - type: bind
        source: ./{models}
        target: /{models}
        read_only: true
    ports:
      - "127.0.0.1:8000:8000"
      - "127.0.0.1:8001:8001"
      - "127.0.0.1:8002:8002"
    restart: unless-stopped
"""
_GPU = """\
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
"""


def write_triton(served: Served, folder: Path) -> tuple[float | None, tuple[str, ...]]:
    """Write all but the record; the SQNR as ``write_ir`` gives it, and what a user should know.

    Raises as ``write_ir``; ``BundleError`` for an engine whose ONNX graph, which names its tensors, is not the one it
    was built of.
    """
    place, labels = folder / served.place, labels_of(served)
    if served.model.is_engine:
        measured = None
        _copy_engine(served, place / VERSION)
        inputs, outputs = engine_tensors(served)
        notes, image = _engine_notes(served), ENGINE_IMAGE.format(version=_record(served).version)
    else:
        measured = write_ir(served, place / VERSION)
        inputs, outputs = tensors_of(place / VERSION / IR)
        notes, image = _openvino_notes(served), IMAGE
    label_file = None if labels is None else LABELS_NAME
    write(place, CONFIG_NAME, _config(served, inputs, outputs, label_file))
    write(
        folder,
        COMPOSE_NAME,
        _COMPOSE.format(image=image, models=MODELS, project=project_of("triton", served))
        + _GPU * served.model.is_engine,
    )
    if labels is not None:
        write(place, LABELS_NAME, labels)
    return measured, notes


def _config(
    served: Served, inputs: tuple[ServedTensor, ...], outputs: tuple[ServedTensor, ...], labels: str | None
) -> str:
    """``ModelConfig`` in protobuf's text format.

    ``max_batch_size`` 0: the dimensions are those of the file, the batch of 1 too. An engine's batch is free: it is
    left out of its dimensions, and Triton gathers requests up to the engine's largest.
    """
    engine = served.model.is_engine
    has_batch = all(tensor.shape[0] == -1 for tensor in (*inputs, *outputs))
    max_batch = _record(served).max_batch if has_batch else 0
    lines = [
        f"name: {_text(served.name)}",
        'platform: "tensorrt_plan"' if engine else 'backend: "openvino"',
        f"default_model_filename: {_text(PLAN if engine else IR)}",
        f"max_batch_size: {max_batch}",
        *(line for tensor in inputs for line in _tensor("input", tensor, None, has_batch)),
        *(line for tensor in outputs for line in _tensor("output", tensor, labels, has_batch)),
        *(["dynamic_batching { }"] if max_batch > 1 else []),
        f"instance_group {{ count: 1 kind: {'KIND_GPU' if engine else 'KIND_CPU'} }}",
    ]
    settings = {} if engine else {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}  # as the bundle was timed
    if served.hint == "bf16":
        settings["HINT_BF16"] = "YES"
    lines += [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, tensor: ServedTensor, labels: str | None, has_batch: bool) -> list[str]:
    label_line = [] if labels is None else [f"  label_filename: {_text(labels)}"]
    return [
        f"{kind} {{",
        f"  name: {_text(tensor.name)}",
        f"  data_type: {TYPES[tensor.datatype]}",
        f"  dims: [{', '.join(map(str, tensor.shape[has_batch:]))}]",
        *label_line,
        "}",
    ]


def _text(value: str) -> str:
    """A string of protobuf's text format: names here are ASCII without quotes, and others escaped as JSON does."""
    return json.dumps(value)


def _openvino_notes(served: Served) -> tuple[str, ...]:
    order = f"arrays are {served.source_order.upper()}; " if served.spec.channels == 3 else ""
    height, width, _ = served.spec.source_shape
    notes = [f"{order}images are sent at {height}x{width} px: Triton neither decodes nor resizes"]
    if served.hint == "f32":
        notes.append(
            "Triton's OpenVINO backend cannot be told float32: a CPU with bf16 computes in that what is no INT8"
        )
    elif served.hint == "f16":
        notes.append("Triton's OpenVINO backend cannot be told float16: it computes in what the CPU's default is")
    return tuple(notes)


def _engine_notes(served: Served) -> tuple[str, ...]:
    record = _record(served)
    return (
        f"the engine runs on GPUs of compute capability {', '.join(record.compute_capabilities)} with TensorRT "
        f"{record.version}: TRITON_IMAGE names the Triton image that has it",
    )


def _record(served: Served) -> EngineRecord:
    target = served.bundle.manifest.engines[served.model.target or ""]
    return next(record for record in target.engines if record.scheme == served.model.scheme)


def _copy_engine(served: Served, folder: Path) -> None:
    bundle, model = served.bundle, served.model
    bundle.check(model.file, model.graph)
    entry = next(entry for entry in bundle.manifest.files if entry.path == model.graph)
    if entry.sha256 != _record(served).onnx_sha256:
        raise BundleError(
            f"the engine {model.file} was not built of the bundle's {model.graph}: build it again with edge-van build"
        )
    folder.mkdir(parents=True)
    shutil.copyfile(bundle.file(model.file), folder / PLAN)


def engine_tensors(served: Served) -> tuple[tuple[ServedTensor, ...], tuple[ServedTensor, ...]]:
    """(inputs, outputs) of the ONNX graph that the engine was built of: a plan is opened on its own GPU alone."""
    import onnx

    graph = onnx.load(served.bundle.file(served.model.graph), load_external_data=False).graph
    return tuple(map(_of_onnx, graph.input)), tuple(map(_of_onnx, graph.output))


def _of_onnx(value: Any) -> ServedTensor:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    return ServedTensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
