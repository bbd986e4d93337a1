"""``edge_van.export.onnx``: the float file and one per scheme, looked at node by node and run by ONNX Runtime."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from edge_van.errors import VerificationError
from edge_van.export import onnx as onnx_module
from edge_van.export.onnx import export_onnx
from edge_van.export.onnx_graph import INPUT, OPSET, OUTPUT
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import QuantizedVAN, post_training_quantize
from edge_van.quantization.scheme import DEPTHWISE, HEADS, LAYERS, SCHEMES
from edge_van.runtimes import open_model
from edge_van.statistics import relative_error, sqnr_db

Images = Callable[..., Tensor]
SIZE = (32, 32)
DEAD = "block2.0.mlp.fc1"


@dataclass(frozen=True)
class Written:
    """A file, the proto in it and the torch model it came from."""

    path: Path
    proto: ModelProto
    source: FoldedVAN | QuantizedVAN

    @property
    def graph(self) -> nn.Module:
        return self.source.graph if isinstance(self.source, QuantizedVAN) else self.source

    def constant(self, name: str) -> np.ndarray | None:
        return next((numpy_helper.to_array(t) for t in self.proto.graph.initializer if t.name == name), None)

    def layers(self) -> dict[str, NodeProto]:
        return {node.name: node for node in self.proto.graph.node if node.op_type in ("Conv", "Gemm")}

    def producer(self, tensor: str) -> NodeProto | None:
        return next((node for node in self.proto.graph.node if tensor in node.output), None)


@pytest.fixture(scope="module")
def shallow(randomize_bn_: Callable[[nn.Module, int], nn.Module], images: Images) -> tuple[FoldedVAN, FoldedVAN]:
    """A folded VAN of one block a stage, one channel of it dead; and the same equalised."""
    torch.manual_seed(0)
    van = VAN(Variant("shallow", (4, 6, 8, 12), (1, 1, 1, 1), 0.0, 0.0, None), 5)
    randomize_bn_(van, 1)
    folded, _ = fold(van.eval(), SIZE)
    with torch.no_grad():
        for conv in (folded.get_submodule(DEAD), folded.get_submodule("block2.0.mlp.dwconv.dwconv")):
            conv.weight[3] = 0.0
            conv.bias[3] = 0.0
    return folded, equalize(folded, [images(4, *SIZE, seed=1)])


@pytest.fixture(scope="module")
def check_images(images: Images) -> Tensor:
    return images(3, *SIZE, seed=2)


def write(source: FoldedVAN | QuantizedVAN, path: Path, check_images: Tensor) -> Written:
    assert export_onnx(source, path, check_images) == path
    return Written(path, onnx.load(path), source)


@pytest.fixture(scope="module")
def exports(
    tmp_path_factory: pytest.TempPathFactory,
    shallow: tuple[FoldedVAN, FoldedVAN],
    images: Images,
    check_images: Tensor,
) -> dict[str, Written]:
    """Each kind of file, written once: an export takes seconds."""
    folder = tmp_path_factory.mktemp("onnx") / "made" / "on-the-way"
    folded, equalized = shallow
    written = {"float": write(folded, folder / "float.onnx", check_images)}
    for name, scheme in SCHEMES.items():
        quantized = post_training_quantize(equalized, [images(4, *SIZE, seed=1)], scheme)
        written[name] = write(quantized, folder / f"{name}.onnx", check_images)
    return written


@pytest.fixture(params=["float", *SCHEMES])
def written(request: pytest.FixtureRequest, exports: dict[str, Written]) -> Written:
    return exports[request.param]


@pytest.fixture(params=list(SCHEMES))
def qdq(request: pytest.FixtureRequest, exports: dict[str, Written]) -> Written:
    return exports[request.param]


def scheme_of(written: Written) -> Any:
    assert isinstance(written.source, QuantizedVAN)
    return written.source.scheme


def test_file_is_clean_and_whole(written: Written) -> None:
    onnx.checker.check_model(str(written.path), full_check=True)
    assert [(o.domain, o.version) for o in written.proto.opset_import if o.domain == ""] == [("", OPSET)]
    assert {node.domain for node in written.proto.graph.node} == {""}  # no operator of one vendor
    assert not written.proto.functions
    assert list(written.path.parent.glob("*.data")) == []
    assert not any(t.external_data for t in written.proto.graph.initializer)


def test_input_and_output_have_their_names_and_a_free_batch(written: Written) -> None:
    def described(value: Any) -> tuple[str, int, list[int | str]]:
        shape = value.type.tensor_type.shape.dim
        return value.name, value.type.tensor_type.elem_type, [d.dim_value or d.dim_param for d in shape]

    (images,), (logits,) = written.proto.graph.input, written.proto.graph.output
    assert described(images) == (INPUT, onnx.TensorProto.FLOAT, ["batch", 3, *SIZE])
    assert described(logits) == (OUTPUT, onnx.TensorProto.FLOAT, ["batch", 5])


@pytest.mark.parametrize("batch", [1, 3])
def test_file_computes_its_sources_logits(written: Written, batch: int, images: Images) -> None:
    x = images(batch, *SIZE, seed=50)
    with torch.no_grad():
        expected = written.graph(x).numpy()
    with open_model("onnxruntime", written.path, exact=True) as session:
        actual = session.run({INPUT: x.numpy()})[OUTPUT]
    assert actual.shape == (batch, 5)
    if isinstance(written.source, QuantizedVAN):
        assert sqnr_db(expected, actual) > 30
    else:
        assert relative_error(actual, expected) < 1e-4


def test_every_layer_has_its_official_name(written: Written, shallow: tuple[FoldedVAN, FoldedVAN]) -> None:
    modules = dict(shallow[0].named_modules())
    official = {name for name, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear)}
    layers = written.layers()
    assert set(layers) == official
    assert len(official) == len([n for n in written.proto.graph.node if n.op_type in ("Conv", "Gemm")])
    for name, node in layers.items():  # the name is on the right node: kernel, groups and channels are the module's
        module = modules[name]
        if isinstance(module, nn.Conv2d):
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert attributes.get("group", 1) == module.groups
            assert list(attributes.get("dilations", [1, 1])) == list(module.dilation)
            assert list(attributes.get("strides", [1, 1])) == list(module.stride)
    names = [node.name for node in written.proto.graph.node]
    assert len(set(names)) == len(names)


def test_float_weights_are_the_layers(exports: dict[str, Written], shallow: tuple[FoldedVAN, FoldedVAN]) -> None:
    state = shallow[0].state_dict()
    for name in exports["float"].layers():
        for part in ("weight", "bias"):
            constant = exports["float"].constant(f"{name}.{part}")
            assert constant is not None, name
            assert np.array_equal(constant, state[f"{name}.{part}"].numpy()), name
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in exports["float"].proto.graph.node}


def test_grids_are_explicit_positive_and_finite(qdq: Written) -> None:
    scheme = scheme_of(qdq)
    nodes = [n for n in qdq.proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {n.op_type for n in nodes} == {"QuantizeLinear", "DequantizeLinear"}
    for node in nodes:
        scale = qdq.constant(node.input[1])
        assert scale is not None, node.name
        assert np.isfinite(scale).all(), node.name
        assert (scale > 0).all(), node.name
        zero = qdq.constant(node.input[2]) if len(node.input) > 2 else np.zeros(1, np.int8)
        assert zero is not None, node.name
        if scheme.symmetric:
            assert zero.dtype == np.int8, node.name
            assert not zero.any(), node.name
    if not scheme.symmetric:
        zeros = [qdq.constant(n.input[2]) for n in nodes if n.op_type == "QuantizeLinear"]
        centred = [z for z in zeros if z is not None and z.dtype == np.int8]  # what a LayerNorm reads
        assert len(centred) == (4 if scheme.name == "openvino_fast" else 0)
        assert not any(z.any() for z in centred)
        assert any(z.any() for z in zeros if z is not None and z.dtype == np.uint8)


def test_weights_are_int8_behind_one_dequantise(qdq: Written) -> None:
    scheme = scheme_of(qdq)
    assert isinstance(qdq.source, QuantizedVAN)
    for name, role in qdq.source.layers.items():
        node = qdq.layers()[name]
        dequantize = qdq.producer(node.input[1])
        assert dequantize is not None, name
        assert (dequantize.op_type, dequantize.name) == ("DequantizeLinear", f"{name}.weight/dequantize")
        assert dequantize.input[0] == f"{name}.weight"
        weight, scale = qdq.constant(dequantize.input[0]), qdq.constant(dequantize.input[1])
        assert weight is not None, name
        assert scale is not None, name
        assert weight.dtype == np.int8, name
        assert scale.shape == weight.shape[:1], name  # a scale per output channel
        if role in DEPTHWISE or not scheme.pairs:
            assert np.abs(weight.astype(int)).max() == 127, name
        source = qdq.producer(node.input[0])
        while source is not None and source.op_type in ("Reshape", "Transpose", "Squeeze"):
            source = qdq.producer(source.input[0])
        assert source is not None, name
        assert source.op_type == "DequantizeLinear", name


def test_a_dead_channel_is_zero_on_a_grid_of_its_own(qdq: Written) -> None:
    weight, scale = qdq.constant(f"{DEAD}.weight"), qdq.constant(f"{DEAD}.weight_scale")
    assert weight is not None
    assert scale is not None
    assert not weight[3].any()
    assert scale[3] > 0


def test_layers_the_scheme_leaves_out_are_float(exports: dict[str, Written]) -> None:
    written = exports["int8_pointwise"]
    depthwise = {name for name, n in written.layers().items() if re.search(r"conv0|conv_spatial|dwconv", name)}
    assert len(depthwise) == 3 * 4
    assert isinstance(written.source, QuantizedVAN)
    assert set(written.layers()) - set(written.source.layers) == depthwise | {"head"}
    for name in depthwise | {"head"}:
        for tensor in written.layers()[name].input[:2]:
            source = written.producer(tensor)
            assert source is None or source.op_type not in ("QuantizeLinear", "DequantizeLinear"), name
        weight = written.constant(f"{name}.weight")
        assert weight is not None
        assert weight.dtype == np.float32
    assert set(exports["int8"].source.layers.values()) == LAYERS - HEADS  # type: ignore[union-attr]


def test_bytes_tell_nothing_of_the_machine(written: Written) -> None:
    proto = written.proto
    items = (proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.input, *proto.graph.output)
    assert not any(item.doc_string for item in items)
    assert not any(item.metadata_props for item in (*items, *proto.graph.value_info))
    content = written.path.read_bytes()
    for word in (b"site-packages", b"/home/", b"/usr/", b".py", b"Traceback", str(Path.cwd()).encode()):
        assert word not in content, word
    assert str(written.path.parent).encode() not in content


def test_a_second_onnx_export_gives_the_same_bytes(
    exports: dict[str, Written], tmp_path: Path, check_images: Tensor
) -> None:
    first = exports["openvino"]
    second = write(first.source, tmp_path / "again.onnx", check_images)
    assert second.path.read_bytes() == first.path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "said"), [("float", "than the folded network: .* relative"), ("int8", r"than its graph: .* dB SQNR")]
)
def test_a_file_that_computes_something_else_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    exports: dict[str, Written],
    tmp_path: Path,
    check_images: Tensor,
    kind: str,
    said: str,
) -> None:
    wrong = copy.deepcopy(exports[kind].proto)
    bias = next(t for t in wrong.graph.initializer if t.name == "head.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] += 1.0
    bias.CopyFrom(numpy_helper.from_array(values, "head.bias"))
    monkeypatch.setattr(onnx_module, "to_onnx", lambda graph, size, centred: wrong)
    with pytest.raises(VerificationError, match=rf"wrong\.onnx computes other logits {said}"):
        export_onnx(exports[kind].source, tmp_path / "wrong.onnx", check_images)


def test_a_file_that_computes_no_number_is_caught(
    monkeypatch: pytest.MonkeyPatch, exports: dict[str, Written], tmp_path: Path, check_images: Tensor
) -> None:
    monkeypatch.setattr(onnx_module, "to_onnx", lambda graph, size, centred: copy.deepcopy(exports["float"].proto))
    with pytest.raises(VerificationError, match="nan relative"):
        export_onnx(exports["float"].source, tmp_path / "nan.onnx", check_images * float("nan"))


class Sensitive(nn.Module):
    """A graph of whose logits a share hangs on the last bits of what is added, as of many quantisers in a row."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.bias = share, nn.Parameter(torch.ones(64))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1)[:, :64]
        return rows + self.share * torch.sin((rows + self.bias) * 2.0**18)


def test_a_file_may_differ_as_far_as_ties_do(exports: dict[str, Written], images: Images) -> None:
    quantized = next(w.source for w in exports.values() if isinstance(w.source, QuantizedVAN))
    inputs = images(4, *SIZE)
    least = min(onnx_module.QDQ_FLOOR_DB, quantized.logit_sqnr_db + onnx_module.QDQ_MARGIN_DB)
    graphs: dict[float, Any] = {share: Sensitive(share) for share in (0.0, 0.05, 0.2)}
    floors = [onnx_module.qdq_floor_db(replace(quantized, graph=graph), inputs) for graph in graphs.values()]
    assert floors[0] == least  # nothing turns: what quantisation is worth decides
    assert torch.equal(graphs[0.2].bias, torch.ones(64))  # as it was
    ties_db = [floor + onnx_module.QDQ_MARGIN_DB for floor in floors]
    assert ties_db[1] == pytest.approx(20 * np.log10(1 / 0.05), abs=4.0)  # two such noises apart, of a signal of one
    assert floors[2] == pytest.approx(floors[1] - 20 * np.log10(4), abs=2.0)
