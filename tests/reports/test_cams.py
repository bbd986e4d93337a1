"""``edge_van.reports.cams`` on real engines: the correlations are those of the two models' own maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.images.decode import decode
from edge_van.images.sets import open_images
from edge_van.prediction import gradcam
from edge_van.prediction.gradcam import GradCAM, similarity
from edge_van.progress import SILENT
from edge_van.reports import cams
from edge_van.reports.cams import MOST_PAIRS, cams_of
from edge_van.runtimes import open_model
from edge_van.runtimes.stage_map import STAGE_MAP

NAMES = tuple(f"class {i}" for i in range(7))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images and a broken one."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(9):
        pixels = generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def reference(bundle: Bundle, folder: Path, stage: int) -> dict[str, tuple[int, int, float | None]]:
    """By an image's name: the classes of FP32 and INT8, the correlation of the maps of the former."""
    graphs = (FP32_ONNX, OPENVINO_ONNX)
    cam = [GradCAM(bundle, stage=stage, graph=graph) for graph in graphs]
    found = {}
    with (
        open_model("openvino", bundle.file(FP32_IR), stage_map=stage) as fp32,
        open_model("openvino", bundle.file(INT8_IR), stage_map=stage) as int8,
    ):
        for path in sorted(folder.glob("[0-9].png")):
            feed = {"images": decode(path.read_bytes(), bundle.manifest.input_spec)[None]}
            first, second = fp32.run(feed), int8.run(feed)
            classes = first["logits"].argmax(1)
            maps = [c.heat_maps(r[STAGE_MAP], classes)[0] for c, r in zip(cam, (first, second), strict=True)]
            found[path.name] = int(classes[0]), int(second["logits"].argmax()), similarity(*maps)
    return found


@pytest.mark.parametrize("stage", [2, 4])
def test_correlations_are_those_of_the_models(
    timed_bundle: Bundle, pictures: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    if stage == 4:  # as at 224 px
        monkeypatch.setattr(gradcam, "MIN_SIDE", 2)
    made: list[str] = []

    class Counted(GradCAM):
        def __init__(self, bundle: Bundle, *, stage: int | None = None, graph: str = FP32_ONNX) -> None:
            super().__init__(bundle, stage=stage, graph=graph)
            made.append(self.gradient_file)

    monkeypatch.setattr(cams, "GradCAM", Counted)
    with open_images(pictures, labelled=False) as images:
        found = cams_of(timed_bundle, images, [7], NAMES, SILENT, limit=100)
    expected = reference(timed_bundle, pictures, stage)
    known = [c for _, _, c in expected.values() if c is not None]
    assert made == ([FP32_ONNX] if stage == 2 else [FP32_ONNX, OPENVINO_ONNX])  # each file is read once
    assert (found.stage, found.images, found.constant_maps) == (stage, 9, 9 - len(known))
    assert list(found.correlations) == pytest.approx(known, abs=1e-6)
    assert len(known) > 3
    assert any(c < 1.0 for c in known)  # it is INT8, not FP32 again
    assert found.median == pytest.approx(np.median(known))
    assert found.p5 == pytest.approx(np.percentile(known, 5))
    assert found.lowest == pytest.approx(min(known))
    assert found.median > 0.8
    assert found.pairs[0].image == "7.png"
    assert len(found.pairs) == MOST_PAIRS - 1  # the last of those spread over all is the broken one
    for pair in found.pairs:
        by_fp32, by_int8, correlation = expected[pair.image]
        assert (pair.class_name, pair.int8_class_name) == (NAMES[by_fp32], NAMES[by_int8])
        assert pair.correlation == (None if correlation is None else pytest.approx(correlation, abs=1e-6))


def test_fewer_images_are_spread_over_all(timed_bundle: Bundle, pictures: Path) -> None:
    with open_images(pictures, labelled=False) as images:
        found = cams_of(timed_bundle, images, [], NAMES, SILENT, limit=3)
    assert found.images == 2  # the third is the broken one


def test_images_that_cannot_be_read_leave_no_figure(timed_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with open_images(tmp_path, labelled=False) as images:
        found = cams_of(timed_bundle, images, [0], NAMES, SILENT, limit=3)
    assert (found.images, found.pairs, found.correlations, found.median, found.p5) == (0, (), (), None, None)
