"""``quantization.ptq``: the quantised graph is close to float, complete, repeatable and leaves its input alone."""

import copy
import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from captured_once import capture_once
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edge_van.errors import UsageError, VerificationError
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization.activations import with_activation
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import (
    QuantizedVAN,
    calibrate,
    capture,
    convert,
    post_training_quantize,
    quiet_capture,
)
from edge_van.quantization.quantizer import VANQuantizer
from edge_van.quantization.scheme import HEADS, LAYERS, SCHEMES, Role

Images = Callable[..., Tensor]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def batches(images: Images) -> list[Tensor]:
    return [images(n, *SIZE, seed=n) for n in (8, 5)]


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, SIZE)[0]


@pytest.fixture(scope="module")
def quantized(folded: FoldedVAN, batches: list[Tensor]) -> QuantizedVAN:
    return post_training_quantize(folded, batches, SCHEMES["int8"])


@torch.no_grad()
def sqnr_db(graph: Callable[[Tensor], Tensor], model: FoldedVAN, x: Tensor) -> float:
    expected = model(x)
    return float(10 * torch.log10(expected.square().mean() / (graph(x) - expected).square().mean()))


def layer_names(model: FoldedVAN) -> set[str]:
    return {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("name", SCHEMES)
def test_close_to_float(folded: FoldedVAN, batches: list[Tensor], images: Images, name: str):
    result = post_training_quantize(folded, batches, SCHEMES[name])
    sqnr = sqnr_db(result.graph, folded, images(8, *SIZE, seed=99))
    assert 15 < sqnr < 60  # 21 to 23 on these made-up weights; infinite would mean that nothing was quantised


def test_every_layer_is_quantised_by_its_official_name(folded: FoldedVAN, quantized: QuantizedVAN):
    assert set(quantized.layers) == layer_names(folded) - {"head"}
    assert quantized.layers["block1.0.attn.spatial_gating_unit.conv0"] is Role.LKA_LOCAL
    assert set(quantized.layers.values()) == LAYERS - HEADS
    assert (quantized.scheme, quantized.input_size) == (SCHEMES["int8"], SIZE)


def test_weights_are_stored_as_int8_behind_one_dequantise(quantized: QuantizedVAN):
    for node in quantized.graph.graph.nodes:
        if node.op == "call_function" and "dequantize_per_channel" in str(node.target):
            assert isinstance(node.args[0], Node)
            assert node.args[0].op == "get_attr"
    read = {n.target for n in quantized.graph.graph.nodes if n.op == "get_attr"}
    tensors = dict([*quantized.graph.named_parameters(), *quantized.graph.named_buffers()])
    floats = {name for name in read & set(tensors) if tensors[name].is_floating_point()}
    # in float there are biases, scales, the LayerNorms, the residual's factors and the head, and no other matrix
    assert {name for name in floats if tensors[name].numel() > max(tensors[name].shape)} == {"head.weight"}
    assert any(name.endswith("residual_scale") for name in floats)


def test_deterministic(folded: FoldedVAN, quantized: QuantizedVAN, batches: list[Tensor], images: Images):
    again = post_training_quantize(folded, batches, SCHEMES["int8"])
    x = images(4, *SIZE, seed=5)
    with torch.no_grad():
        assert torch.equal(again.graph(x), quantized.graph(x))
    assert str(again.graph.code) == str(quantized.graph.code)
    assert list(again.layers) == list(quantized.layers)


def test_any_batch_size(quantized: QuantizedVAN, folded: FoldedVAN, images: Images):
    x = images(7, *SIZE, seed=4)
    captured = capture(folded)
    with torch.no_grad():
        whole = quantized.graph(x)
        for n in (1, 3):
            assert torch.allclose(quantized.graph(x[:n]), whole[:n], atol=1e-5)
            assert torch.allclose(captured(x[:n]), folded(x[:n]), atol=1e-5)


@pytest.mark.parametrize("changed", ["as folded", "hardswish", "equalised"])
def test_a_copied_capture_is_a_capture(folded: FoldedVAN, batches: list[Tensor], changed: str):
    """What most tests get (``captured_once``): of a structure that another network had, with other weights."""
    if changed == "hardswish":
        folded = with_activation(folded, "hardswish")
    elif changed == "equalised":
        folded = equalize(folded, batches)
    torch.manual_seed(5)
    other = copy.deepcopy(folded)
    for tensor in other.state_dict().values():
        tensor.normal_()
    capture_once(other)
    real, copied = capture(folded), capture_once(folded)
    assert str(copied.code) == str(real.code)
    assert str(copied.graph) == str(real.graph)
    for name, tensor in real.state_dict().items():
        assert tensor.data_ptr() == copied.state_dict()[name].data_ptr(), name
    flags = [{n: p.requires_grad for n, p in graph.named_parameters()} for graph in (real, copied)]
    assert flags[0] == flags[1]
    with torch.no_grad():
        assert torch.equal(copied(batches[0]), real(batches[0]))


def test_the_model_given_is_untouched(narrow_van: VAN, batches: list[Tensor]):
    model, _ = fold(narrow_van, SIZE)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        logits = model(batches[0])
        post_training_quantize(model, batches, SCHEMES["openvino"])
        assert torch.equal(model(batches[0]), logits)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(t.dtype == torch.float32 for t in model.state_dict().values())


def test_progress_counts_images(folded: FoldedVAN, batches: list[Tensor]):
    done: list[int] = []
    post_training_quantize(folded, batches, SCHEMES["int8_pointwise"], progress=done.append)
    assert done == [8, 5]


def test_no_images_are_refused(folded: FoldedVAN):
    with pytest.raises(UsageError, match="calibration images, got none"):
        post_training_quantize(folded, [], SCHEMES["int8"])


def test_a_layer_left_in_float_is_caught(monkeypatch: pytest.MonkeyPatch, folded: FoldedVAN, batches: list[Tensor]):
    annotate = VANQuantizer.annotate

    def forgetful(self: VANQuantizer, model: GraphModule) -> GraphModule:
        annotate(self, model)
        node = [n for n in model.graph.nodes if n.target is torch.ops.aten.conv2d.default][3]
        del node.meta["quantization_annotation"]
        return model

    monkeypatch.setattr(VANQuantizer, "annotate", forgetful)
    with pytest.raises(VerificationError, match="1 layers that were left in float"):
        post_training_quantize(folded, batches, SCHEMES["int8"])


@pytest.mark.parametrize("kernel_size", [24, 14])
def test_an_even_dilated_kernel_is_quantised_too(narrow_van: VAN, batches: list[Tensor], kernel_size: int):
    model, _ = fold(VAN(narrow_van.variant, 5, kernel_size=kernel_size), SIZE)
    result = post_training_quantize(model, batches[:1], SCHEMES["int8"])
    assert set(result.layers) == layer_names(model) - {"head"}


def test_equalising_first_saves_a_badly_scaled_van(folded: FoldedVAN, batches: list[Tensor], images: Images):
    model = copy.deepcopy(folded)
    for blocks in (model.block1, model.block2, model.block3):
        for block in blocks:  # the same function, with a few channels 300 times the others
            factor = torch.ones(block.mlp.fc1.out_channels)
            factor[::7] = 300.0
            block.mlp.fc1.weight.mul_(factor.view(-1, 1, 1, 1))
            block.mlp.fc1.bias.mul_(factor)
            block.mlp.dwconv.dwconv.weight.div_(factor.view(-1, 1, 1, 1))
    x = images(8, *SIZE, seed=99)
    scheme = SCHEMES["int8"]
    bad = post_training_quantize(model, batches, scheme)
    good = post_training_quantize(equalize(model, batches), batches, scheme)
    assert set(good.layers) == layer_names(model) - {"head"}
    assert sqnr_db(good.graph, model, x) > sqnr_db(bad.graph, model, x) + 9


def test_a_scheme_of_ones_own(folded: FoldedVAN, batches: list[Tensor]):
    scheme = replace(SCHEMES["int8"], name="head", roles=frozenset({Role.HEAD}))
    assert post_training_quantize(folded, batches[:1], scheme).layers == {"head": Role.HEAD}


def test_loggers_come_back_as_they_were():
    logger = logging.getLogger("torch.export")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with quiet_capture():
            assert logger.level == logging.ERROR
        assert logger.level == logging.DEBUG
        with pytest.raises(ZeroDivisionError), quiet_capture():
            _ = 1 / 0
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


def test_nothing_keeps_a_graph_that_is_done_with(folded: FoldedVAN, batches: list[Tensor]) -> None:
    """torch and torchao remember graphs by their device; each is gone once nobody here has it."""
    calibrated = calibrate(folded, batches, SCHEMES["int8"])
    quantized = convert(calibrated)
    graphs = [weakref.ref(calibrated.observed), weakref.ref(quantized.graph)]
    weights = next(calibrated.observed.parameters()).data_ptr()
    assert weights in {parameter.data_ptr() for parameter in folded.parameters()}, "its weights are the network's own"
    del calibrated, quantized
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
