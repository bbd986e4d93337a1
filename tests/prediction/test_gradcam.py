"""``prediction.gradcam``: against Grad-CAM written out in float64 on the unfolded network; what its maps must be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_samples import MANIFEST
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from narrow import NARROW, normal_images

from edge_van.assets import DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, OPENVINO_ONNX
from edge_van.bundle.writer import BundleWriter
from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.errors import BundleError, MissingRuntimeError, UsageError, VerificationError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.images.decode import decode
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN, stage_sizes
from edge_van.prediction.gradcam import GradCAM, default_stage, grad_cam, similarity
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.runtimes.onnx_file import head_weights
from edge_van.runtimes.stage_map import STAGE_MAP, map_size

IMAGES = 4


@pytest.fixture(scope="module")
def demo() -> LoadedCheckpoint:
    return load_checkpoint(str(asset(DEMO_CHECKPOINT)))


@pytest.fixture(scope="module")
def pixels(demo: LoadedCheckpoint) -> np.ndarray:
    """uint8 (N, 64, 64, 3) of different classes."""
    with open_images(asset(DEMO_VALIDATION)) as images:
        chosen = np.linspace(0, len(images) - 1, IMAGES).astype(int)
        return np.stack([decode(images.read(int(i)), demo.spec) for i in chosen])


@pytest.fixture(scope="module")
def demo_bundle(demo: LoadedCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The FP32 files of the embedded VAN-B0."""
    folded, _ = fold(demo.van, demo.spec.size)
    with BundleWriter(tmp_path_factory.mktemp("gradcam") / "demo") as writer:
        onnx = export_onnx(folded, writer.path(FP32_ONNX), torch.zeros(1, 3, *demo.spec.size))
        export_openvino(onnx, demo.spec, writer.path(FP32_IR))
        return writer.finish(replace(MANIFEST, num_classes=10, input_spec=demo.spec))


