"""``edge_van.training.loop``: it learns, comes back from a stop, and two processes train as one."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import NARROW

from edge_van.errors import DataError, UsageError, VerificationError
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.training import loop
from edge_van.training.images import InMemory
from edge_van.training.loop import CurvePoint, Training, run_training, start_accelerator
from edge_van.training.settings import TrainSettings

pytest.importorskip("accelerate")
SPEC = InputSpec(size=(32, 32), crop=1.0)
SETTINGS = TrainSettings(epochs=2, batch=8, size=32, learning_rate=3e-3, drop_path=0.1, first_size=16)
IMAGES = 30


def images() -> InMemory:
    """Three classes, each brighter in a channel of its own."""
    labels = np.arange(IMAGES) % 3
    pixels = np.random.default_rng(0).integers(0, 80, (IMAGES, 32, 32, 3), np.uint8)
    for pixel, label in zip(pixels, labels, strict=True):
        pixel[..., label] += 120
    return InMemory(pixels, labels)


def training(settings: TrainSettings = SETTINGS) -> Training:
    torch.manual_seed(0)
    return Training(
        VAN(NARROW, 3, drop_path_rate=settings.drop_path),
        images(),
        SPEC,
        settings,
        start_accelerator(settings, cpu=True),
    )


def as_floats() -> torch.Tensor:
    return (torch.from_numpy(images().pixels).permute(0, 3, 1, 2).float() / 255.0 - 0.5) / 0.5


def ignore(amount: int) -> None:
    pass


def test_it_learns_and_says_how(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=12, ema=0.9, mixup=0.0, cutmix=0.0, label_smoothing=0.0, first_size=None)
    run = training(settings)

    def right(network: torch.nn.Module) -> tuple[int, int]:
        with torch.no_grad():
            return int((network(as_floats()).argmax(1) == torch.from_numpy(images().labels)).sum()), IMAGES

    trained = run_training(run, state=tmp_path / "s", key="k", advance=ignore, measure=right)
    assert [point.epoch for point in trained.curve] == list(range(1, 13))
    assert trained.curve[-1].step == run.steps == 45
    assert trained.curve[-1].loss < 0.5 * trained.curve[0].loss
    assert trained.curve[-1].top1_percent is not None
    assert trained.curve[-1].top1_percent > 90.0
    assert not trained.van.training
    assert 100.0 * right(trained.van)[0] / IMAGES == trained.curve[-1].top1_percent


def test_an_epoch_that_is_less_than_a_batch_is_none_too_many(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1, batch=64)
    told: list[CurvePoint] = []
    trained = run_training(training(settings), state=tmp_path / "s", key="k", advance=ignore, tell=told.append)
    assert [point.epoch for point in trained.curve] == [1]
    assert told == list(trained.curve)


def test_validation_without_a_whole_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the validation images could be read"):
        run_training(training(), state=tmp_path / "s", key="k", advance=ignore, measure=lambda network: (0, 0))


def test_a_state_that_is_stored_otherwise_goes_on_alike() -> None:
    """As a GPU's is, whose parameters are not channels last: AdamW's fused kernel takes the values as they lie."""
    run, other = training(), training()
    for _ in range(2):
        run.take_step_()
    state = copy.deepcopy(run.state())
    for moments in state["optimizer"]["state"].values():
        for name, value in moments.items():
            moments[name] = value.contiguous() if value.ndim else value
    other.go_on_from_(state)
    for one in (run, other):
        one.take_step_()
    for name, value in run.van.state_dict().items():
        assert torch.equal(value, other.van.state_dict()[name]), name


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """In the first epoch and in the second, while the input grows and blocks are dropped."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    whole = run_training(training(), state=tmp_path / "whole", key="k", advance=ignore)
    done = 0

    def stop(amount: int) -> None:
        nonlocal done
        done += 1
        if done > stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(training(), state=tmp_path / "s", key="k", advance=stop)
    seen: list[int] = []
    rest = run_training(training(), state=tmp_path / "s", key="k", advance=seen.append)
    assert seen[0] == stopped_after * SETTINGS.batch
    assert rest.curve == whole.curve
    for name, value in whole.van.state_dict().items():
        assert torch.equal(value, rest.van.state_dict()[name]), name


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    run = training()
    with torch.no_grad():
        run.van.head.weight.fill_(float("inf"))  # type: ignore[union-attr, operator]
    with pytest.raises(
        VerificationError, match=r"the loss is \w+ at step 0 of 8: give a lower learning rate than 0.003"
    ):
        run_training(run, state=tmp_path / "s", key="k", advance=ignore)
    assert not (tmp_path / "s").exists()


def test_a_gpu_that_is_too_small_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "augment", full)
    with pytest.raises(UsageError, match="too small for 8 images at 32 px: give a smaller batch"):
        run_training(training(), state=tmp_path / "s", key="k", advance=ignore)
