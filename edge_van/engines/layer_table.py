"""The proof of precision: in which datatype an engine computes every convolution of the network.

In: a builder's detailed layer log, or the JSON of an engine's layers, and the ONNX file it was built from. Out: one row
a convolution or linear layer, and an error where a layer that should run in INT8 does not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_van.bundle.engine_record import PrecisionRow
from edge_van.errors import DataError, VerificationError

INT8 = "int8"
FUSED = "fused"
_DATATYPES = {
    "int8": INT8,
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "fp8": "fp8",
}
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>.*?), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*)\], TacticName: (?P<tactic>.*?), "
    r"(?:.*?, )?Metadata: (?P<metadata>.*)$"
)
_TENSOR = re.compile(r"\{ Name: .*?, Dimensions: \[(?P<dims>[-\d,]*)\].*?Datatype: (?P<type>\w+)")
_DATATYPE_KEYS = ("Datatype", "DataType", "Format/Datatype")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
MAX_ALIGNMENT = 32
_WIDTH = {INT8: 0, "fp8": 1, "fp16": 2, "bf16": 3, "fp32": 4}
"""Datatypes from the narrowest to the widest; one that is not known counts as wider than all."""


@dataclass(frozen=True)
class EngineLayer:
    """One kernel of an engine: its own name and kind, its tensors as (shape, datatype), the ONNX nodes it computes."""

    name: str
    kind: str
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    constants: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[tuple[tuple[int, ...], str], ...]
    onnx_nodes: tuple[str, ...]
    weights: tuple[int, str] | None = None  # (how many, datatype), where that is all that is said of them


@dataclass(frozen=True)
class ONNXLayer:
    """A convolution or linear layer of the graph an engine is built from."""

    name: str
    weight_shape: tuple[int, ...]
    datatype: str  # what the graph asks for: "int8", "fp16" or "fp32"


def parse_layer_log(lines: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The layers in a builder's log (severity VERBOSE, profiling verbosity DETAILED), in execution order.

    Raises ``DataError`` if the log has no layers: the verbosity was too low, or the format is not known.
    """
    layers = [_from_match(m) for line in lines for part in line.split("\n") if (m := _LINE.search(part))]
    if not layers:
        raise DataError(
            "the builder's log lists no layers; expected lines 'Name: ..., LayerType: ..., Inputs: [...]': build with "
            "a VERBOSE logger and detailed profiling verbosity"
        )
    return tuple(layers)


def parse_layer_json(text: str) -> tuple[EngineLayer, ...]:
    """The layers in an engine inspector's JSON, also what ``trtexec --exportLayerInfo`` writes (8.6 to 11).

    Raises ``DataError`` for text that is not that, or that was written without detailed profiling verbosity.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"the layer information is no JSON ({error})") from error
    entries = document.get("Layers") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError("the layer information has no list 'Layers'; expected what an engine inspector writes")
    if any(not isinstance(entry, dict) for entry in entries):
        raise DataError(
            "the layer information names its layers only: build the engine with detailed profiling verbosity"
        )
    return tuple(_from_json(entry) for entry in entries)


def _from_match(match: re.Match[str]) -> EngineLayer:
    def tensors(group: str) -> tuple[tuple[tuple[int, ...], str], ...]:
        matches = _TENSOR.finditer(match[group] or "")
        return tuple((_dims(t["dims"].split(",")), _datatype(t["type"])) for t in matches)

    nodes = tuple(_ONNX_LAYER.findall(match["metadata"]))
    return EngineLayer(match["name"], match["type"], tensors("inputs"), tensors("constants"), tensors("outputs"), nodes)


def _from_json(entry: dict[str, Any]) -> EngineLayer:
    def tensors(key: str) -> tuple[tuple[tuple[int, ...], str], ...]:
        # before 10 the key is "Format/Datatype", with words like "Channel major INT8 format"; later "Datatype" as well
        return tuple(
            (_dims(t.get("Dimensions", [])), _datatype(next((str(t[k]) for k in _DATATYPE_KEYS if t.get(k)), "")))
            for t in entry.get(key) or []
            if isinstance(t, dict)
        )

    said = entry.get("Weights")
    weights = None
    if isinstance(said, dict) and isinstance(said.get("Count"), int):
        weights = (said["Count"], _datatype(str(said.get("Type", ""))))
    # older versions state no metadata; there a fused layer's name is those of its parts
    name = str(entry.get("Name", ""))
    nodes = tuple(_ONNX_LAYER.findall(str(entry.get("Metadata") or ""))) or tuple(re.split(r" \+ | \|\| ", name))
    return EngineLayer(
        name=name,
        kind=str(entry.get("LayerType", "")),
        inputs=tensors("Inputs"),
        constants=tensors("Constants"),
        outputs=tensors("Outputs"),
        onnx_nodes=nodes,
        weights=weights,
    )


def _dims(parts: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(p) for p in parts if str(p).strip())


def _datatype(text: str) -> str:
    """The package's word for a datatype, out of a bare name or a sentence that holds one."""
    for word in re.findall(r"[A-Za-z]+\d*", text):
        if (known := _DATATYPES.get(word.lower())) is not None:
            return known
    return text.lower() or "unknown"