def reference(demo: LoadedCheckpoint, pixels: np.ndarray, stage: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM by its definition: float64, the network as it was trained, forward and backward hooks, one image a time.

    (N,) the classes, ``shift`` after the highest, and (N, H, W).
    The image is there twice: for a batch of one, torch 2.13's BatchNorm in eval mode returns a wrong gradient where the
    one it gets is a transposed view, as the LayerNorm's is (finite differences tell).
    """
    van = VAN(demo.van.variant, demo.van.num_classes).double()
    van.load_state_dict(demo.van.state_dict())
    van.eval()
    kept: dict[str, torch.Tensor] = {}
    norm = getattr(van, f"norm{stage}")
    norm.register_forward_hook(lambda _, args, output: kept.update(tokens=output))
    norm.register_full_backward_hook(lambda _, before, after: kept.update(gradient=after[0]))
    classes, found = [], []
    for image in pixels:
        x = (image / 255.0 - np.array(demo.spec.mean)) / np.array(demo.spec.std)
        van.zero_grad()
        logits = van(torch.from_numpy(np.stack([x.transpose(2, 0, 1)] * 2)))[0]
        classes.append((int(logits.argmax()) + shift) % len(logits))
        logits[classes[-1]].backward()
        tokens, gradient = kept["tokens"][0].detach(), kept["gradient"][0]  # (H W, C)
        alpha = gradient.sum(0) / len(gradient)
        heat = torch.relu((tokens * alpha).sum(1)).reshape(map_size(demo.spec.size, stage))
        found.append((heat / heat.max() if heat.max() > 0 else heat).numpy())
    return np.array(classes), np.stack(found)


@pytest.fixture(scope="module", params=[2, 3, 4])
def expected(
    request: pytest.FixtureRequest, demo: LoadedCheckpoint, pixels: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """(stage, classes, maps)."""
    return (request.param, *reference(demo, pixels, request.param))


def opened(runtime: str, bundle: Bundle, stage: int) -> Session:
    if runtime == "openvino":
        return open_model(runtime, bundle.file(FP32_IR), stage_map=stage)
    session = open_model(runtime, bundle.file(FP32_ONNX), stage_map=stage)
    return NormalizedSession(session, bundle.manifest.input_spec)


@pytest.mark.parametrize(("runtime", "tolerance"), [("openvino", 1e-3), ("torch", 2e-5)])
def test_maps_are_grad_cams_by_its_definition(
    expected: tuple[int, np.ndarray, np.ndarray],
    demo_bundle: Bundle,
    pixels: np.ndarray,
    runtime: str,
    tolerance: float,
) -> None:
    stage, classes, maps = expected
    with opened(runtime, demo_bundle, stage) as session:
        outputs = [session.run({"images": image[None]}) for image in pixels]
    assert np.array_equal(np.concatenate([o["logits"] for o in outputs]).argmax(1), classes)
    assert len(set(classes.tolist())) > 2
    found = GradCAM(demo_bundle, stage=stage).heat_maps(np.concatenate([o[STAGE_MAP] for o in outputs]), classes)
    assert found.shape == maps.shape == (IMAGES, *map_size((64, 64), stage))
    assert (maps.max((1, 2)) == 1).any()
    error = np.abs(found - maps).max((1, 2))  # the maps' maximum is 1: relative already
    assert error.max() <= tolerance, error


def test_the_class_matters(demo: LoadedCheckpoint, demo_bundle: Bundle, pixels: np.ndarray) -> None:
    classes, maps = reference(demo, pixels[:2], 4, shift=1)
    with opened("torch", demo_bundle, 4) as session:
        inner = np.concatenate([session.run({"images": image[None]})[STAGE_MAP] for image in pixels[:2]])
    cam = GradCAM(demo_bundle, stage=4)
    assert np.allclose(cam.heat_maps(inner, classes), maps, atol=1e-4)
    assert np.abs(cam.heat_maps(inner, (classes - 1) % 10) - maps).max() > 0.1


def test_default_stage_is_the_last_with_seven_by_seven_positions(demo_bundle: Bundle) -> None:
    assert [default_stage((s, s)) for s in (4, 48, 49, 64, 96, 97, 192, 193, 224)] == [1, 1, 2, 2, 2, 3, 3, 4, 4]
    assert default_stage((224, 64)) == 2
    assert GradCAM(demo_bundle).stage == 2


@given(st.integers(1, 500), st.integers(1, 500))
def test_map_sizes_are_the_networks(height: int, width: int) -> None:
    assert [map_size((height, width), s) for s in (1, 2, 3, 4)] == stage_sizes(height, width)


_FLOATS = st.floats(-100, 100, width=32)


@given(arrays(np.float32, (2, 3, 2, 4), elements=_FLOATS), arrays(np.float32, (2, 3, 2, 4), elements=_FLOATS))
@settings(max_examples=50)
def test_grad_cam_is_equations_1_and_2(maps: np.ndarray, gradients: np.ndarray) -> None:
    found = grad_cam(maps, gradients)
    for n in range(2):
        heat = np.zeros((2, 4))
        for k in range(3):
            heat += gradients[n, k].astype(float).mean() * maps[n, k]
        heat = np.maximum(heat, 0)
        assert np.allclose(found[n] * heat.max(), heat, atol=1e-9 * max(1.0, heat.max()))
    highest = found.max((1, 2))
    assert set(highest.tolist()) <= {0.0, 1.0}
    assert found.min() >= 0.0


def test_correlation_of_two_maps() -> None:
    a = np.random.default_rng(0).random((4, 5))
    assert similarity(a, a) == pytest.approx(1.0)
    assert similarity(a, 3 * a + 1) == pytest.approx(1.0)
    assert similarity(a, -a) == pytest.approx(-1.0)
    b = np.random.default_rng(1).random((4, 5))
    assert similarity(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert similarity(a, np.zeros_like(a)) is None
    assert similarity(np.full_like(a, 0.1), b) is None


def test_head_of_a_quantised_graph_is_its_own(tmp_path: Path) -> None:
    """``graph`` decides whose head stage 4 takes; the INT8 one is on a grid and near the float one."""
    torch.manual_seed(0)
    folded, _ = fold(VAN(NARROW, 7).eval(), (64, 64))
    batch = normal_images(2, 64, 64)
    quantized = convert(calibrate(folded, [batch], replace(SCHEMES["openvino"], pairs=False)))
    with BundleWriter(tmp_path / "bundle") as writer:
        for model, file in ((folded, FP32_ONNX), (quantized, OPENVINO_ONNX)):
            export_onnx(model, writer.path(file), batch)
        bundle = writer.finish(replace(MANIFEST, num_classes=7, input_spec=InputSpec(size=(64, 64))))
    exact, rounded = (head_weights(bundle.file(f)) for f in (FP32_ONNX, OPENVINO_ONNX))
    assert exact.shape == rounded.shape == (7, 24)
    steps = np.abs(exact).max(1, keepdims=True) / 127
    assert np.abs(exact - rounded).max() > 0
    assert (np.abs(exact - rounded) <= 0.51 * steps).all()
    maps, classes = np.ones((2, 24, 2, 2)), np.array([3, 5])
    for file, weights in ((FP32_ONNX, exact), (OPENVINO_ONNX, rounded)):
        gradients = GradCAM(bundle, stage=4, graph=file).gradients(maps, classes)
        assert np.array_equal(gradients[:, :, 0, 0] * 4, weights[classes])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_no_heat_map(timed_bundle: Bundle, bad: float) -> None:
    maps = np.ones((2, 24, 2, 2), np.float32)
    maps[1, 5, 1, 0] = bad
    with pytest.raises(VerificationError, match="map of stage 4 holds values that are not finite: run edge-van doctor"):
        GradCAM(timed_bundle, stage=4).heat_maps(maps, np.array([1, 2]))


def test_the_file_of_the_gradient_is_named(timed_bundle: Bundle) -> None:
    """Before the last stage it is the float32 network's, whatever computed the map."""
    found = [GradCAM(timed_bundle, stage=s, graph=OPENVINO_ONNX).gradient_file for s in (2, 4)]
    assert found == [FP32_ONNX, OPENVINO_ONNX]


def test_what_is_refused(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (0, 5, True):
        with pytest.raises(UsageError, match="stages 1 to 4"):
            GradCAM(timed_bundle, stage=stage)
    with pytest.raises(UsageError, match=r"maps \(N, C, H, W\) and N classes"):
        GradCAM(timed_bundle, stage=4).heat_maps(np.zeros((2, 24, 2, 2)), np.array([1]))
    with pytest.raises(BundleError, match="lists no file"):
        GradCAM(timed_bundle, stage=4, graph="onnx/other.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert GradCAM(timed_bundle, stage=4).heat_maps(np.zeros((1, 24, 2, 2)), np.array([1])).max() == 0
    with pytest.raises(MissingRuntimeError, match=r"stage 2 .* needs torch: .* or take stage 4"):
        GradCAM(timed_bundle)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingRuntimeError, match="needs the package onnx"):
        GradCAM(timed_bundle, stage=4)
