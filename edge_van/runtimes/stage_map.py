"""The feature map at the end of a stage as one more output of a model: which tensor it is, for every engine.

In: an ONNX model or an OpenVINO model of ``edge_van.export``, a stage 1 to 4. Out: the tensor or port of that stage's
LayerNorm'ed map (N, C_s, H_s, W_s), before the quantiser of the layer that reads it. (A scheme that quantises the
LayerNorm itself, ``openvino``, does so before this point: the map is then on the grid that the engine computes with.)
"""

from __future__ import annotations

from typing import Any

from edge_van.errors import BundleError, UsageError

STAGE_MAP = "stage_map"
"""Name of the additional output."""
STAGES = (1, 2, 3, 4)
STRIDES = (4, 8, 16, 32)
"""Input pixels to one position of a stage's map."""

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Cast", "Convert")


def check_stage(stage: int | None) -> None:
    """``UsageError`` for anything but None or a stage of a VAN."""
    if stage is not None and (isinstance(stage, bool) or stage not in STAGES):
        raise UsageError(f"a VAN has the stages 1 to 4, got {stage!r}: give one of these")


def map_size(input_size: tuple[int, int], stage: int) -> tuple[int, int]:
    """(height, width) of a stage's map for an input of that size: every stage's convolution rounds up."""
    check_stage(stage)
    stride = STRIDES[stage - 1]
    return -(-input_size[0] // stride), -(-input_size[1] // stride)


def add_onnx_output(model: Any, stage: int) -> None:
    """In place: the ONNX ``model`` has one more output, ``stage_map``. ``BundleError`` where it has no such stage."""
    import onnx

    tensor = _onnx_tensor(model, stage)
    model.graph.node.append(onnx.helper.make_node("Identity", [tensor], [STAGE_MAP], name=STAGE_MAP))
    model.graph.output.append(onnx.ValueInfoProto(name=STAGE_MAP))  # the engine infers the type and the shape


def _onnx_tensor(model: Any, stage: int) -> str:
    """The data input of the next stage's convolution, or of the mean that the head reads."""
    producer = {output: node for node in model.graph.node for output in node.output}

    def before_quantizers(tensor: str) -> str:
        while tensor in producer and producer[tensor].op_type in _QUANTIZERS:
            tensor = producer[tensor].input[0]
        return tensor

    name = "head" if stage == 4 else f"patch_embed{stage + 1}.proj"
    layer = next((node for node in model.graph.node if node.name == name), None)
    if layer is None:
        raise _no_stage(stage, name)
    tensor = before_quantizers(layer.input[0])
    if stage == 4:
        mean = producer.get(tensor)
        if mean is None or mean.op_type != "ReduceMean":
            raise _no_stage(stage, "ReduceMean before head")
        tensor = before_quantizers(mean.input[0])
    return str(tensor)


def add_openvino_output(ov: Any, model: Any, stage: int) -> None:
    """In place: the map of ``stage`` as one more output of ``model``, which ``ov``, OpenVINO, has not compiled yet."""
    if stage == 4:  # the only matrix product; what it is called depends on whether the head has a bias
        heads = [op for op in model.get_ops() if op.get_type_name() == "MatMul"]
        port = None if len(heads) != 1 else _port_before_quantizers(heads[0])
        if port is None or port.get_node().get_type_name() != "ReduceMean":
            raise _no_stage(stage, "ReduceMean before head")
        mean = port.get_node()
        port = _port_before_quantizers(mean)
        if sorted(mean.input_value(1).get_node().data.tolist()) == [1, 2]:  # the transpose before it was merged into it
            port = ov.opset13.transpose(port, [0, 3, 1, 2]).output(0)
    else:
        name = f"patch_embed{stage + 1}.proj"
        # the converter splits a convolution and its bias, and names the latter after the layer
        by_name = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Convolution"}
        layer = by_name.get(f"{name}/WithoutBiases", by_name.get(name))
        if layer is None:
            raise _no_stage(stage, name)
        port = _port_before_quantizers(layer)
    [added] = model.add_outputs(port)
    added.get_tensor().set_names({STAGE_MAP})


def _port_before_quantizers(op: Any) -> Any:
    port = op.input_value(0)
    while port.get_node().get_type_name() in _QUANTIZERS:
        port = port.get_node().input_value(0)
    return port


def _no_stage(stage: int, what: str) -> BundleError:
    return BundleError(
        f"the model has no {what}, by which the map of stage {stage} is found: it was not written by edge-van "
        f"quantize; make the bundle again"
    )
