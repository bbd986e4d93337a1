"""``prediction.classifier``: one image in, classes out, the same from eight threads as from one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineChoice
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.errors import BundleError, DataError, UsageError
from edge_van.images.decode import decode
from edge_van.machine import describe_machine
from edge_van.prediction.classifier import Classifier, open_classifier
from edge_van.runtimes import open_model

THREADS = 8


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    paths = [root / f"{i}.png" for i in range(24)]
    for path in paths:
        pixels = generator.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((90, 80)).save(path)
    return paths


def expected(bundle: Bundle, path: Path) -> np.ndarray:
    """By the engine itself."""
    with open_model("openvino", bundle.file(INT8_IR)) as session:
        return session.run({"images": decode(path.read_bytes(), bundle.manifest.input_spec)[None]})["logits"][0]


def test_a_file_its_bytes_and_its_pixels_are_the_same(timed_bundle: Bundle, pictures: list[Path]) -> None:
    with open_classifier(timed_bundle) as classify:
        found = [classify(image) for image in (pictures[0], str(pictures[0]), pictures[0].read_bytes())]
        found.append(classify(decode(pictures[0].read_bytes(), classify.spec)))
    logits = expected(timed_bundle, pictures[0])
    for each in found:
        assert np.array_equal(each.logits, logits)
    best = found[0].top1
    assert (best.index, best.logit) == (int(logits.argmax()), float(logits.max()))
    assert [score.index for score in found[0].top(7)] == np.argsort(-logits, kind="stable").tolist()
    assert sum(score.probability for score in found[0].top(99)) == pytest.approx(1.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_eight_threads_get_what_one_does(timed_bundle: Bundle, pictures: list[Path], workers: int) -> None:
    with open_classifier(timed_bundle) as classify:
        alone = [classify(path).logits for path in pictures]
    together = threading.Barrier(THREADS)

    def one(classify: Classifier, start: int) -> list[tuple[int, np.ndarray]]:
        together.wait()
        order = [(start + i) % len(pictures) for i in range(2 * len(pictures))]
        return [(i, classify(pictures[i]).logits) for i in order]

    with open_classifier(timed_bundle, workers=workers) as classify, ThreadPoolExecutor(THREADS) as pool:
        answers = [a for part in pool.map(one, [classify] * THREADS, range(THREADS)) for a in part]
    assert len(answers) == THREADS * 2 * len(pictures)
    for i, logits in answers:
        # another number of threads may sum in another order
        assert np.allclose(logits, alone[i], atol=1e-5 if workers == 1 else 1e-2)


def test_other_models_of_the_bundle(timed_bundle: Bundle, pictures: list[Path]) -> None:
    with open_classifier(timed_bundle.path, runtime="onnxruntime", precision="fp32", threads=1) as by_onnx:
        found = by_onnx(pictures[1]).logits
    with open_classifier(timed_bundle, precision="fp32") as by_openvino:
        assert np.allclose(found, by_openvino(pictures[1]).logits, atol=1e-3)


def test_what_cannot_be_classified(timed_bundle: Bundle, tmp_path: Path) -> None:
    with open_classifier(timed_bundle) as classify:
        for image, words in (
            (tmp_path / "nowhere.png", "nowhere.png cannot be read"),
            (b"no image", "cannot be used"),
            (np.zeros((3, 64, 64), np.uint8), "takes uint8 (64, 64, 3)"),
            (np.zeros((64, 64, 3), np.float32), "takes uint8 (64, 64, 3)"),
        ):
            with pytest.raises(DataError) as caught:
                classify(image)
            assert words in str(caught.value)
        with pytest.raises(UsageError, match="1 or more"):
            classify(np.zeros((64, 64, 3), np.uint8)).top(0)


def test_a_closed_one_says_so_and_may_be_closed_again(timed_bundle: Bundle, pictures: list[Path]) -> None:
    with open_classifier(timed_bundle, workers=2) as classify:
        classify(pictures[0])
    classify.close()
    for _ in range(3):
        with pytest.raises(UsageError, match="is closed"):
            classify(pictures[0])


def test_what_cannot_be_opened(timed_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="workers is a number"):
        open_classifier(timed_bundle, workers=0)
    with pytest.raises(UsageError, match="one call at a time"):
        open_classifier(timed_bundle, runtime="onnxruntime", workers=2)
    with pytest.raises(BundleError, match="is no bundle"):
        edge_van.open_classifier(tmp_path)
    with pytest.raises(UsageError, match="unknown runtime"):
        open_classifier(timed_bundle, runtime="tflite")
    assert FP32_ONNX in {model.file for model in timed_bundle.models()}


def test_what_was_chosen_on_this_cpu_answers(timed_bundle: Bundle, pictures: list[Path]) -> None:
    """FP32 where it was found to be the best; INT8 on a CPU of another kind, and where it is asked for."""
    here = describe_machine()
    choice = EngineChoice("fp32", 1.0, "as fast", ())
    chosen = replace(timed_bundle, manifest=replace(timed_bundle.manifest, machine=here, cpu=choice))
    with open_model("openvino", timed_bundle.file(FP32_IR)) as session:
        feed = {"images": decode(pictures[0].read_bytes(), chosen.manifest.input_spec)[None]}
        fp32 = session.run(feed)["logits"][0]
    with open_classifier(chosen) as classify:
        assert np.array_equal(classify(pictures[0]).logits, fp32)
    [found] = edge_van.predict(chosen, pictures[0])
    assert found.model == FP32_IR
    with open_classifier(chosen, precision="int8") as classify:
        assert np.array_equal(classify(pictures[0]).logits, expected(timed_bundle, pictures[0]))
    other = replace(chosen, manifest=replace(chosen.manifest, machine=replace(here, flags=("avx1024",))))
    with open_classifier(other) as classify:
        assert np.array_equal(classify(pictures[0]).logits, expected(timed_bundle, pictures[0]))
