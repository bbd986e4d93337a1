"""``edge_van.runtimes``: both engines on tiny real files; what is refused and how it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from packaging.version import Version

from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.runtimes import RUNTIMES, Session, open_model
from edge_van.runtimes.base import Kernel
from edge_van.runtimes.onnxruntime import ROUNDS_FLOAT16_FROM
from edge_van.runtimes.openvino import OpenVINOSession, openvino_core

ENGINES = ("openvino", "onnxruntime")
SIDE = 6


def save_conv(path: Path, batch: int | str, *, qdq: bool = False) -> Path:
    """``logits = mean over the map of a 3x3 convolution``; with ``qdq`` its input goes through an 8-bit grid."""
    weight = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    constants = {"weight": weight}
    nodes, source = [], "images"
    if qdq:
        constants |= {"scale": np.float32(1 / 64), "zero": np.uint8(128)}
        nodes += [
            helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["grid"]),
            helper.make_node("DequantizeLinear", ["grid", "scale", "zero"], ["snapped"]),
        ]
        source = "snapped"
    nodes += [
        helper.make_node("Conv", [source, "weight"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def free_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_conv(tmp_path_factory.mktemp("free") / "free.onnx", "batch")


@pytest.fixture(scope="module")
def one_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_conv(tmp_path_factory.mktemp("fixed") / "fixed.onnx", 1)


def floats(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3, SIDE, SIDE)).astype(np.float32)


def naive(path: Path, images: np.ndarray) -> np.ndarray:
    """The convolution by its definition."""
    weight = numpy_helper.to_array(next(t for t in onnx.load(path).graph.initializer if t.name == "weight"))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight).mean((2, 3))


@pytest.mark.parametrize("runtime", ENGINES)
def test_what_an_opened_model_says_of_itself(runtime: str, free_batch: Path) -> None:
    with open_model(runtime, free_batch) as session:
        assert isinstance(session, Session)
        assert session.runtime == runtime
        (images,), (logits,) = session.inputs, session.outputs
    assert (images.name, images.shape, images.dtype) == ("images", (None, 3, SIDE, SIDE), np.float32)
    assert (logits.name, logits.shape, logits.dtype) == ("logits", (None, 4), np.float32)


@pytest.mark.parametrize("runtime", ENGINES)
@pytest.mark.parametrize("n", [1, 3])
def test_logits_are_the_convolutions(runtime: str, n: int, free_batch: Path) -> None:
    with open_model(runtime, free_batch, threads=1) as session:
        logits = session.run({"images": floats(n)})["logits"]
    assert logits.shape == (n, 4)
    assert np.allclose(logits, naive(free_batch, floats(n)), atol=1e-5)


@pytest.mark.parametrize("runtime", ENGINES)
def test_feeds_that_do_not_fit_are_refused_before_the_engine(runtime: str, one_image: Path) -> None:
    good = floats(1)
    with open_model(runtime, one_image) as session:
        for feed in ({}, {"image": good}, {"images": good, "mask": good}):
            with pytest.raises(UsageError, match=rf"{runtime}: the model takes \['images'\], the feed has \["):
                session.run(feed)
        for array, said in (
            (good.astype(np.float64), "got float64 "),
            (good.astype(np.uint8), "got uint8 "),
            (good[0], rf"got float32 \(3, {SIDE}, {SIDE}\)"),
            (good.transpose(0, 2, 3, 1), rf"got float32 \(1, {SIDE}, {SIDE}, 3\)"),
            (floats(2), rf"got float32 \(2, 3, {SIDE}, {SIDE}\)"),
            (good[:0], rf"got float32 \(0, 3, {SIDE}, {SIDE}\)"),
        ):
            with pytest.raises(UsageError, match=rf"input 'images' takes float32 \(1, 3, {SIDE}, {SIDE}\), {said}"):
                session.run({"images": array})
        assert np.allclose(session.run({"images": good})["logits"], naive(one_image, good), atol=1e-5)


@pytest.mark.parametrize("runtime", ENGINES)
def test_results_are_the_callers_own(runtime: str, one_image: Path) -> None:
    with open_model(runtime, one_image) as session:
        feed = floats(1)
        first = session.run({"images": feed})["logits"]
        kept = first.copy()
        other = session.run({"images": floats(1, seed=1)})["logits"]
        assert np.array_equal(first, kept)  # a later run does not write into an earlier result
        assert not np.array_equal(other, kept)
        first[:] = 7
        assert np.array_equal(feed, floats(1))
        assert np.array_equal(session.run({"images": feed})["logits"], kept)
    assert (first == 7).all()  # nor is it lost with the session


@pytest.mark.parametrize("runtime", ENGINES)
def test_arrays_that_are_views_run_as_their_values(runtime: str, one_image: Path) -> None:
    nhwc = np.ascontiguousarray(floats(1).transpose(0, 2, 3, 1))
    view = nhwc.transpose(0, 3, 1, 2)
    assert not view.flags.c_contiguous
    with open_model(runtime, one_image) as session:
        assert np.allclose(session.run({"images": view})["logits"], naive(one_image, view), atol=1e-5)


def test_batch_option_replaces_the_files_batch(free_batch: Path, one_image: Path) -> None:
    for path in (free_batch, one_image):
        with open_model("openvino", path, batch=2) as session:
            assert session.inputs[0].shape == (2, 3, SIDE, SIDE)
            assert session.outputs[0].shape == (2, 4)
            assert np.allclose(session.run({"images": floats(2)})["logits"], naive(path, floats(2)), atol=1e-5)
            with pytest.raises(UsageError, match="takes float32"):
                session.run({"images": floats(1)})


def test_unknown_runtime_lists_the_known(one_image: Path) -> None:
    with pytest.raises(UsageError, match="unknown runtime 'tflite'; known: openvino, onnxruntime"):
        open_model("tflite", one_image)
    assert set(RUNTIMES) == {*ENGINES, "torch", "tensorrt", "tensorrt_rtx"}  # those have a file of their own


@pytest.mark.parametrize("runtime", ENGINES)
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x08\x0a" + bytes(200), None], ids=["empty", "text", "zeros", "absent"]
)
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_what_is_no_model_is_a_bundle_error(runtime: str, content: bytes | None, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"cannot load model\{suffix}: .") as caught:
        open_model(runtime, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ENGINES)
def test_a_truncated_model_is_a_bundle_error(runtime: str, one_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(one_image.read_bytes()[:-150])
    with pytest.raises(BundleError, match=r"half\.onnx"):
        open_model(runtime, path)


@pytest.mark.parametrize("runtime", ENGINES)
def test_closing_twice_is_harmless(runtime: str, one_image: Path) -> None:
    session = open_model(runtime, one_image)
    with session as entered:
        assert entered is session
        session.run({"images": floats(1)})
        session.close()
    session.close()


@pytest.mark.parametrize("runtime", ENGINES)
def test_an_error_inside_still_closes(runtime: str, one_image: Path) -> None:
    session = open_model(runtime, one_image)
    with pytest.raises(ZeroDivisionError), session:
        _ = 1 / 0
    handle = "_request" if runtime == "openvino" else "_session"
    assert getattr(session, handle) is None


def test_exact_computes_what_a_qdq_graph_says(tmp_path: Path) -> None:
    path = save_conv(tmp_path / "qdq.onnx", "batch", qdq=True)
    images = floats(3)
    snapped = (np.clip(np.round(images * 64) + 128, 0, 255) - 128) / 64
    expected = naive(path, snapped.astype(np.float32))
    with open_model("onnxruntime", path, exact=True) as session:
        exact = session.run({"images": images})["logits"]
    assert np.allclose(exact, expected, atol=1e-6)
    assert not np.allclose(exact, naive(path, images), atol=1e-4)
    with open_model("onnxruntime", path, exact=False, threads=1) as session:
        assert np.allclose(session.run({"images": images})["logits"], expected, atol=2e-2)


@pytest.mark.parametrize("precision", ["f64", "FP32", ""])
def test_openvinos_precision_is_checked(precision: str, one_image: Path) -> None:
    with pytest.raises(UsageError, match=rf"precision of \('f32', 'bf16', 'f16'\), got '{precision}'"):
        open_model("openvino", one_image, precision=precision)


@pytest.mark.parametrize(("precision", "units"), [("bf16", "BF16"), ("f16", "FP16")])
def test_a_shorter_float_is_never_emulated(precision: str, units: str, one_image: Path) -> None:
    if units in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip(f"this CPU has {units} units")
    with pytest.raises(MissingRuntimeError, match=f"no {units} units"):
        open_model("openvino", one_image, precision=precision)


def test_f32_is_set_and_not_left_to_the_plugin(one_image: Path) -> None:
    with OpenVINOSession(one_image, threads=1) as session:
        precision = session._model.get_property("INFERENCE_PRECISION_HINT")
        assert precision.to_dtype() == np.float32
        assert session._model.get_property("INFERENCE_NUM_THREADS") == 1


CTRL_C_AFTER_A_THREAD_CLOSED = """
import signal, sys, threading
from pathlib import Path
from edge_van.runtimes import open_model
signal.signal(signal.SIGINT, signal.default_int_handler)
sessions = [open_model("openvino", Path(sys.argv[1]))]
thread = threading.Thread(target=lambda: sessions.pop().close())
thread.start()
thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_is_heard_after_another_thread_closed_the_last_model(one_image: Path) -> None:
    command = [sys.executable, "-c", CTRL_C_AFTER_A_THREAD_CLOSED, str(one_image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_profile_names_layers_and_kernels(one_image: Path) -> None:
    with OpenVINOSession(one_image, profile=True) as session:
        session.run({"images": floats(1)})
        rows = session.layer_times()
    assert any(kind == "Convolution" and "f32" in kernel.lower() for _, kind, kernel, _ in rows)
    assert all(milliseconds > 0 for *_, milliseconds in rows)


@pytest.mark.parametrize("runtime", ENGINES)
def test_a_profile_is_the_mean_over_its_runs(runtime: str, one_image: Path) -> None:
    with open_model(runtime, one_image, profile=True) as session:
        kernels = session.profile({"images": floats(1)}, warmup=1, runs=4)
    assert any("Conv" in kernel.operator for kernel in kernels)
    assert all(kernel.ms >= 0 for kernel in kernels)
    assert len({kernel[:3] for kernel in kernels}) == len(kernels)


def test_a_slow_first_run_is_not_in_openvinos_profile(one_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's figure is the mean since the model was compiled: of one run of 90 ms and then runs of 1 ms."""
    with OpenVINOSession(one_image, profile=True) as session:

        def since_compiled() -> list[Kernel]:
            runs = session._runs
            return [Kernel("conv", "Convolution", "jit", (90.0 + runs - 1) / runs)]

        monkeypatch.setattr(session, "layer_times", since_compiled)
        [kernel] = session.profile({"images": floats(1)}, warmup=2, runs=8)
    assert kernel.ms == pytest.approx(1.0)


def test_importing_the_runtimes_loads_no_engine() -> None:
    code = (
        "import sys, edge_van.runtimes, edge_van.runtimes.base, edge_van.runtimes.openvino, "
        "edge_van.runtimes.onnxruntime; print(*sorted(set(sys.modules) & {'torch', 'openvino', 'onnxruntime', 'onnx'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize(("runtime", "product"), [("openvino", "OpenVINO"), ("onnxruntime", "ONNX Runtime")])
def test_a_missing_engine_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, runtime: str, product: str, one_image: Path
) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)  # what an import of a package that is not installed meets
    with pytest.raises(MissingRuntimeError, match=rf"{product} is not installed: pip install 'edge-van\[{runtime}\]'"):
        open_model(runtime, one_image)


@pytest.mark.parametrize("runtime", ENGINES)
def test_an_array_is_read_when_it_is_run(runtime: str, one_image: Path) -> None:
    """The same array changed in place, one that is not contiguous, one that is read-only: no input is a stale one."""
    generator = np.random.default_rng(4)
    first, second = generator.normal(size=(2, 1, 3, SIDE, SIDE)).astype(np.float32)
    turned = np.ascontiguousarray(second.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    locked = first.copy()
    locked.flags.writeable = False
    with open_model(runtime, one_image) as session:
        wanted = [session.run({"images": a.copy()})["logits"] for a in (first, second)]
        array = first.copy()
        found = [session.run({"images": array})["logits"]]
        array[:] = second
        found.append(session.run({"images": array})["logits"])
        turned[:] = first
        found.append(session.run({"images": turned})["logits"])
        turned[:] = second
        found += [session.run({"images": a})["logits"] for a in (turned, locked, array)]
    assert not np.array_equal(*wanted)
    for got, expected in zip(found, (0, 1, 0, 1, 0, 1), strict=True):
        assert np.array_equal(got, wanted[expected])


def test_a_version_that_truncates_float16_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    nodes = [
        helper.make_node("Cast", ["images"], ["images_float16"], to=TensorProto.FLOAT16),
        helper.make_node("QuantizeLinear", ["images_float16", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Cast", ["d"], ["logits"], to=TensorProto.FLOAT),
    ]
    constants = [
        numpy_helper.from_array(np.float16(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("images", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    path = tmp_path / "model_int8.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    values = np.array([[0.04, 0.06, 0.16, -0.06]], np.float32)  # 0, 1, 2, -1 steps; truncated 0, 0, 1, 0
    if Version(onnxruntime.__version__) >= ROUNDS_FLOAT16_FROM:
        with open_model("onnxruntime", path) as session:
            np.testing.assert_allclose(session.run({"images": values})["logits"], [[0, 0.1, 0.2, -0.1]], atol=1e-3)
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.0")
    with pytest.raises(MissingRuntimeError, match=r"ONNX Runtime 1\.29\.0 truncates where model_int8\.onnx rounds"):
        open_model("onnxruntime", path)
