"""A captured network, operator by operator, as ONNX.

In: the graph of a ``FoldedVAN`` or of a ``QuantizedVAN``, which has a dozen operators, or some more with a dense head.
Out: a ``ModelProto``. torch's own exporter makes the same graph under other names, as a test compares, but traces and
rewrites it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx import GraphModule, Node

from edge_van.errors import VerificationError
from edge_van.export.onnx_centred import centre
from edge_van.export.onnx_dense import DENSE_OPERATORS
from edge_van.export.onnx_operators import VAN_OPERATORS
from edge_van.export.onnx_writer import Writer

OPSET, IR_VERSION = 20, 10
"""The first opset with Gelu, and the last that the parser of TensorRT 10.3 (JetPack 6.1 and 6.2) is documented for. In
21 a rewrite of ONNX Runtime 1.27 to 1.32 breaks asymmetric graphs: it moves a QuantizeLinear over a Reshape, gives the
copy an output type of int8 beside its uint8 zero point, and the session refuses its own graph."""
INPUT, OUTPUT = "images", "logits"
_GUARDS = "_guards_fn"
"""torch's checks of the input's shape; ONNX has them in the input's type."""


def to_onnx(
    graph: GraphModule, input_size: tuple[int, int], *, centred: bool = False, outputs: Sequence[str] = (OUTPUT,)
) -> Any:
    """``graph`` as a ModelProto: ``images`` float32 (batch, channels, *input_size) to ``outputs``, the batch size free.

    A convolution or linear node has the layer's official name, and so have its weight, bias and scale. With
    ``centred`` tensors that are quantised as uint8 become int8 around 0 (``onnx_centred``).
    Raises ``VerificationError`` for an operator that no VAN has, and for another number of outputs.
    """
    import onnx
    from onnx import TensorProto, helper

    writer = Writer(graph, {**VAN_OPERATORS, **DENSE_OPERATORS}, outputs)
    [images] = [node for node in graph.graph.nodes if node.op == "placeholder"]
    [output] = [node for node in graph.graph.nodes if node.op == "output"]
    returned = list(output.args[0])
    if len(returned) != len(outputs):
        raise VerificationError(f"the captured network has {len(returned)} outputs, not {', '.join(outputs)}")
    names = dict(zip(returned, outputs, strict=True))
    writer.names[images] = INPUT
    channels = int(images.meta["val"].shape[1])
    for node in graph.graph.nodes:
        if node.op == "call_function":
            writer.add(node, names.get(node))
        elif node.op == "call_module" and node.target != _GUARDS:
            raise VerificationError(f"the captured network calls the module {node.target}, which no VAN has")
    proto = helper.make_graph(
        writer.nodes,
        "van",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", channels, *input_size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *_shape(n)]) for n, name in names.items()],
        writer.constants,
    )
    if centred:
        centre(proto)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, producer_name="edge-van", opset_imports=[opset], ir_version=IR_VERSION)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _shape(output: Node) -> list[int]:
    """Of one image's. An output may be quantised: nodes of the quantiser have no shape noted."""
    while "val" not in output.meta:
        output = output.all_input_nodes[0]
    return [int(side) for side in output.meta["val"].shape[1:]]