def onnx_layers(model: Any) -> tuple[ONNXLayer, ...]:
    """Every Conv and Gemm of an onnx ``ModelProto``, its weight's shape, and the datatype it asks for; and every MatMul
    by a constant. A hamburger's products of two computed tensors have no weight to prove anything by."""
    import onnx

    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    producer = {name: n for n in graph.node for name in n.output}
    layers = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weight, quantized = node.input[1], False
        while weight in producer:  # behind DequantizeLinear, or a Cast
            source = producer[weight]
            if node.op_type == "MatMul" and source.op_type not in ("DequantizeLinear", "Cast"):
                break
            quantized |= source.op_type == "DequantizeLinear"
            weight = source.input[0]
        if weight not in constants and node.op_type == "MatMul":
            continue
        if weight not in constants:
            raise VerificationError(f"{node.name} has a weight that is computed ({weight}); expected a constant")
        tensor = constants[weight]
        datatype = INT8 if quantized else names.get(tensor.data_type, "unknown")
        layers.append(ONNXLayer(node.name, tuple(tensor.dims), datatype))
    return tuple(layers)


def precision_table(layers: Iterable[EngineLayer], wanted: Iterable[ONNXLayer]) -> tuple[PrecisionRow, ...]:
    """One row per convolution or linear layer of the graph, in its order."""
    by_node: dict[str, list[EngineLayer]] = {}
    for kernel in layers:
        for node in kernel.onnx_nodes:
            by_node.setdefault(node, []).append(kernel)
    rows = []
    layers_wanted = tuple(wanted)
    # a kernel that holds the weight convolves; others with the name prepare its input or scale its output
    candidates = [[k for k in by_node.get(layer.name, []) if _weights_of(k, layer)] for layer in layers_wanted]
    proved = _each_its_own(layers_wanted, candidates)
    for index, (layer, holding) in enumerate(zip(layers_wanted, candidates, strict=True)):
        if index not in proved:
            rows.append(PrecisionRow(layer.name, layer.datatype, FUSED, ""))
            continue
        # where several do, the widest counts: a proof must not rest on the one that suits it
        widest = max(holding, key=lambda k: _width(_runs_in(k, layer)))
        rows.append(PrecisionRow(layer.name, layer.datatype, _runs_in(widest, layer), widest.name))
    return tuple(rows)


def _each_its_own(layers: Sequence[ONNXLayer], candidates: Sequence[Sequence[EngineLayer]]) -> frozenset[int]:
    """Indices of the layers that have a weight in a kernel to themselves: one constant proves one layer.

    Several layers of one shape may stand in the names of one kernel. The largest matching, by augmenting paths.
    """
    slots = [
        [(id(k), i) for k in kernels for i in _weights_of(k, layer)]
        for layer, kernels in zip(layers, candidates, strict=True)
    ]
    owner: dict[tuple[int, int], int] = {}

    def place(layer: int, seen: set[tuple[int, int]]) -> bool:
        for slot in slots[layer]:
            if slot not in seen:
                seen.add(slot)
                if slot not in owner or place(owner[slot], seen):
                    owner[slot] = layer
                    return True
        return False

    return frozenset(index for index in range(len(layers)) if place(index, set()))


def _weights_of(kernel: EngineLayer, layer: ONNXLayer) -> dict[int, str]:
    """The datatypes of what may be the layer's weight among the kernel's constants, by their positions.

    Depthwise weights may be padded to 4 channels, a 1x1 convolution's may lie there as a matrix, a matrix may be padded
    for alignment, and some logs state nothing but the number of values.
    """
    weight = layer.weight_shape
    datatypes = {}
    for i, (shape, datatype) in enumerate(kernel.constants):
        same_kernel = len(shape) == len(weight) == 4 and shape[0] == weight[0] and shape[2:] == weight[2:]
        if same_kernel or _same_matrix(weight, shape):
            datatypes[i] = datatype
    if kernel.weights is not None and kernel.weights[0] == math.prod(weight):
        datatypes[len(kernel.constants)] = kernel.weights[1]
    return datatypes


def _same_matrix(weight: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether ``shape`` is the weight's matrix: transposed, with axes of 1 added, or padded for alignment."""
    if math.prod(weight[2:]) > 1 or (len(weight) == 4 and weight[1] == 1):  # a real kernel, or a depthwise one
        return False
    sides = sorted(size for size in shape if size > 1)
    wanted = sorted(weight[:2])
    return len(sides) == 2 and all(
        side == size or (size < side < size + MAX_ALIGNMENT and side % 4 == 0)
        for side, size in zip(sides, wanted, strict=True)
    )


def _runs_in(kernel: EngineLayer, layer: ONNXLayer) -> str:
    """INT8 only where the activation and the weight are; otherwise the wider of the two."""
    weight = max(_weights_of(kernel, layer).values(), key=_width)
    first = kernel.inputs[0][1] if kernel.inputs else "unknown"
    return max(first, weight, key=_width)


def _width(datatype: str) -> int:
    return _WIDTH.get(datatype, len(_WIDTH))


def check_precision(rows: Iterable[PrecisionRow]) -> tuple[str, ...]:
    """One sentence per layer whose datatype is not what the graph asks for; none means the proof holds."""
    problems = []
    for row in rows:
        if row.scheme == INT8 and row.runs_in != INT8:
            where = "in no kernel of its own" if row.runs_in == FUSED else f"in {row.runs_in} ({row.kernel})"
            problems.append(f"{row.layer} is INT8 in the graph and runs {where}")
        elif row.runs_in not in (row.scheme, FUSED):
            problems.append(f"{row.layer} is {row.scheme} in the graph and runs in {row.runs_in} ({row.kernel})")
    return tuple(problems)


def require_precision(rows: Iterable[PrecisionRow], *, floats: bool = True) -> None:
    """Raise ``VerificationError`` where ``check_precision`` finds anything; without ``floats``, at INT8 layers alone.

    TensorRT 8 is told which datatypes it may use, not which it must: a float layer may be in the wider one there.
    """
    if problems := check_precision(row for row in rows if floats or row.scheme == INT8):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VerificationError(
            f"the engine is not what the scheme says: {problems[0]}{more}; --allow-fallback takes it with a warning"
        )
