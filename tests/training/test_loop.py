"""``edge_van.training.loop``: it learns, comes back from a stop, and two processes train as one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import NARROW

from edge_van.errors import UsageError, VerificationError
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.training import loop
from edge_van.training.images import InMemory
from edge_van.training.loop import Training, run_training, start_accelerator
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

    def top1(network: torch.nn.Module) -> float:
        with torch.no_grad():
            return 100.0 * float((network(as_floats()).argmax(1) == torch.from_numpy(images().labels)).float().mean())

    trained = run_training(run, state=tmp_path / "s", key="k", advance=ignore, measure=top1)
    assert [point.epoch for point in trained.curve] == list(range(1, 13))
    assert trained.curve[-1].step == run.steps == 45
    assert trained.curve[-1].loss < 0.5 * trained.curve[0].loss
    assert trained.curve[-1].top1_percent is not None
    assert trained.curve[-1].top1_percent > 90.0
    assert not trained.van.training
    assert top1(trained.van) == trained.curve[-1].top1_percent


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


CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
import torch
torch.set_num_threads(1)
from test_loop import SETTINGS, ignore, training
from edge_van.training.loop import run_training
run = training(replace(SETTINGS, epochs=4))
trained = run_training(run, state=Path(sys.argv[2]) / "s", key="k", advance=ignore)
if run.accelerator.is_main_process:
    Path(sys.argv[2], "out.json").write_text(json.dumps([p.loss for p in trained.curve]))
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """By torchrun, on the CPU: the same losses within float noise, with mixtures and dropped blocks."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    paths = json.dumps(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(loop.__file__).parents[2])]
    )
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launch if processes > 1 else []), str(script), paths, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads((folder / "out.json").read_text()))
    # not weight by weight: a bias before a BatchNorm has no gradient but noise, which AdamW makes as large as any
    one, two = found
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-4)
