"""``runtimes.torch`` and ``runtimes.torch_network``: the network back from its file; what is no such file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.export.onnx import export_onnx
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.quantization.equalize import equalize
from edge_van.runtimes import open_model
from edge_van.runtimes.torch import with_own_code
from edge_van.runtimes.torch_network import read_folded


@pytest.fixture(scope="module")
def written(
    narrow_van: VAN, images: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[FoldedVAN, Path]:
    """A folded VAN with every kind of scale: equalised, one block's shortcut left a multiplication; and its file."""
    folded, _ = fold(narrow_van, (48, 80))
    equalized = equalize(folded, [images(2, 48, 80)])
    path = tmp_path_factory.mktemp("written") / "model.onnx"
    return equalized, export_onnx(equalized, path, images(2, 48, 80))


def test_every_tensor_comes_back_as_it_was(written: tuple[FoldedVAN, Path], narrow_variant: Variant) -> None:
    model, path = written
    read = read_folded(path)
    expected, found = model.state_dict(), read.state_dict()
    assert found.keys() == expected.keys()
    assert any(name.endswith("residual_scale") for name in found)
    assert any(name.endswith("output_scale") for name in found)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (read.input_size, read.num_classes, read.training) == ((48, 80), 7, False)
    assert read.variant.embed_dims == narrow_variant.embed_dims
    assert read.variant.depths == narrow_variant.depths
    assert read.variant.mlp_ratios == narrow_variant.mlp_ratios
    assert not any(p.requires_grad for p in read.parameters())


@pytest.mark.parametrize("n", [1, 3])
def test_logits_are_onnx_runtimes(written: tuple[FoldedVAN, Path], n: int) -> None:
    feed = {"images": np.random.default_rng(n).normal(size=(n, 3, 48, 80)).astype(np.float32)}
    with open_model("onnxruntime", written[1]) as exact, open_model("torch", written[1], threads=1) as session:
        expected, found = exact.run(feed)["logits"], session.run(feed)["logits"]
        assert (session.inputs, session.outputs) == (exact.inputs, exact.outputs)
        again = session.run(feed)["logits"]
        with pytest.raises(UsageError, match="takes float32"):
            session.run({"images": feed["images"].astype(np.float64)})
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    found[:] = 0
    assert np.abs(again - expected).max() <= 1e-5 * np.abs(expected).max()  # each result is the caller's own


def test_threads_are_the_sessions_alone(written: tuple[FoldedVAN, Path]) -> None:
    before = torch.get_num_threads()
    with open_model("torch", written[1], threads=before + 1) as session:
        seen: list[int] = []
        session._forward = lambda images: (seen.append(torch.get_num_threads()), (torch.zeros(1, 7),))[1]  # type: ignore[attr-defined]
        session.run({"images": np.zeros((1, 3, 48, 80), np.float32)})
        assert session.threads == before + 1
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError, match="1 or more threads, got 0"):
        open_model("torch", written[1], threads=0)


def test_every_session_is_compiled_however_many_there_are() -> None:
    compiled: list[int] = []

    def backend(graph: Any, example: Any) -> Any:
        compiled.append(1)
        return graph.forward

    def function(depth: int) -> Any:
        layers = [torch.nn.Conv2d(3, 3, 1) for _ in range(depth)]

        def forward(x: Tensor) -> Tensor:
            for layer in layers:
                x = layer(x)
            return x

        return torch.compile(with_own_code(forward), backend=backend)

    torch._dynamo.reset()
    limit = torch._dynamo.config.recompile_limit
    with torch.inference_mode():
        for depth in range(1, limit + 3):
            function(depth)(torch.zeros(1, 3, 4, 4))
    assert len(compiled) == limit + 2


def compiled_net(path: Path) -> Path:
    """Stages alike, so that the compiler writes few kernels."""
    torch.manual_seed(0)
    van = VAN(Variant("even", (8, 8, 8, 8), (1, 1, 1, 1), 0.0, 0.0, None, (2, 2, 2, 2)), 3).eval()
    return export_onnx(fold(van, (16, 16))[0], path, torch.zeros(2, 3, 16, 16))


