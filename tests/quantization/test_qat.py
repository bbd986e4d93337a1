"""``edge_van.quantization.qat``: what is trained leaves as it was trained; kills and failures."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import NARROW, spread_norms_

from edge_van.bundle.recipe import QATSettings
from edge_van.errors import CheckpointError, UsageError, VerificationError
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import check_openvino, export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.quantization import qat
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import Calibrated, calibrate, convert
from edge_van.quantization.qat import Resume, quantization_aware
from edge_van.quantization.run import QATJob
from edge_van.quantization.scheme import LAYERS, SCHEMES
from edge_van.statistics import sqnr_db

SPEC = InputSpec(size=(32, 32))
SHORT = QATSettings(images=24, steps=50, batch=12, learning_rate=3e-4)
FEW = replace(SHORT, steps=3, learning_rate=1e-5)


@pytest.fixture(scope="module")
def images() -> CalibrationImages:
    return CalibrationImages(np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8), SPEC, 12)


@pytest.fixture(scope="module")
def teacher() -> FoldedVAN:
    torch.manual_seed(0)
    return fold(spread_norms_(VAN(NARROW, 7), 1).eval(), SPEC.size)[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calibrated(teacher: FoldedVAN, images: CalibrationImages) -> dict[str, Calibrated]:
    schemes = {"openvino": SCHEMES["openvino"], "int8": replace(SCHEMES["int8"], roles=LAYERS)}
    return {name: calibrate(teacher, images, scheme) for name, scheme in schemes.items()}


@pytest.mark.parametrize("name", ["openvino", "int8"])
def test_it_is_nearer_to_the_float_network(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages, name: str
) -> None:
    before = convert(calibrated[name])
    trained = quantization_aware(calibrated[name], teacher, images, SHORT)
    after = convert(trained)
    assert after.logit_sqnr_db > before.logit_sqnr_db + 0.3
    assert after.layers == before.layers
    # the graph that was trained and the one that leaves are the same function
    with torch.no_grad():
        assert sqnr_db(trained.observed(images[0]).numpy(), after.graph(images[0]).numpy()) > 100.0


def test_nothing_given_is_changed(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages
) -> None:
    given = calibrated["int8"]
    before = [copy.deepcopy(m.state_dict()) for m in (given.observed, teacher)]
    trained = quantization_aware(given, teacher, images, FEW)
    for module, state in zip((given.observed, teacher), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert not any(p.requires_grad for p in trained.observed.parameters())
    weights = dict(trained.model.named_parameters())
    assert not torch.equal(weights["head.weight"], teacher.head.weight)
    assert torch.equal(weights["head.weight"], trained.observed.get_parameter("head.weight"))


@pytest.mark.parametrize("bits", [7, 4])
def test_it_leaves_by_the_same_exports(images: CalibrationImages, tmp_path: Path, bits: int) -> None:
    """As initialised: with norms spread wide the rounding of one kernel drowns in that of all."""
    torch.manual_seed(0)
    calm = fold(VAN(NARROW, 7).eval(), SPEC.size)[0]
    scheme = replace(SCHEMES["openvino"], weight_bits=bits)
    trained = quantization_aware(calibrate(calm, images, scheme), calm, images, replace(FEW, steps=10))
    assert not torch.equal(trained.model.head.weight, calm.head.weight)
    quantized = convert(trained)
    onnx = export_onnx(quantized, tmp_path / "q.onnx", images[0])  # compares with the graph
    ir = export_openvino(onnx, SPEC, tmp_path / "q.xml")
    expected = quantized.graph(images.normalized(images.pixels[:4])).numpy()
    check_openvino(ir, images.pixels[:4], expected, floor_db=quantized.logit_sqnr_db)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages
) -> None:
    short = replace(FEW, steps=4)
    first, again, other = (
        quantization_aware(calibrated["int8"], teacher, images, short, seed=seed).model.head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


WHOLE = replace(FEW, steps=10, frozen_share=0.3)


@pytest.fixture(scope="module")
def never_stopped(calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages) -> Calibrated:
    return quantization_aware(calibrated["int8"], teacher, images, WHOLE)


@pytest.mark.parametrize("stopped_after", [1, 7, 9, 10])
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    never_stopped: Calibrated,
    calibrated: dict[str, Calibrated],
    teacher: FoldedVAN,
    images: CalibrationImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_after: int,
) -> None:
    """Before, at and after the step from which the scales are frozen, and when it was done."""
    monkeypatch.setattr(qat, "SAVE_EVERY_STEPS", 1)
    resume = Resume(tmp_path / "state.pt", "a key")
    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done > stopped_after * WHOLE.batch:
            raise KeyboardInterrupt

    if stopped_after < WHOLE.steps:
        with pytest.raises(KeyboardInterrupt):
            quantization_aware(calibrated["int8"], teacher, images, WHOLE, resume=resume, progress=stop)
    else:  # done; what came after it was stopped
        quantization_aware(calibrated["int8"], teacher, images, WHOLE, resume=resume)
    seen: list[int] = []
    rest = quantization_aware(calibrated["int8"], teacher, images, WHOLE, resume=resume, progress=seen.append)
    assert seen[0] == stopped_after * WHOLE.batch
    assert sum(seen) == WHOLE.steps * WHOLE.batch
    for name, value in never_stopped.observed.state_dict().items():
        assert torch.equal(value, rest.observed.state_dict()[name]), name


def test_a_state_of_another_training_is_not_gone_on_from(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages, tmp_path: Path
) -> None:
    short, path = replace(FEW, steps=2), tmp_path / "state.pt"
    quantization_aware(calibrated["int8"], teacher, images, short, resume=Resume(path, "one"))
    with pytest.raises(UsageError, match="the state of a training with other images, settings or versions"):
        quantization_aware(calibrated["int8"], teacher, images, short, resume=Resume(path, "two"))
    path.write_bytes(b"no state")
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        quantization_aware(calibrated["int8"], teacher, images, short, resume=Resume(path, "one"))


def test_one_image_is_enough(calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages) -> None:
    quantization_aware(calibrated["int8"], teacher, images.first(1), FEW)


def test_a_rate_that_is_too_high_is_said(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages
) -> None:
    with pytest.raises(VerificationError, match=r"lower learning_rate than 1"):
        quantization_aware(calibrated["int8"], teacher, images, replace(SHORT, learning_rate=1.0))


def test_a_loss_that_is_no_number_is_said(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qat, "_distance", lambda *a: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(VerificationError, match=r"the training's loss is nan at step 0 of 50"):
        quantization_aware(calibrated["int8"], teacher, images, SHORT)


def test_a_gpu_that_is_too_small_is_said(
    calibrated: dict[str, Calibrated], teacher: FoldedVAN, images: CalibrationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(qat, "_distance", full)
    with pytest.raises(UsageError, match=r"too small to train with 12 images a step: .* a smaller batch"):
        quantization_aware(calibrated["int8"], teacher, images, SHORT)


@pytest.mark.parametrize("batch", [1, 7, 24, 50])
def test_every_image_is_drawn_as_often_as_every_other(batch: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(24, 1, 1, 1).repeat(3, 3)
    images = CalibrationImages(pixels, InputSpec(size=(1, 1), mean=(0.0,) * 3, std=(1.0,) * 3), 1)
    drawn = torch.cat([qat._draw(images, batch, step, 0)[:, 0, 0, 0] for step in range(24)])
    counts = np.bincount((255 * drawn).round().int().numpy(), minlength=24)
    assert set(counts) == {batch}


def test_what_a_training_is_known_by_is_the_same_in_every_process() -> None:
    """Sets of strings, such as a scheme's roles, have another order under each hash seed."""
    code = (
        "from edge_van.quantization.run import QATJob; from edge_van.quantization.scheme import SCHEMES; "
        "from pathlib import Path; "
        "print([QATJob(None, None, states=Path('s')).resume(s).key for s in SCHEMES.values()])"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = QATJob(None, None, states=Path("s"))  # type: ignore[arg-type]
    assert other.stdout == f"{[here.resume(s).key for s in SCHEMES.values()]}\n"  # type: ignore[union-attr]
