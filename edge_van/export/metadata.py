"""What a file says of itself to a stranger who has nothing but the file: its input, its classes, its device.

In: an ``InputSpec``, what the file takes. Out: texts by key, for ``metadata_props`` of an ONNX file and ``rt_info`` of
an OpenVINO IR. The same in both; lists and numbers are JSON in ASCII, which XML holds whatever a class is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_van.bundle.models import Takes
from edge_van.head import Head
from edge_van.input_spec import InputSpec

NAMESPACE = "edge_van"
_FROM_ONNX = "framework"
"""Where OpenVINO's converter puts an ONNX file's metadata, which is of another input than the IR's."""


MADE_FOR = {
    "openvino": "Q/DQ for x86 CPUs, by OpenVINO",
    "openvino_arm": "Q/DQ for ARM CPUs, by OpenVINO",
    "tensorrt": "Q/DQ for TensorRT",
}
"""Of the explicit graphs of each target."""
IR_MADE_FOR = {
    "openvino": "INT8 for x86 CPUs, by OpenVINO",
    "openvino_arm": "INT8 for ARM CPUs, by OpenVINO",
}


def outputs_of(head: Head, outputs: int) -> str:
    """What the logits become, in words."""
    if head.activation == "sigmoid":
        of = "one logit, of the last class; the other has its negative" if outputs == 1 else "a logit for each label"
        return f"{of}: sigmoid, there from {head.threshold:g} on"
    return f"a logit for each class: {'softmax' if head.activation == 'softmax' else 'the highest, no probabilities'}"


def described(spec: InputSpec, takes: Takes, made_for: str, outputs: str | None = None) -> dict[str, str]:
    """By key, what a file that ``takes`` such images expects and gives.

    input_layout, input_type   "NCHW" and "float32", or "NHWC" and "uint8"
    input_size                 JSON [height, width] in pixels
    source_order               of the channels, as they come
    mean, std                  JSON, one number a channel as they come, of values scaled to 0..1
    value_range, resize        what is done to the pixels before the file, and what inside
    classes                    JSON list in the order of the logits, of one logit two; not there if they are not known
    outputs                    ``outputs``, of ``outputs_of``; not there where it is None
    made_for                   ``made_for``: the precision and the device
    """
    if takes != "camera":
        spec = replace(spec, source_size=None)
    normalized = "(x / 255 - mean) / std"
    said = {
        "input_layout": "NCHW" if takes == "floats" else "NHWC",
        "input_type": "float32" if takes == "floats" else "uint8",
        "input_size": json.dumps(spec.source_shape[:2]),
        "source_order": {1: "grey", 3: spec.source_order, 4: f"{spec.source_order}, then the fourth band"}[
            spec.channels
        ],
        "mean": json.dumps(spec.pixel_mean),
        "std": json.dumps(spec.pixel_std),
        "value_range": f"{normalized} of pixels x from 0 to 255, computed before the file"
        if takes == "floats"
        else f"pixels x from 0 to 255; {normalized} is inside the file",
        "resize": _geometry(spec),
        "made_for": made_for,
    }
    if outputs is not None:
        said["outputs"] = outputs
    return said if spec.classes is None else {**said, "classes": json.dumps(spec.classes)}


def _geometry(spec: InputSpec) -> str:
    """Of an image that stands upright: its resize, and the crop or the bars behind that."""
    target = _pixels(replace(spec, resize="squash", pad_color=None).resized(*spec.size))
    filtered = f"by Pillow's {spec.interpolation}"
    crop = f", then the central {_pixels(spec.size)} cropped"
    if spec.resize == "pad":
        bars = json.dumps(spec.pixel_pad_color)
        how = f"resized with its aspect kept to fit into {target} {filtered}, then centred on bars of {bars}"
    elif spec.resize == "squash":
        how = f"resized without its aspect to {target} {filtered}{crop if spec.crop < 1.0 else ''}"
    else:
        how = f"resized with its aspect kept to cover {target} {filtered}{crop}"
    if spec.source_size is None:
        return f"before the file: the upright image {how}"
    return f"inside the file: the upright image of {_pixels(spec.source_size)} {how}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px (height x width)"


def put_in_onnx(model: Any, said: Mapping[str, str]) -> None:
    """In place: the ``metadata_props`` of a ModelProto, in place of those that are there; what its outputs are, where
    ``said`` does not say it, stays."""
    import onnx

    there = {prop.key: prop.value for prop in model.metadata_props if prop.key == f"{NAMESPACE}.outputs"}
    onnx.helper.set_model_props(model, there | {f"{NAMESPACE}.{key}": text for key, text in said.items()})


def put_in_ir(model: Any, said: Mapping[str, str]) -> None:
    """In place: the ``rt_info`` of an ``openvino.Model``; what its ONNX file said of itself is taken out."""
    there = model.get_rt_info()
    if _FROM_ONNX in there:
        del there[_FROM_ONNX]
    for key, text in said.items():
        model.set_rt_info(text, [NAMESPACE, key])