def test_compiled_logits_are_the_eager_ones(tmp_path: Path) -> None:
    """inductor's own cache is left in use: a first run compiles for half a minute, a later one for seconds."""
    path = compiled_net(tmp_path / "model.onnx")
    feed = {"images": np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)}
    with open_model("torch", path) as eager:
        expected = eager.run(feed)["logits"]
    import torch._inductor.config as inductor

    with inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-compiler"))}):
        torch._dynamo.reset()
        with pytest.raises(MissingRuntimeError, match=r"torch.compile failed here .*apt install g\+\+") as caught:
            open_model("torch", path, compile=True)
        assert "\n" not in str(caught.value)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with open_model("torch", path, compile=True) as session:
        found = session.run(feed)["logits"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1  # it was compiled, not run eagerly instead
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def edited(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    target.write_bytes(model.SerializeToString())
    return target


def _node(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name)


def _hardswish(graph: Any) -> None:
    for node in graph.node:
        if node.op_type == "Gelu":
            node.op_type = "HardSwish"
            del node.attribute[:]


def _tanh(graph: Any) -> None:
    [approximate] = next(node for node in graph.node if node.op_type == "Gelu").attribute
    approximate.s = b"tanh"


def _spare(graph: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "spare"))


def _stride(graph: Any) -> None:
    next(a for a in _node(graph, "patch_embed2.proj").attribute if a.name == "strides").ints[:] = [1, 1]


def _rename(graph: Any) -> None:
    _node(graph, "block2.1.attn.proj_2").name = "block2.1.attn.proj_3"


def _swap(graph: Any) -> None:
    first, second = (_node(graph, f"block2.{j}.mlp.fc2") for j in (0, 1))
    first.name, second.name = second.name, first.name


def _less(graph: Any) -> None:
    tensor = next(t for t in graph.initializer if t.name == "head.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :-1].copy(), "head.weight"))


def _extra(graph: Any) -> None:
    tensor = _node(graph, "head").output[0]
    _node(graph, "head").output[0] = "before"
    graph.node.append(onnx.helper.make_node("Add", ["before", "before"], [tensor]))


def _double(graph: Any) -> None:
    name = _node(graph, "block1.0.attn.proj_1").input[1]
    tensor = next(t for t in graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_hardswish, r"operators HardSwish \(another activation than GELU\)"),
        (_tanh, "its GELU is an approximation"),
        (_spare, "1 tensors that nothing reads, the first is spare"),
        (_stride, r"patch_embed2\.proj is another convolution"),
        (_rename, r"does not fit a VAN at 'block2\.1\.attn\.proj_2'"),
        (_swap, "stands at another place"),
        (_less, "head has a weight of"),
        (_extra, "operators, a VAN of its layers"),
        (_double, "DOUBLE, not FLOAT"),
    ],
)
def test_files_of_another_network_are_refused(
    written: tuple[FoldedVAN, Path], tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    path = edited(written[1], tmp_path / "other.onnx", change)
    with pytest.raises(BundleError, match=said) as caught:
        open_model("torch", path)
    assert "other.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_quantised_and_broken_files_are_refused(graphs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"quantised graph, PyTorch runs the float32 one: give onnx/model\.onnx"):
        open_model("torch", graphs["int8"])
    for content, said in ((b"", "no ONNX graph"), (b"garbage", "cannot be read as ONNX"), (None, "cannot be read")):
        path = tmp_path / "broken.onnx"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BundleError, match=said):
            open_model("torch", path)


def test_what_is_not_installed_is_named(graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        with pytest.raises(MissingRuntimeError, match="needs the package onnx"):
            open_model("torch", graphs["fp32"])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingRuntimeError, match=r"PyTorch is not installed: pip install 'edge-van\[quantize\]'"):
        open_model("torch", graphs["fp32"])
